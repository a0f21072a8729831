"""What a workload asks of its autoscaler, and what the autoscaler tells of it (`fleet.scaling`).

The section has the fields of an `autoscaling/v2` HorizontalPodAutoscaler, with its defaults and its rules of validity
(k8s.io/kubernetes pkg/apis/autoscaling), and says which pod set it scales. It is about the pods of all clusters.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from shared.events.v1.forecasts import ForecastMade, ScalingForecast
from shared.events.v1.policies import is_empty
from shared.events.v1.vertical import PodSetRequests
from shared.model.base import StrictValue, Value
from shared.model.names import DnsLabel
from shared.model.quantities import NonNegativeQuantity, parse_quantity
from shared.model.selectors import LabelSelector

MAX_SCALED = 40_000
MAX_METRICS = 16
MAX_POLICIES = 16
_MAX_STABILIZATION_S = 3600
_MAX_PERIOD_S = 1800
MAX_SCHEDULES = 16
UTC_ZONE = "UTC"
_MAX_DURATION_S = 31 * 86_400
_MAX_CRON = 128
_CRON_FIELDS = 5
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)

_Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class MetricTarget(StrictValue):
    """One of the three values is given, the one that `type` names."""

    type: Literal["Utilization", "Value", "AverageValue"]
    average_utilization: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="percent of what the pods request; for resources alone"
    )
    average_value: NonNegativeQuantity | None = Field(default=None, description="for each pod")
    value: NonNegativeQuantity | None = Field(default=None, description="of the object or of all series together")

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        values = {
            "Utilization": ("averageUtilization", self.average_utilization),
            "AverageValue": ("averageValue", self.average_value),
            "Value": ("value", self.value),
        }
        wanted, value = values[self.type]
        if value is None:
            raise ValueError(f"{wanted} must be given with type {self.type}")
        for kind, (name, other) in values.items():
            if kind != self.type and other is not None:
                raise ValueError(f"{name} must not be given with type {self.type}; use type {kind}, or leave it out")
        if isinstance(value, str) and not parse_quantity(value):
            raise ValueError(f"{wanted} must be more than 0")
        return self


class ResourceSource(StrictValue):
    """A resource that each pod is measured for, over its containers."""

    name: Literal["cpu", "memory"]
    target: MetricTarget

    @model_validator(mode="after")
    def _by_pod(self) -> Self:
        _check_target(self.target, "Utilization", "AverageValue")
        return self


class ContainerResourceSource(ResourceSource):
    """A resource of one container of each pod."""

    container: DnsLabel


class MetricIdentifier(StrictValue):
    name: _Name
    selector: LabelSelector | None = Field(
        default=None, description="labels of the series that count; absent means all"
    )


class PodsSource(StrictValue):
    """A metric that each pod has."""

    metric: MetricIdentifier
    target: MetricTarget

    @model_validator(mode="after")
    def _by_pod(self) -> Self:
        _check_target(self.target, "AverageValue")
        return self


class DescribedObject(StrictValue):
    api_version: str = ""
    kind: _Name
    name: _Name


class ObjectSource(StrictValue):
    """A metric of one object of the workload's namespace; of several clusters the values are added up."""

    described_object: DescribedObject
    metric: MetricIdentifier
    target: MetricTarget

    @model_validator(mode="after")
    def _by_value(self) -> Self:
        _check_target(self.target, "Value", "AverageValue")
        return self


class ExternalSource(StrictValue):
    """A metric that is about no object of a cluster, such as the length of a queue; its series are added up."""

    metric: MetricIdentifier
    target: MetricTarget

    @model_validator(mode="after")
    def _by_value(self) -> Self:
        _check_target(self.target, "Value", "AverageValue")
        return self


def _check_target(target: MetricTarget, *allowed: str) -> None:
    if target.type not in allowed:
        raise ValueError(f"target.type must be {' or '.join(allowed)} here, not {target.type}")


class MetricSpec(StrictValue):
    """One metric; the field that `type` names says which."""

    type: Literal["Resource", "ContainerResource", "Pods", "Object", "External"]
    resource: ResourceSource | None = None
    container_resource: ContainerResourceSource | None = None
    pods: PodsSource | None = None
    object: ObjectSource | None = None
    external: ExternalSource | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = {
            "Resource": ("resource", self.resource),
            "ContainerResource": ("containerResource", self.container_resource),
            "Pods": ("pods", self.pods),
            "Object": ("object", self.object),
            "External": ("external", self.external),
        }
        wanted, source = sources[self.type]
        if source is None:
            raise ValueError(f"{wanted} must be given with type {self.type}")
        for kind, (name, other) in sources.items():
            if kind != self.type and other is not None:
                raise ValueError(f"{name} must not be given with type {self.type}; make it a metric of type {kind}")
        return self


class ScalingPolicy(StrictValue):
    """So many pods, or percent of them, within a period."""

    type: Literal["Pods", "Percent"]
    value: Annotated[int, Field(ge=1, le=2_147_483_647)]
    period_seconds: Annotated[int, Field(ge=1, le=_MAX_PERIOD_S)]


class ScalingRules(StrictValue):
    """How fast in one direction. What is absent is as Kubernetes has it for that direction."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=_MAX_STABILIZATION_S)] | None = Field(
        default=None, description="up no further than the least, down no further than the most that was wanted in it"
    )
    select_policy: Literal["Max", "Min", "Disabled"] = Field(
        default="Max", description="which of the policies counts; Disabled: never in this direction"
    )
    policies: tuple[ScalingPolicy, ...] = Field(
        default=(), max_length=MAX_POLICIES, exclude_if=is_empty, description="absent means Kubernetes' own"
    )
    tolerance: NonNegativeQuantity | None = Field(
        default=None, description="part of the target, such as 0.05, within which nothing is done; absent: the fleet's"
    )


class ScalingBehavior(StrictValue):
    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


def _check_cron(text: str) -> str:
    """Five fields, as in a Kubernetes CronJob."""
    if len(text.split()) != _CRON_FIELDS:
        raise ValueError(f"{text!r}: want minute, hour, day of month, month and day of week")
    try:
        CronSim(text, _ANY_TIME)
    except (CronSimError, AssertionError) as error:
        raise ValueError(f"{text!r}: {error or 'not a cron expression'}") from error
    return text


def _check_zone(name: str) -> str:
    if name != UTC_ZONE:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone of the tz database: want for example Europe/Berlin") from error
    return name


class ScalingSchedule(StrictValue):
    """So many replicas at least, for a while from each moment that a cron expression names."""

    name: DnsLabel
    schedule: Annotated[str, StringConstraints(max_length=_MAX_CRON), AfterValidator(_check_cron)] = Field(
        description="cron, five fields: minute, hour, day of month, month, day of week"
    )
    time_zone: Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_zone)] = UTC_ZONE
    duration_seconds: Annotated[int, Field(ge=60, le=_MAX_DURATION_S)] = Field(description="from each such moment on")
    min_replicas: Annotated[int, Field(ge=1, le=MAX_SCALED)] = Field(
        description="over the whole fleet; what is measured may ask for more, never get less"
    )


class Scaling(StrictValue):
    """How many replicas a pod set has, by what is measured. Its own `replicas` holds until the autoscaler decides."""

    pod_set: DnsLabel | None = Field(default=None, description="which one is scaled; absent means the only one")
    min_replicas: Annotated[int, Field(ge=0, le=MAX_SCALED)] = Field(
        default=1, description="over the whole fleet; 0 needs a metric of type Object or External"
    )
    max_replicas: Annotated[int, Field(ge=1, le=MAX_SCALED)] = Field(description="over the whole fleet")
    metrics: tuple[MetricSpec, ...] = Field(
        default=(),
        max_length=MAX_METRICS,
        exclude_if=is_empty,
        description="the one that asks for the most replicas counts; absent means cpu at 80 % of what is requested",
    )
    behavior: ScalingBehavior | None = None
    schedules: tuple[ScalingSchedule, ...] = Field(
        default=(),
        max_length=MAX_SCHEDULES,
        exclude_if=is_empty,
        description="times at which there are more replicas at least; of several the most",
    )
    forecast: ScalingForecast | None = Field(
        default=None,
        exclude_if=is_empty,
        description="scales ahead of a daily pattern; absent means by what is measured alone",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas {self.min_replicas} must not be more than maxReplicas {self.max_replicas}")
        if not self.min_replicas and not any(metric.type in {"Object", "External"} for metric in self.metrics):
            raise ValueError(
                "minReplicas may be 0 only with a metric of type Object or External: pods that are not there are not "
                "measured; use 1, or add such a metric"
            )
        names = [schedule.name for schedule in self.schedules]
        if len(set(names)) < len(names):
            raise ValueError("each of schedules needs a name of its own")
        for schedule in self.schedules:
            if schedule.min_replicas > self.max_replicas:
                raise ValueError(
                    f"minReplicas {schedule.min_replicas} of schedule {schedule.name} must not be more than "
                    f"maxReplicas {self.max_replicas}"
                )
        return self

    def bounded(self, replicas: int) -> int:
        return min(max(replicas, self.min_replicas), self.max_replicas)


class Recommendation(Value):
    """Replicas that were wanted, or by how many was scaled, and when."""

    replicas: int
    at: int = Field(description="Unix milliseconds")


class ScalingMemory(Value):
    """What the next autoscaler has to know of the last: what was wanted and done within the windows of `behavior`."""

    recommendations: tuple[Recommendation, ...] = Field(default=(), exclude_if=is_empty)
    ups: tuple[Recommendation, ...] = Field(default=(), exclude_if=is_empty)
    downs: tuple[Recommendation, ...] = Field(default=(), exclude_if=is_empty)
    zeroed: bool = Field(default=False, exclude_if=is_empty, description="it was the autoscaler that scaled to zero")


class ConditionType(StrEnum):
    ACTIVE = "ScalingActive"
    ABLE = "AbleToScale"
    LIMITED = "ScalingLimited"


class ScalingCondition(Value):
    """As of a HorizontalPodAutoscaler."""

    type: ConditionType
    status: bool
    reason: str
    message: str


class MetricReading(Value):
    """One metric at the evaluation, in the order of `scaling.metrics`. Values are in thousandths, or in percent."""

    type: str
    name: str
    proposal: int | None = Field(default=None, description="replicas; absent where it could not be measured")
    current: int | None = Field(default=None, description="percent of requests for a utilization, else thousandths")
    newest: int | None = Field(default=None, description="when the newest sample that counted was taken")
    samples: int = Field(default=0, description="pods or series that were measured")


class PodSetScaled(Value):
    """How many replicas of a pod set there should be; absent as long as nobody can say."""

    name: str
    replicas: int | None = Field(default=None, ge=0)
    before: int = Field(ge=0, description="how many were asked for")
    ready: int = Field(default=0, ge=0, description="pods that were ready")
    reason: str = Field(default="", description="why it is another number")
    error: str = Field(default="", description="what could not be measured, if anything")
    metrics: tuple[MetricReading, ...] = Field(default=(), exclude_if=is_empty)
    forecast: ForecastMade | None = Field(default=None, exclude_if=is_empty)
    conditions: tuple[ScalingCondition, ...] = Field(default=(), exclude_if=is_empty)
    memory: ScalingMemory = ScalingMemory()


class WorkloadScaled(Value):
    """The newest evaluation of a workload that changed anything worth telling, and from what it was made.

    It is about the workload `uid` alone: of one that was deleted and made again the replicas are its own.
    """

    uid: str
    workload_generation: int = Field(description="of the specification that was evaluated")
    evaluated_at: int = Field(description="Unix milliseconds")
    pod_sets: tuple[PodSetScaled, ...] = Field(description="the one that is scaled; none where only requests follow")
    requests: tuple[PodSetRequests, ...] = Field(
        default=(), exclude_if=is_empty, description="of a workload whose requests follow what it uses (`vertical`)"
    )
    inputs: dict[str, dict[int, int]] = Field(
        default_factory=dict, description="next offset to read when this was evaluated, by topic and partition"
    )
