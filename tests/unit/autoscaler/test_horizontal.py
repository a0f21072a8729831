"""How replicas follow metrics, by examples; that it is exact is shown by tests/integration/autoscaler."""

from __future__ import annotations

import pytest

from services.autoscaler.decision.horizontal.evaluation import Evaluation, evaluate, settle
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import Container, Pod, PodSamples, Sample, Seen, Unmeasured, Values
from services.autoscaler.decision.horizontal.terms import (
    Behavior,
    Defaults,
    Metric,
    MetricType,
    Policy,
    PolicyType,
    Rules,
    SelectPolicy,
    Target,
    Terms,
)

CPU = Metric(MetricType.RESOURCE, "cpu", Target(utilization=50))
LAG = Metric(MetricType.EXTERNAL, "lag", Target(average_milli=100_000))
NOW = 3_600_000


def pods(count: int, *, unready: int = 0) -> tuple[Pod, ...]:
    """Of one core each, started an hour ago; the last ones were never ready."""
    container = (Container("main", {"cpu": 1000}),)
    return tuple(
        Pod(f"p{n}", "Running", container, ready="True" if n < count - unready else "False", started_ms=0)
        for n in range(count)
    )


def used(milli: int, count: int) -> PodSamples:
    return PodSamples({f"p{n}": Sample(milli, NOW, 15_000) for n in range(count)})


def look(terms: Terms, seen: Seen, memory: Memory | None = None, now_ms: int = NOW) -> Evaluation:
    return evaluate(terms, Defaults(), seen, memory if memory is not None else Memory(), now_ms)


@pytest.mark.parametrize(("milli", "replicas"), [(500, 4), (540, 4), (600, 5), (900, 8), (400, 4)])
def test_it_grows_in_proportion_and_shrinks_only_after_the_window(milli: int, replicas: int) -> None:
    assert look(Terms(20, (CPU,)), Seen(4, 4, pods(4), (used(milli, 4),))).replicas == replicas


def test_it_shrinks_to_the_highest_of_the_window_once_that_is_over() -> None:
    terms, memory = Terms(20, (CPU,)), Memory()
    seen = Seen(4, 4, pods(4), (used(100, 4),))
    assert look(terms, seen, memory).replicas == 4
    assert look(terms, seen, memory, NOW + 299_000).replicas == 4
    assert look(terms, seen, memory, NOW + 301_000).replicas == 1


def test_pods_that_were_never_ready_hold_growth_back() -> None:
    terms = Terms(20, (CPU,))
    assert look(terms, Seen(4, 4, pods(4), (used(900, 4),))).replicas == 8
    assert look(terms, Seen(4, 4, pods(4, unready=2), (used(900, 4),))).replicas == 4


def test_with_a_metric_that_fails_nothing_is_scaled_down() -> None:
    terms = Terms(20, (CPU, LAG))
    low, high = used(10, 4), used(900, 4)
    failing = look(terms, Seen(4, 4, pods(4), (low, Unmeasured("no answer"))))
    assert (failing.replicas, failing.conditions[0].reason) == (None, "FailedGetExternalMetric")
    growing = look(terms, Seen(4, 4, pods(4), (high, Unmeasured("no answer"))))
    assert growing.replicas == 8
    assert "1 invalid out of 2" in growing.error


def test_what_it_scaled_to_zero_comes_back_and_what_a_person_did_does_not() -> None:
    terms, memory = Terms(20, (LAG,), min_replicas=0), Memory()
    busy = Seen(0, 0, (), (Values((250_000,)),))
    assert look(terms, busy, memory).replicas == 0
    settle(terms, memory, 2, 0, NOW)
    assert look(terms, busy, memory).replicas == 3


def test_a_policy_limits_the_change_within_its_period() -> None:
    up = Rules((Policy(PolicyType.PODS, 2, 60),), SelectPolicy.MAX, stabilization_s=0)
    terms, memory = Terms(20, (CPU,), behavior=Behavior(up=up)), Memory()
    seen = Seen(4, 4, pods(4), (used(900, 4),))
    first = look(terms, seen, memory)
    assert (first.replicas, first.conditions[-1].reason) == (6, "ScaleUpLimit")
    settle(terms, memory, 4, 6, NOW)
    grown = Seen(6, 6, pods(6), (used(900, 6),))
    assert look(terms, grown, memory, NOW + 30_000).replicas == 6
    assert look(terms, grown, memory, NOW + 61_000).replicas == 8
