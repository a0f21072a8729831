"""A provider that is slow holds nothing that requests to API servers share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from services.executor.decision.node_groups import RemoveNodes, Resize, Step
from services.executor.node_calls import NodeCaller
from services.executor.wakefulness import Wakefulness
from shared.adapters.clock import SystemClock
from shared.model.node_groups import GroupState, NodeRef
from shared.ports.cluster_api import ClusterApi


class Provider:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def state(self, nodes: Sequence[NodeRef]) -> GroupState:
        del nodes
        return GroupState(0)

    async def resize(self, size: int) -> None:
        self.asked.append(size)

    async def remove(self, nodes: Sequence[NodeRef]) -> None:
        self.asked.append(tuple(nodes))


@pytest.mark.parametrize(("step", "asked"), [(Resize(3), 3), (RemoveNodes((NodeRef("a"),)), (NodeRef("a"),))])
async def test_a_provider_is_asked_while_all_slots_are_taken(step: Step, asked: object) -> None:
    slots, provider = asyncio.Semaphore(1), Provider()
    # No request goes to the API server.
    caller = NodeCaller("east", cast("ClusterApi", object()), slots, Wakefulness(SystemClock()))
    async with slots, asyncio.timeout(30):
        await caller.take(step, provider)
    assert provider.asked == [asked]
