"""`fleet.metrics`: periodic samples; one that is lost is put right by the next."""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.policies import is_empty
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
