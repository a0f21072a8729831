"""One look at a workload as a function of all that it goes by: whoever calls it again comes to the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.autoscaler.decision.horizontal.evaluation import evaluate, settle
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import Pod, Reading, Seen, Unmeasured
from services.autoscaler.decision.horizontal.terms import Defaults, Terms
from services.autoscaler.decision.measured import Measured
from services.autoscaler.decision.schedules import Floor, scheduled
from services.autoscaler.decision.telling import Looked, told
from shared.events.v1.forecasts import ForecastMade
from shared.events.v1.scaling import PodSetScaled


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is known at a look. Windows go by `now_ms`, schedules and days by `calendar_ms`.

    `asked` replicas are asked for now, by `former` of this autoscaler if it has said anything; `there` pods are there.
    `measured` has a reading for each metric of the terms; `expected` are replicas by the forecast, which `forecast`
    tells of. `memory` is as it was before.
    """

    pod_set: str
    now_ms: int
    calendar_ms: int
    asked: int
    there: int
    former: int | None
    memory: Memory
    pods: tuple[Pod, ...] = ()
    measured: tuple[Measured, ...] = ()
    expected: float | None = None
    forecast: ForecastMade | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is said, what is remembered then, and how many replicas the metrics alone would need (`Evaluation`)."""

    said: PodSetScaled
    memory: Memory
    needed: float | None


def decide(inputs: Inputs, terms: Terms, floor: Floor, defaults: Defaults) -> Outcome:
    """`terms` and the `floor` of its schedules are what the workload asks. Changes nothing that it was given."""
    memory = inputs.memory.copy()
    with_gaps, readings = _with_gaps(terms, inputs.measured)
    seen = Seen(inputs.asked, inputs.there, inputs.pods, readings)
    # Who was set to zero by hand is started by no schedule either.
    parked = not inputs.asked and not memory.zeroed
    result = evaluate(with_gaps, defaults, seen, memory, inputs.now_ms, inputs.expected)
    needed = result.needed
    if not parked:
        result = scheduled(result, inputs.asked, floor)
    if result.replicas is not None and result.replicas != inputs.asked:
        settle(terms, memory, inputs.asked, result.replicas, inputs.now_ms)
    looked = Looked(seen, terms.metrics, inputs.measured, inputs.forecast, result)
    return Outcome(told(inputs.pod_set, looked, memory, inputs.former), memory, needed)


def _with_gaps(terms: Terms, measured: tuple[Measured, ...]) -> tuple[Terms, tuple[Reading, ...]]:
    """Where a part of a metric is not known, it counts as one more that failed: by the rest nothing is scaled down."""
    gaps = [
        (metric, Unmeasured(one.lacking)) for metric, one in zip(terms.metrics, measured, strict=True) if one.lacking
    ]
    metrics = (*terms.metrics, *(metric for metric, _ in gaps))
    return replace(terms, metrics=metrics), (*(one.reading for one in measured), *(gap for _, gap in gaps))
