"""The workload of `tests.bench.surge` asks for as many replicas as its metric says, however many pods there are.

Two runs ended without a figure, for within its tolerance a HorizontalPodAutoscaler asks for as many replicas as there
are: in one 33 pods were on their way, in the other the 25 of a node that was consolidated. Of the second that is what
this arithmetic says; nobody saw it happen.
"""

from __future__ import annotations

import pytest

from services.autoscaler.decision.asked import terms_of
from services.autoscaler.decision.horizontal.evaluation import evaluate
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import Seen, Values
from services.autoscaler.decision.horizontal.terms import Defaults
from shared.events.v1.scaling import Scaling
from shared.events.v1.workloads import ApplyWorkload
from tests.bench.surge import surging

MOST = 1000


def asked(scaling: Scaling, there: int, metric: int, now: int) -> int | None:
    """By a look at so many pods, of as many replicas as were asked for."""
    seen = Seen(now, there, readings=(Values((1000 * metric,)),))
    return evaluate(terms_of(scaling), Defaults(), seen, Memory(), 3_600_000).replicas


def scaling_of_the_benchmark() -> Scaling:
    request = surging(MOST).root
    assert isinstance(request, ApplyWorkload)
    assert request.workload.scaling is not None
    return request.workload.scaling


@pytest.mark.parametrize("there", [0, 1, MOST - 33, MOST - 25, MOST - 1, MOST, MOST + 25])
def test_pods_that_are_on_their_way_change_nothing(there: int) -> None:
    scaling = scaling_of_the_benchmark()
    assert asked(scaling, there, MOST, MOST) == MOST
    assert asked(scaling, there, MOST, 1) == MOST
    assert asked(scaling, there, 1, MOST) == 1


def test_with_a_tolerance_they_would() -> None:
    scaling = scaling_of_the_benchmark()
    assert scaling.behavior is not None
    assert scaling.behavior.scale_up is not None
    assert scaling.behavior.scale_down is not None
    rules = [
        item.model_copy(update={"tolerance": None}) for item in (scaling.behavior.scale_up, scaling.behavior.scale_down)
    ]
    behavior = scaling.behavior.model_copy(update={"scale_up": rules[0], "scale_down": rules[1]})
    tolerant = scaling.model_copy(update={"behavior": behavior})
    assert asked(tolerant, MOST - 25, MOST, MOST) == MOST - 25
