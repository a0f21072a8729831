"""What a workload asks of its autoscaler: the fields of an `autoscaling/v2` HorizontalPodAutoscaler."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TOLERANCE = 0.1


class MetricType(StrEnum):
    RESOURCE = "Resource"
    CONTAINER_RESOURCE = "ContainerResource"
    PODS = "Pods"
    OBJECT = "Object"
    EXTERNAL = "External"


@dataclass(frozen=True, slots=True)
class Target:
    """One of them is given. `utilization` is in percent of what pods request; values are in thousandths."""

    utilization: int | None = None
    average_milli: int | None = None
    value_milli: int | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` of the resource or metric; `container` for `ContainerResource` alone; `kind` of a described object."""

    type: MetricType
    name: str
    target: Target
    container: str = ""
    kind: str = ""

    @property
    def described(self) -> str:
        """As the original says what it scaled by."""
        match self.type:
            case MetricType.RESOURCE | MetricType.CONTAINER_RESOURCE:
                if self.target.average_milli is not None:
                    return f"{self.name} resource"
                within = "container " if self.type is MetricType.CONTAINER_RESOURCE else ""
                return f"{self.name} {within}resource utilization (percentage of request)"
            case MetricType.PODS:
                return f"pods metric {self.name}"
            case MetricType.OBJECT:
                return f"{self.kind} metric {self.name}"
            case MetricType.EXTERNAL:
                return f"external metric {self.name}"


class PolicyType(StrEnum):
    PODS = "Pods"
    PERCENT = "Percent"


class SelectPolicy(StrEnum):
    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class Policy:
    """So many pods, or percent of them, within a period."""

    type: PolicyType
    value: int
    period_s: int


@dataclass(frozen=True, slots=True)
class Rules:
    """For one direction. `tolerance` is a part of the target; None is the fleet's."""

    policies: tuple[Policy, ...]
    select: SelectPolicy = SelectPolicy.MAX
    stabilization_s: int | None = None
    tolerance: float | None = None


# As the API server fills them in where a behaviour is given and leaves them out.
UP_RULES = Rules(
    (Policy(PolicyType.PODS, 4, 15), Policy(PolicyType.PERCENT, 100, 15)), SelectPolicy.MAX, stabilization_s=0
)
DOWN_RULES = Rules((Policy(PolicyType.PERCENT, 100, 15),), SelectPolicy.MAX)


@dataclass(frozen=True, slots=True)
class Behavior:
    up: Rules = UP_RULES
    down: Rules = DOWN_RULES


@dataclass(frozen=True, slots=True)
class Terms:
    """Without a `behavior` a workload grows to no more than twice its size, or 4, at one look."""

    max_replicas: int
    metrics: tuple[Metric, ...]
    min_replicas: int = 1
    behavior: Behavior | None = None

    @property
    def scales_from_zero(self) -> bool:
        """Whether any metric says something while there are no pods."""
        return any(metric.type in {MetricType.OBJECT, MetricType.EXTERNAL} for metric in self.metrics)


@dataclass(frozen=True, slots=True)
class Defaults:
    """Of the fleet: what kube-controller-manager has flags for, with the values that those have."""

    tolerance: float = DEFAULT_TOLERANCE
    down_stabilization_s: int = 300
    cpu_initialization_ms: int = 300_000
    initial_readiness_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Within which a ratio of use to target is as it should be."""

    up: float
    down: float

    def allow(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up

    @classmethod
    def of(cls, behavior: Behavior | None, defaults: Defaults) -> Tolerances:
        up = behavior.up.tolerance if behavior is not None else None
        down = behavior.down.tolerance if behavior is not None else None
        return cls(defaults.tolerance if up is None else up, defaults.tolerance if down is None else down)
