"""`fleet.metrics`: periodic samples; one that is lost is put right by the next."""

from __future__ import annotations

from pydantic import Field

from shared.model.base import Value


class NodeUsage(Value):
    name: str
    cpu: int = Field(description="thousandths of a core")
    memory: int = Field(description="bytes")


class PodUsage(Value):
    namespace: str
    name: str
    cpu: int = Field(description="thousandths of a core, over all containers")
    memory: int = Field(description="bytes, over all containers")


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
