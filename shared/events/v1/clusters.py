"""`fleet.clusters`: the clusters that the hub's users declared. A tombstone takes one back."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from shared.events.v1.policies import is_empty
from shared.model.base import StrictValue, Value
from shared.model.names import LabelKey, LabelValue
from shared.model.taints import Taint


class NodePrice(StrictValue):
    """What some nodes of a cluster cost."""

    node_selector: dict[LabelKey, LabelValue] = Field(
        min_length=1, max_length=16, description="labels that the nodes have, such as their instance type"
    )
    price_per_hour: float = Field(
        ge=0, allow_inf_nan=False, description="price of one such node for an hour, in the fleet's currency"
    )

    def applies(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.node_selector.items())


class ClusterDeclared(Value):
    """What the fleet is told of a cluster, over what its own watcher says of it."""

    name: str
    uid: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    price_per_hour: float | None = Field(default=None, ge=0, description="of one node, in the fleet's currency")
    node_prices: tuple[NodePrice, ...] = Field(
        default=(), exclude_if=is_empty, description="of nodes that cost something else; the first that applies counts"
    )
    watched_resources: tuple[str, ...] = Field(
        default=(), description="further resources to watch, as group/version/resource"
    )
