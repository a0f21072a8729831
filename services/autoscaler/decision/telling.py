"""What a look at a workload led to, as `fleet.scaling` tells it, and what of it is news."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.autoscaler.decision.horizontal.evaluation import Evaluation
from services.autoscaler.decision.horizontal.limits import At, Memory
from services.autoscaler.decision.horizontal.replicas import Proposal
from services.autoscaler.decision.horizontal.seen import Seen
from services.autoscaler.decision.horizontal.terms import Metric
from services.autoscaler.decision.measured import Measured
from shared.events.v1.forecasts import ForecastMade
from shared.events.v1.scaling import (
    ConditionType,
    MetricReading,
    PodSetScaled,
    Recommendation,
    ScalingCondition,
    ScalingMemory,
)


@dataclass(frozen=True, slots=True)
class Looked:
    """One look: what was seen, by which metrics, what was expected, and what follows."""

    seen: Seen
    metrics: tuple[Metric, ...]
    measured: tuple[Measured, ...]
    forecast: ForecastMade | None
    result: Evaluation


def gist(said: PodSetScaled) -> tuple[object, ...]:
    """What is told as soon as it changes."""
    wanted = {item.at: item.replicas for item in said.memory.recommendations}
    newest = wanted[max(wanted)] if wanted else None
    return said.replicas, newest, said.memory.ups, said.memory.downs, said.memory.zeroed, cause(said)


def cause(said: PodSetScaled) -> tuple[object, ...]:
    """Why there are as many as are asked for, in the words of conditions; their messages have numbers in them."""
    return bool(said.error), [(item.type, item.status, item.reason) for item in said.conditions]


def told(name: str, looked: Looked, memory: Memory, former: int | None) -> PodSetScaled:
    """`former` is what was asked for at last, which holds where nobody can say anything else."""
    result, measured = looked.result, looked.measured
    proposals = result.proposals[: len(measured)] or (None,) * len(measured)
    return PodSetScaled(
        name=name,
        replicas=former if result.replicas is None else result.replicas,
        before=looked.seen.asked,
        ready=sum(pod.counts for pod in looked.seen.pods),
        reason=result.reason,
        error=result.error,
        metrics=tuple(
            _told_metric(metric, one, proposal)
            for metric, one, proposal in zip(looked.metrics, measured, proposals, strict=True)
        ),
        forecast=looked.forecast,
        conditions=tuple(
            ScalingCondition(
                type=ConditionType(item.type), status=item.status, reason=item.reason, message=item.message
            )
            for item in result.conditions
        ),
        memory=ScalingMemory(
            recommendations=_noted(memory.recommendations),
            ups=_noted(memory.ups),
            downs=_noted(memory.downs),
            zeroed=memory.zeroed,
        ),
    )


def _told_metric(metric: Metric, measured: Measured, proposal: Proposal | None) -> MetricReading:
    return MetricReading(
        type=metric.type,
        name=metric.name,
        proposal=proposal.replicas if proposal is not None else None,
        current=proposal.current if proposal is not None else None,
        newest=measured.newest_ms,
        samples=measured.count,
    )


def _noted(items: Iterable[At]) -> tuple[Recommendation, ...]:
    return tuple(Recommendation(replicas=item.replicas, at=item.at_ms) for item in items)


def remembered(memory: ScalingMemory) -> Memory:
    return Memory(
        recommendations=[At(item.replicas, item.at) for item in memory.recommendations],
        ups=[At(item.replicas, item.at) for item in memory.ups],
        downs=[At(item.replicas, item.at) for item in memory.downs],
        zeroed=memory.zeroed,
    )
