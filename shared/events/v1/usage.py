"""`fleet.usage`: what the autoscaler has learned of workloads over days (docs/adr/0029).

Metrics are kept for hours, so what takes days to learn is told itself, seldom, and read again at a start.
"""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.forecasts import DemandHistory
from shared.events.v1.policies import is_empty
from shared.model.base import Value


class Requests(Value):
    cpu: int = Field(ge=0, description="thousandths of a core")
    memory: int = Field(ge=0, description="bytes")


class RequestsRecommended(Value):
    """As of a VerticalPodAutoscaler: what to request, and beyond which bounds another request is surely wrong."""

    target: Requests
    lower: Requests
    upper: Requests


class HistogramLearned(Value):
    """As a VerticalPodAutoscalerCheckpoint has it."""

    reference: int = Field(description="Unix milliseconds: a sample's weight is doubled for each day after it")
    total: float = Field(ge=0, description="weight of all samples")
    weights: dict[int, int] = Field(description="by number of the bucket: parts of the total, the most is 10,000")


class ContainerLearned(Value):
    name: str
    recommended: RequestsRecommended
    cpu: HistogramLearned
    memory: HistogramLearned
    first: int = Field(description="sample of cpu: Unix milliseconds")
    last: int = Field(description="sample of cpu: Unix milliseconds")
    samples: int = Field(ge=0, description="of cpu")


class PodSetLearned(Value):
    name: str
    containers: tuple[ContainerLearned, ...]


class UsageLearned(Value):
    """Of the workload `uid` alone: one that was deleted and made again is learned anew."""

    uid: str
    learned_at: int = Field(description="Unix milliseconds")
    pod_set: str = Field(default="", exclude_if=is_empty, description="the one that is scaled")
    demand: DemandHistory | None = Field(default=None, exclude_if=is_empty, description="of a workload with a forecast")
    pod_sets: tuple[PodSetLearned, ...] = Field(
        default=(), exclude_if=is_empty, description="what their containers used, and should request"
    )
