"""Nodes on their way out: cordon, evict, wait, delete. One look after the other, each with what is to be done now.

    (a replacement is awaited) → cordoned → its pods are evicted → deleted → gone

An instruction that shows no effect is given again after a while, and means nothing new to who carried it out. No pod
is evicted that a disruption budget has nothing left for: what was evicted and is still there counts as spent, since the
budget need not show it yet. Before anything is deleted a drain ends, and its node takes pods again, where a pod must
not be evicted after all, where its pods have no other place any more, and when it takes longer than its patience; the
node rests then. A node that is being deleted has no pods but those that go with it.

As cluster-autoscaler, a node goes only when it was not needed at every look for `Policy.unneeded_ms`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.seen import GroupKey, Node, NodeKey, Pod, Seen
from services.autoscaler.decision.nodes.shrinking import Removal, Shrinkage
from services.autoscaler.decision.nodes.stock import Stock


class Grow(NamedTuple):
    """One node more of a group, in place of one that goes."""

    group: GroupKey
    instead_of: NodeKey


class Cordon(NamedTuple):
    node: NodeKey


class Uncordon(NamedTuple):
    node: NodeKey
    reason: str


class Evict(NamedTuple):
    """Through the eviction API, which looks at the budgets once more."""

    node: NodeKey
    pod: str


class Delete(NamedTuple):
    """This node, and its group is one smaller."""

    node: NodeKey
    group: GroupKey


Instruction = Grow | Cordon | Uncordon | Evict | Delete


class Phase(StrEnum):
    AWAITING = "Awaiting"
    CORDONING = "Cordoning"
    EVICTING = "Evicting"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class Times:
    """In milliseconds. `provision`: how long a new node may take; `patience`: a drain, up to the deletion; `rest`: how
    long a node is left alone after a drain that came to nothing.
    """

    retry: int = 30_000
    provision: int = 900_000
    patience: int = 3_600_000
    rest: int = 600_000


@dataclass(frozen=True, slots=True)
class Drain:
    """`told_ms` is when the phase's instruction was given last, `evicted` when each pod was evicted last. `known` are
    the nodes of the replacement's group before it was asked for.
    """

    node: NodeKey
    group: GroupKey
    phase: Phase
    began_ms: int
    told_ms: int
    evicted: Mapping[str, int] = field(default_factory=dict)
    replacement: GroupKey | None = None
    known: frozenset[NodeKey] = frozenset()


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

    @property
    def drains(self) -> tuple[Drain, ...]:
        return tuple(self._drains.values())

    def step(self, seen: Seen, shrinkage: Shrinkage, policy: Policy, stock: Stock, now_ms: int) -> list[Instruction]:
        """What is to be done now. `shrinkage` is of the same look; `stock` learns of replacements that do not come."""
        look = _Look(seen, shrinkage, self._drains, stock, now_ms)
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
        for removal in removals:
            waits = now_ms - self._unneeded[removal.node] < policy.unneeded_ms
            full = len(self._drains) >= policy.most_draining
            if waits or full or removal.node in self._resting or removal.node in self._drains:
                continue
            yield self._start(removal, look)

    def _start(self, removal: Removal, look: _Look) -> Instruction:
        key, now_ms, made = removal.node, look.now_ms, removal.replacement
        del self._unneeded[key]
        phase = Phase.CORDONING if made is None else Phase.AWAITING
        known = look.nodes_of(made) if made is not None else frozenset()
        self._drains[key] = Drain(key, removal.group, phase, now_ms, now_ms, replacement=made, known=known)
        return Cordon(key) if made is None else Grow(made, key)

    # --- who goes on ---

    def _go_on(self, drain: Drain, look: _Look) -> Iterator[Instruction]:
        node = look.nodes.get(drain.node)
        if node is None:
            del self._drains[drain.node]
        elif drain.phase is Phase.AWAITING:
            yield from self._await(drain, look)
        elif drain.phase is Phase.DELETING:
            yield from self._repeat(drain, Delete(drain.node, drain.group), look)
        elif reason := self._hindrance(drain, node, look):
            self._give_up(drain, look)
            yield Uncordon(drain.node, reason)
        elif not node.unschedulable:
            # Also where somebody took that back meanwhile.
            yield from self._repeat(drain, Cordon(drain.node), look)
        else:
            yield from self._empty(drain, node, look)

    def _await(self, drain: Drain, look: _Look) -> Iterator[Instruction]:
        assert drain.replacement is not None
        new = look.nodes_of(drain.replacement) - drain.known
        if any(look.nodes[key].ready for key in new):
            self._put(replace(drain, phase=Phase.CORDONING, told_ms=look.now_ms))
            yield Cordon(drain.node)
        elif look.now_ms - drain.began_ms >= self._times.provision:
            look.stock.lacked(drain.replacement, look.now_ms)
            self._give_up(drain, look)

    def _hindrance(self, drain: Drain, node: Node, look: _Look) -> str:
        """Why the node is to stay after all; empty if it may go."""
        if node.kept:
            return node.kept
        pinned = next((f"{pod.key} {pod.pinned}" for pod in _remaining(node) if pod.pinned), "")
        if pinned:
            return pinned
        if drain.node in look.shrinkage.stranded:
            return "its pods have no other place any more"
        return "its pods did not leave in time" if look.now_ms - drain.began_ms >= self._times.patience else ""

    def _empty(self, drain: Drain, node: Node, look: _Look) -> Iterator[Instruction]:
        remaining = _remaining(node)
        if not remaining:
            self._put(replace(drain, phase=Phase.DELETING, told_ms=look.now_ms))
            yield Delete(drain.node, drain.group)
            return
        evicted = {pod.key: drain.evicted[pod.key] for pod in remaining if pod.key in drain.evicted}
        for pod in remaining:
            last = evicted.get(pod.key)
            if pod.leaving or (last is not None and look.now_ms - last < self._times.retry):
                continue
            # An eviction that is repeated was counted already.
            if last is None and not look.spend(pod):
                continue
            evicted[pod.key] = look.now_ms
            yield Evict(drain.node, pod.key)
        self._put(replace(drain, phase=Phase.EVICTING, evicted=evicted))

    def _repeat(self, drain: Drain, instruction: Instruction, look: _Look) -> Iterator[Instruction]:
        if look.now_ms - drain.told_ms >= self._times.retry:
            self._put(replace(drain, told_ms=look.now_ms))
            yield instruction

    def _give_up(self, drain: Drain, look: _Look) -> None:
        del self._drains[drain.node]
        self._resting[drain.node] = look.now_ms + self._times.rest

    def _put(self, drain: Drain) -> None:
        self._drains[drain.node] = drain


class _Look:
    """What one step knows."""

    def __init__(
        self, seen: Seen, shrinkage: Shrinkage, drains: Mapping[NodeKey, Drain], stock: Stock, now_ms: int
    ) -> None:
        self.shrinkage, self.stock, self.now_ms = shrinkage, stock, now_ms
        self.nodes = {node.key: node for node in seen.nodes}
        self._budgets = seen.budgets
        self._spent: Counter[str] = Counter()
        for drain in drains.values():
            node = self.nodes.get(drain.node)
            for pod in _remaining(node) if node is not None else ():
                if pod.key in drain.evicted and not pod.leaving:
                    self._spent.update(pod.budgets)

    def nodes_of(self, group: GroupKey) -> frozenset[NodeKey]:
        return frozenset(key for key, node in self.nodes.items() if (node.cluster, node.group) == group)

    def spend(self, pod: Pod) -> bool:
        """Whether its budgets have something left for it, which it has then."""
        if any(self._budgets.get(key, 0) - self._spent[key] < 1 for key in pod.budgets):
            return False
        self._spent.update(pod.budgets)
        return True


def _remaining(node: Node) -> list[Pod]:
    """What has to be gone before the node is."""
    return [pod for pod in node.pods if not pod.daemon]
