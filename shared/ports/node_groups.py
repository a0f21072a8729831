"""Whoever makes and deletes the machines of a node group: one small port, an adapter for each kind of provider.

A provider is asked again and again for the same (`resize` to a size, `remove` of exactly these), and a repeat changes
nothing: so a call whose answer was lost, or a process that died behind it, is healed by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.events.v1.commands import NodeGroupOrder
from shared.model.node_groups import GroupState, NodeRef
from shared.ports.cluster_api import ClusterApi


class ProviderError(Exception):
    """The provider did not do it. `reason` is one of those in `shared.model.node_groups`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class NodeGroupProvider(Protocol):
    """One node group. Every call has a deadline, and raises ProviderError and nothing else."""

    async def state(self, nodes: Sequence[NodeRef]) -> GroupState:
        """What is asked for and what is there. `nodes` are those of the group that the cluster has."""

    async def remove(self, nodes: Sequence[NodeRef]) -> None:
        """These are to leave, for good, and no others: one that was named before and has not begun to leave stays.

        Whether the group's size falls by them at once or with the next `resize` is the provider's.
        """

    async def resize(self, size: int) -> None:
        """So many nodes are asked for. A smaller number takes nodes that are leaving, or that have not come."""


class NodeGroupProviders(Protocol):
    """From what an order says of its provider to the provider."""

    async def of(self, order: NodeGroupOrder, cluster: str, api: ClusterApi) -> NodeGroupProvider:
        """`api` is that of the cluster whose nodes they are. Raises ProviderError."""

    async def close(self) -> None:
        """Ends what they have open."""
