"""`fleet.metrics`: periodic samples; one that is lost is put right by the next."""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.policies import is_empty
from shared.events.v1.sampling import SampledMetric
from shared.model.base import Value


class NodeUsage(Value):
    name: str
    cpu: int = Field(description="thousandths of a core")
    memory: int = Field(description="bytes")


class ContainerUsage(Value):
    name: str
    cpu: int = Field(description="thousandths of a core")
    memory: int = Field(description="bytes")


class PodUsage(Value):
    namespace: str
    name: str
    cpu: int = Field(description="thousandths of a core, over all containers")
    memory: int = Field(description="bytes, over all containers")
    sampled_at: int | None = Field(default=None, description="by its cluster: Unix milliseconds; else the record's")
    window: int | None = Field(default=None, description="milliseconds before that over which it was measured")
    containers: tuple[ContainerUsage, ...] = Field(default=(), exclude_if=is_empty)


class NodeMetricsSampled(Value):
    """Key `<cluster>/nodes`."""

    cluster: str
    sampled_at: int = Field(description="Unix milliseconds")
    nodes: tuple[NodeUsage, ...]


class PodMetricsSampled(Value):
    """Key `<cluster>/pods`; a large cluster's sample comes in several records, `part` of `parts`."""

    cluster: str
    sampled_at: int = Field(description="Unix milliseconds")
    part: int = 0
    parts: int = 1
    pods: tuple[PodUsage, ...]


class SampledValue(Value):
    """One value: of a pod, of an object, or of a series of an external metric."""

    milli: int = Field(description="thousandths")
    at: int | None = Field(default=None, description="by its source: Unix milliseconds; else the record's")
    pod: str = Field(default="", exclude_if=is_empty, description="the pod's name, of a metric of type Pods")
    labels: dict[str, str] = Field(default_factory=dict, exclude_if=is_empty, description="of an external series")


class MetricSampled(Value):
    """What a cluster says of a metric. Without `values`: `absent` where it has none, else `error` says what went wrong.

    Values of type Pods may come in several such parts; those of other types are all that there are.
    """

    metric: SampledMetric
    values: tuple[SampledValue, ...] = Field(default=(), exclude_if=is_empty)
    absent: bool = Field(default=False, exclude_if=is_empty, description="the cluster has no such metric")
    error: str = Field(default="", exclude_if=is_empty)


class AskedMetricsSampled(Value):
    """Key `<cluster>/asked`: metrics that `fleet.sampling` asks for; as many records as it takes."""

    cluster: str
    sampled_at: int = Field(description="Unix milliseconds")
    metrics: tuple[MetricSampled, ...]
