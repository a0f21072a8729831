"""Decisions of the autoscaler on node groups in `fleet.decisions`: one record for a plan of all groups together.

A size is worth what it is beside those of the other groups, so what a plan went by is common to all that it decided.
"""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.node_groups import NodeGroupPlanned, NodesPlanned
from shared.events.v1.policies import is_empty
from shared.model.base import Value


class GroupSeen(Value):
    """What could be had of a group. `size` is what had been asked of it; `price` is of one node for an hour."""

    cluster: str
    group: str
    size: int
    least: int
    most: int
    price: float


class PodsPending(Value):
    """Pods that waited for nodes, or for which there was to be room."""

    pod_set: str
    count: int
    priority: int = 0


class NodesBasis(Value):
    """All that a plan was made from, so that whoever plans by it again comes to the same.

    `groups`, `pending` and `head_room` are what of it people look at. `document` is all of it: JSON, compressed by
    zlib, as base64. In it `memory` is what was remembered before, and `calls` are what the plan asked of the fleet and
    what it was told, in their order; of the nodes and pods that were seen, what many have in common stands in tables.
    Where there was too much of it, it is not `whole`, and the document is left out.
    """

    life: str = Field(description="of the autoscaler: from its start to its end, one after the other")
    config: str = Field(description="hash of the configuration")
    state: str = Field(description="hash of what is remembered behind the plan")
    at: int = Field(description="the time that the plan went by; Unix milliseconds")
    down: bool = Field(description="whether it was looked for nodes that are not needed")
    failed: tuple[str, ...] = Field(
        default=(), exclude_if=is_empty, description="parts of the plan that were not made, by a defect"
    )
    groups: tuple[GroupSeen, ...] = ()
    pending: tuple[PodsPending, ...] = Field(default=(), exclude_if=is_empty, description="the first of them")
    head_room: tuple[PodsPending, ...] = Field(default=(), exclude_if=is_empty, description="the first of them")
    document: str = Field(default="", exclude_if=is_empty)
    whole: bool = Field(default=True, exclude_if=bool)


class NodesDecided(Value):
    """What a plan decided: the orders of node groups, why, and from what.

    `groups` are what `fleet.nodegroups` tells of those of which anything is another than before, `ended` those that
    are declared no more. `plan` says who gets no node.
    """

    groups: tuple[NodeGroupPlanned, ...] = ()
    ended: tuple[str, ...] = Field(default=(), exclude_if=is_empty, description="cluster/group")
    plan: NodesPlanned | None = None
    inputs: dict[str, dict[int, int]] = Field(
        default_factory=dict, description="next offset to read when this was planned, by topic and partition"
    )
    basis: NodesBasis
