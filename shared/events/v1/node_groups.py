"""`fleet.nodegroups`: how many nodes each node group should have, and why; and what no node was made for.

The topic is compacted, and what the next autoscaler begins from: what was ordered, what the executor said of it, and
what the provider lacked. An order is written here first; the command that follows from it may repeat it, never differ.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from shared.events.v1.clusters import NodeProvider, NodeTemplate
from shared.events.v1.policies import is_empty
from shared.model.base import Value

# The key of what is told of the fleet, beside the groups' own.
PLAN_KEY: Final = "-/plan"


class UtilityTerm(Value):
    """Of one utility u_i its weight r_i, its value for the size that was chosen, and for the runner-up."""

    weight: float
    value: float
    beside: float


class SizeChosen(Value):
    """Why a group has this size: it is worth most, of all that were tried, with the other groups as they are.

    `unplaced_beside`: so many pods that have a place find none with the runner-up, which comes before all terms.
    """

    before: int
    size: int
    value: float
    terms: dict[str, UtilityTerm] = Field(default_factory=dict)
    runner_up: int | None = None
    value_beside: float = 0.0
    unplaced_beside: int = 0
    proven: bool = Field(default=False, description="no other sizes are worth more; else as far as trials reached")
    trials: int = 0
    at: int = Field(description="Unix milliseconds")


class NodeRemoval(Value):
    """A node that is to go, and why. `worth` is the sum of the terms."""

    node: str
    at: int = Field(description="Unix milliseconds")
    worth: float = 0.0
    terms: dict[str, tuple[float, float]] = Field(
        default_factory=dict, exclude_if=is_empty, description="by utility its weight and the difference that it makes"
    )
    moves: dict[str, str] = Field(
        default_factory=dict, exclude_if=is_empty, description="where its pods were expected to go, by pod"
    )
    replacement: str = Field(default="", exclude_if=is_empty, description="the group that had a node more first")
    beside: tuple[str, ...] = Field(
        default=(), exclude_if=is_empty, description="other nodes that the same new one replaces; worth is of all"
    )


class NodesKept(Value):
    """Nodes that stay, for one reason; some of their names."""

    reason: str
    nodes: int
    such_as: tuple[str, ...] = ()


class NodeGroupReported(Value):
    """What the executor said last of an order."""

    epoch: int
    generation: int
    outcome: str
    reason: str = ""
    message: str = ""
    size: int | None = None
    ready: int = 0
    at: int = Field(description="Unix milliseconds")


class NodeGroupPlanned(Value):
    """What was ordered of a group last, and why. `size` counts without those that are being removed."""

    cluster: str
    group: str
    epoch: int
    generation: int = Field(ge=0, description="of the order; 0: nothing was ordered yet, the group is as it was found")
    digest: str = Field(default="", description="SHA-256 over what is ordered")
    size: int = Field(ge=0)
    there: int = Field(ge=0, description="nodes that were there")
    reason: str = ""
    message: str = ""
    planned_at: int = Field(description="Unix milliseconds")
    provider: NodeProvider
    template: NodeTemplate
    removing: tuple[NodeRemoval, ...] = Field(default=(), exclude_if=is_empty)
    chosen: SizeChosen | None = Field(default=None, description="of its last growth")
    kept: tuple[NodesKept, ...] = Field(
        default=(), exclude_if=is_empty, description="why others stay, at the last look"
    )
    lacked_at: int | None = Field(default=None, description="when its provider last had no node")
    closed_ms: int = Field(default=0, exclude_if=is_empty, description="for how long nothing is asked of it then")
    reported: NodeGroupReported | None = None
    inputs: dict[str, dict[int, int]] = Field(
        default_factory=dict, description="next offset to read when this was planned, by topic and partition"
    )

    @property
    def confirmed(self) -> bool:
        """Whether the executor has the order."""
        told = self.reported
        return not self.generation or (
            told is not None and (told.epoch, told.generation) == (self.epoch, self.generation)
        )


class PodsWithoutNode(Value):
    """Pods that go on waiting, and why no node is made for them."""

    pod_set: str
    count: int
    reason: str


class LimitReached(Value):
    """A limit that kept nodes from what has no place."""

    cluster: str = Field(default="", exclude_if=is_empty, description="absent: of the whole fleet")
    what: str = Field(description="nodes, pricePerHour or a resource")
    most: float = Field(description="cpu in thousandths")
    left: float = Field(description="of it, before this plan")


class NodesPlanned(Value):
    """The last plan of all groups together."""

    planned_at: int = Field(description="Unix milliseconds")
    waiting: int = Field(default=0, description="pods that had no place")
    added_price: float = Field(default=0.0, description="an hour, of the nodes that were added")
    unplaced: tuple[PodsWithoutNode, ...] = Field(default=(), exclude_if=is_empty, description="the first of them")
    left_out: int = Field(default=0, exclude_if=is_empty, description="pod sets that are not listed")
    head_room: float | None = Field(default=None, description="the part of it that has room, where any is wished")
    limits: tuple[LimitReached, ...] = Field(default=(), exclude_if=is_empty, description="that keep nodes from these")
