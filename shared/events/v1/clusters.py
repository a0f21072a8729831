"""`fleet.clusters`: the clusters that the hub's users declared. A tombstone takes one back."""

from __future__ import annotations

from pydantic import Field

from shared.model.base import Value
from shared.model.taints import Taint


class ClusterDeclared(Value):
    """What the fleet is told of a cluster, over what its own watcher says of it."""

    name: str
    uid: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    price_per_hour: float | None = Field(default=None, ge=0, description="of one node, in the fleet's currency")
    watched_resources: tuple[str, ...] = Field(
        default=(), description="further resources to watch, as group/version/resource"
    )
