"""Decisions of the autoscaler in `fleet.decisions`: what was decided, and all that it was decided from.

Windows of metrics come and go, and nobody can read them again exactly as they were. So each decision has them in it as
the rule saw them, with what was remembered and asked: by these alone it can be derived again.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.events.v1.policies import is_empty
from shared.events.v1.scaling import Scaling, WorkloadScaled
from shared.model.base import Value

# Values and how often each comes, one after the other: of pods that are alike there are many.
Runs = tuple[tuple[int, int], ...]
RunsOrNone = tuple[tuple[int | None, int], ...]
# Replicas, and when; Unix milliseconds.
Noted = tuple[tuple[int, int], ...]


class ContainerSeen(Value):
    """`requests` by resource, in thousandths."""

    name: str
    requests: dict[str, int] = Field(default_factory=dict)


class PodKind(Value):
    """What many pods have in common. `ready` is the status of that condition, empty where there is none."""

    phase: str
    ready: str = Field(default="", exclude_if=is_empty)
    deleting: bool = Field(default=False, exclude_if=is_empty)
    containers: tuple[ContainerSeen, ...] = ()
    own_requests: dict[str, int] | None = Field(default=None, description="those of the pod itself, where it has any")


class PodsSeen(Value):
    """Pods of all clusters, by column: each has a value for every pod, in the order of `names`."""

    names: tuple[str, ...] = Field(default=(), description="cluster/namespace/name")
    kinds: tuple[PodKind, ...] = ()
    kind: Runs = Field(default=(), description="of `kinds`, by number")
    ready_since: Runs = Field(default=(), description="of its condition; Unix milliseconds")
    started: RunsOrNone = Field(default=(), description="Unix milliseconds; null where it was not known")


class MetricSeen(Value):
    """One metric within its window, in the order of `scaling.metrics`: of pods, of series, or why there is nothing."""

    of: Literal["pods", "series", "nothing"]
    milli: tuple[int, ...] = Field(default=(), exclude_if=is_empty, description="thousandths; of pods in their order")
    missing: tuple[int, ...] = Field(
        default=(), exclude_if=is_empty, description="pods without a sample, by their number in `pods`"
    )
    at: Runs = Field(default=(), exclude_if=is_empty, description="when each was taken, by its cluster's clock")
    window: Runs = Field(default=(), exclude_if=is_empty, description="over which time, in milliseconds")
    newest: int | None = None
    error: str = Field(default="", exclude_if=is_empty, description="why there is nothing")
    lacking: str = Field(default="", exclude_if=is_empty, description="what part of it is not known")


class MemorySeen(Value):
    """What was remembered before: wanted and done within the windows of `behavior`."""

    recommendations: Noted = Field(default=(), exclude_if=is_empty)
    ups: Noted = Field(default=(), exclude_if=is_empty)
    downs: Noted = Field(default=(), exclude_if=is_empty)
    zeroed: bool = Field(default=False, exclude_if=is_empty, description="it was the autoscaler that scaled to zero")


class ScalingBasis(Value):
    """All that a number of replicas was decided from, so that whoever decides by it again comes to the same.

    Where there was too much of it, it is not `whole`: pods, samples and memory are left out.
    """

    life: str = Field(description="of the autoscaler: from its start to its end, one after the other")
    config: str = Field(description="hash of the configuration")
    spec: str = Field(description="hash of `scaling`")
    state: str = Field(description="hash of what is asked and remembered behind the decision")
    scaling: Scaling = Field(description="what the workload asks, as it was then")
    calendar: int | None = Field(
        default=None, description="what schedules go by, in Unix milliseconds; absent where that is `evaluatedAt`"
    )
    asked: int = Field(ge=0, description="replicas that were asked for before")
    there: int = Field(ge=0, description="pods that were there")
    former: int | None = Field(
        default=None, description="replicas that were decided on before; absent while there was no such decision"
    )
    expected: float | None = Field(default=None, description="replicas by the forecast, not rounded")
    memory: MemorySeen = MemorySeen()
    pods: PodsSeen = PodsSeen()
    metrics: tuple[MetricSeen, ...] = ()
    whole: bool = Field(default=True, exclude_if=bool)


class ScalingDecided(Value):
    """How many replicas of a workload are asked for from now on, why, and from what that was decided.

    `scaled` is what `fleet.scaling` tells, but for what has to be remembered.
    """

    workload: str = Field(description="namespace/name")
    scaled: WorkloadScaled
    basis: ScalingBasis
