"""Nodes on their way out, one look after the other: named in their group's order, which its executor carries out.

    (a replacement is awaited) → leaving: the executor cordons, evicts as far as budgets allow, deletes → gone

A drain ends and its node stays where its executor says that it cannot be emptied, where a pod must not be evicted after
all, where its pods have no other place any more, and when it takes longer than its patience; the node rests then.

As cluster-autoscaler, a node goes only when it was not needed at every look for `Policy.unneeded_ms`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, NamedTuple

from pydantic import PlainSerializer

from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.seen import GroupKey, Node, NodeKey, Seen
from services.autoscaler.decision.nodes.shrinking import Removal, Shrinkage
from services.autoscaler.decision.nodes.stock import Stock

STRANDED: Final = "its pods have no other place any more"
LATE: Final = "its pods did not leave in time"


class Grow(NamedTuple):
    """One node more of a group, in place of one that goes, and of those `beside` it."""

    group: GroupKey
    instead_of: NodeKey
    beside: tuple[NodeKey, ...] = ()


class Remove(NamedTuple):
    """This node is to go, and its group is one smaller."""

    removal: Removal


class Keep(NamedTuple):
    """It stays after all, and takes pods again."""

    node: NodeKey
    group: GroupKey
    reason: str


Instruction = Grow | Remove | Keep
# Written in one order: that of a set is another in each process.
_Names = Annotated[frozenset[NodeKey], PlainSerializer(sorted)]


@dataclass(frozen=True, slots=True)
class Times:
    """In milliseconds. `provision`: how long a new node may take; `patience`: a drain, up to the deletion; `rest`: how
    long a node is left alone after a drain that came to nothing.
    """

    provision: int = 900_000
    patience: int = 3_600_000
    rest: int = 600_000


@dataclass(frozen=True, slots=True)
class Drain:
    """`removal` is None of one that another autoscaler began. `known` are the nodes of the replacement's group before
    it was asked for, while that is awaited.
    """

    node: NodeKey
    group: GroupKey
    began_ms: int
    removal: Removal | None = None
    awaits: GroupKey | None = None
    known: _Names = frozenset()


class DrainsMemory(NamedTuple):
    """Drains, since when nodes are not needed, and which rest until when."""

    drains: tuple[Drain, ...]
    unneeded: tuple[tuple[NodeKey, int], ...]
    resting: tuple[tuple[NodeKey, int], ...]


class Drains:
    """What is remembered between looks: drains, since when nodes are not needed, and which rest until when."""

    def __init__(self, times: Times | None = None) -> None:
        self._times = times or Times()
        self._drains: dict[NodeKey, Drain] = {}
        self._unneeded: dict[NodeKey, int] = {}
        self._resting: dict[NodeKey, int] = {}

    @property
    def going(self) -> frozenset[NodeKey]:
        """For `shrinking.shrink`."""
        return frozenset(self._drains)

    def memory(self) -> DrainsMemory:
        return DrainsMemory(tuple(self._drains.values()), tuple(self._unneeded.items()), tuple(self._resting.items()))

    def remember(self, memory: DrainsMemory) -> None:
        self._drains = {item.node: item for item in memory.drains}
        self._unneeded, self._resting = dict(memory.unneeded), dict(memory.resting)

    def resume(self, node: NodeKey, group: GroupKey, began_ms: int) -> None:
        """One that is leaving already, as the log says."""
        self._drains[node] = Drain(node, group, began_ms)

    def take_back(self, node: NodeKey, now_ms: int) -> None:
        """Its room is needed."""
        if self._drains.pop(node, None) is not None:
            self._resting[node] = now_ms + self._times.rest

    def step(
        self,
        seen: Seen,
        shrinkage: Shrinkage,
        policy: Policy,
        stock: Stock,
        now_ms: int,
        refused: Mapping[NodeKey, str] | None = None,
    ) -> list[Instruction]:
        """What is to be done now. `shrinkage` is of the same look; `stock` learns of replacements that do not come;
        `refused` are nodes that their executors cannot empty, and why.
        """
        look = _Look(seen, shrinkage, stock, now_ms, refused or {})
        found: list[Instruction] = []
        for drain in list(self._drains.values()):
            found += self._go_on(drain, look)
        found += self._begin(look, policy)
        return found

    # --- who begins ---

    def _begin(self, look: _Look, policy: Policy) -> Iterator[Instruction]:
        now_ms, removals = look.now_ms, look.shrinkage.removals
        self._resting = {node: until for node, until in self._resting.items() if until > now_ms}
        self._unneeded = {item.node: self._unneeded.get(item.node, now_ms) for item in removals}
        by_node = {removal.node: removal for removal in removals}
        for removal in removals:
            if not removal.leads:
                continue
            # What one new node replaces goes together or not at all.
            together = [removal, *(by_node[key] for key in removal.beside)]
            waits = any(now_ms - self._unneeded[item.node] < policy.unneeded_ms for item in together)
            full = len(self._drains) + len(together) > policy.most_draining
            if waits or full or any(item.node in self._resting or item.node in self._drains for item in together):
                continue
            yield self._start(together, look)

    def _start(self, together: Sequence[Removal], look: _Look) -> Instruction:
        made = together[0].replacement
        known = look.nodes_of(made) if made is not None else frozenset()
        for removal in together:
            del self._unneeded[removal.node]
            self._drains[removal.node] = Drain(removal.node, removal.group, look.now_ms, removal, made, known)
        return Remove(together[0]) if made is None else Grow(made, together[0].node, together[0].beside)

    # --- who goes on ---

    def _go_on(self, drain: Drain, look: _Look) -> Iterator[Instruction]:
        node = look.nodes.get(drain.node)
        if node is None:
            del self._drains[drain.node]
        elif drain.awaits is not None:
            yield from self._await(drain, drain.awaits, look)
        elif reason := self._hindrance(drain, node, look):
            self._give_up(drain, look)
            yield Keep(drain.node, drain.group, reason)

    def _await(self, drain: Drain, made: GroupKey, look: _Look) -> Iterator[Instruction]:
        assert drain.removal is not None
        if any(look.nodes[key].ready for key in look.nodes_of(made) - drain.known):
            self._drains[drain.node] = replace(drain, awaits=None, began_ms=look.now_ms)
            yield Remove(drain.removal)
        elif look.now_ms - drain.began_ms >= self._times.provision or not look.stock.is_open(made, look.now_ms):
            look.stock.lacked(made, look.now_ms)
            self._give_up(drain, look)

    def _hindrance(self, drain: Drain, node: Node, look: _Look) -> str:
        """Why the node is to stay after all; empty if it may go."""
        if drain.node in look.refused:
            return look.refused[drain.node]
        if node.kept:
            return node.kept
        pinned = next((f"{pod.key} {pod.pinned}" for pod in node.pods if not pod.daemon and pod.pinned), "")
        if pinned:
            return pinned
        if drain.node in look.shrinkage.stranded:
            return STRANDED
        return LATE if look.now_ms - drain.began_ms >= self._times.patience else ""

    def _give_up(self, drain: Drain, look: _Look) -> None:
        self.take_back(drain.node, look.now_ms)


class _Look:
    """What one step knows."""

    def __init__(
        self, seen: Seen, shrinkage: Shrinkage, stock: Stock, now_ms: int, refused: Mapping[NodeKey, str]
    ) -> None:
        self.shrinkage, self.stock, self.now_ms, self.refused = shrinkage, stock, now_ms, refused
        self.nodes = {node.key: node for node in seen.nodes}

    def nodes_of(self, group: GroupKey) -> frozenset[NodeKey]:
        return frozenset(key for key, node in self.nodes.items() if (node.cluster, node.group) == group)
