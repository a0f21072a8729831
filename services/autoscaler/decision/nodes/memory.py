"""All that is remembered of node groups between plans, as a value: taken, written, read, and gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from services.autoscaler.decision.hashes import short_hash
from services.autoscaler.decision.nodes.draining import DrainsMemory
from services.autoscaler.decision.nodes.orders import Awaited
from services.autoscaler.decision.nodes.seen import GroupKey, NodeKey
from services.autoscaler.decision.nodes.stock import Shortage
from shared.events.v1.node_groups import (
    NodeGroupPlanned,
    NodeGroupReported,
    NodeRemoval,
    NodesKept,
    NodesPlanned,
    SizeChosen,
)


@dataclass(frozen=True, slots=True)
class OrderMemory:
    """Of one group; `told` is what was told of it last, without the positions that had been read."""

    group: GroupKey
    size: int
    reason: str
    message: str
    removing: tuple[NodeRemoval, ...]
    chosen: SizeChosen | None
    kept: tuple[NodesKept, ...]
    reported: NodeGroupReported | None
    told: NodeGroupPlanned | None


@dataclass(frozen=True, slots=True)
class PlansMemory:
    """Of `planning.NodePlans`, with what it keeps of stock, drains and nodes that are awaited."""

    epoch: int
    orders: tuple[OrderMemory, ...]
    gone: tuple[tuple[str, NodeGroupPlanned | None], ...]
    lacking: tuple[tuple[GroupKey, str], ...]
    silent: tuple[tuple[GroupKey, int], ...]
    refused: tuple[tuple[NodeKey, str], ...]
    plan: NodesPlanned | None
    plan_told: NodesPlanned | None
    stock: tuple[tuple[GroupKey, Shortage], ...]
    drains: DrainsMemory
    awaited: tuple[tuple[GroupKey, Awaited], ...]


_MEMORY: Final[TypeAdapter[PlansMemory]] = TypeAdapter(PlansMemory)


def written(memory: PlansMemory) -> Any:
    """As JSON has it."""
    return _MEMORY.dump_python(memory, mode="json", by_alias=True)


def read(document: Any) -> PlansMemory:
    """Raises ValueError."""
    return _MEMORY.validate_python(document)


def state_hash(memory: PlansMemory) -> str:
    return short_hash(orjson.dumps(written(memory)))
