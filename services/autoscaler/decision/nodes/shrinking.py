"""Which nodes are not needed, since their pods fit elsewhere by the scheduler's own choices; which could be cheaper.

A node goes for `Σ r_i · u_i` of its group with one node less, against that of its size as it is: the part of the
fleet's price that is saved, against the part of its pods that move. Whoever waits has its place first, and as much of
the head-room has room as before. What moves stays in its cluster, since its controller makes it anew there, and goes to
nodes that are there: what is on its way may not come. A node that is to take any of these stays in the same plan.

Nodes whose pods have no other place may be replaced by one cheaper node that is made first: several of a cluster by
one, or one by one. As Karpenter's multi-node consolidation: candidates by what it disrupts to move their pods, and a
binary search for how many of the first of them one new node, and the room that there is, can take; here for each group
by itself, since a dearer node pays only in place of more of them. Every replacement saves a part of the price, so none
is ever undone by another.

Source: pkg/controllers/disruption (multinodeconsolidation.go) of sigs.k8s.io/karpenter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from services.autoscaler.decision.nodes.bounding import allowed_by, effective_prices, limits_of
from services.autoscaler.decision.nodes.judging import coming
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import GroupKey, Node, NodeKey, Pod, PodSet, Seen
from services.autoscaler.decision.nodes.stock import Stock
from services.autoscaler.decision.nodes.trial import Trial

NO_GROUP = "it belongs to no node group"
NOT_READY = "it is not ready, or takes no pods already"
AT_LEAST = "its group is at its least size"
NO_PLACE = "its pods find no place on other nodes of its cluster"
NOT_WORTH = "what it costs is not worth moving its pods"
TAKES_PODS = "it is to take pods that wait, or those of nodes that go"
HEAD_ROOM = "its room is head-room that there is to be"
ENOUGH = "as many nodes as may go at once do"


class Move(NamedTuple):
    """Where the scheduler would put a pod that is evicted; `to` is None where that is the node that is to be made."""

    pod: str
    to: NodeKey | None


@dataclass(frozen=True, slots=True)
class Removal:
    """`worth` is by how much the plan is better for it, by the terms `price` and `disruption`, weight and difference of
    utility. `replacement` is the group that has a new node first, None where none is needed. `beside` are other nodes
    that the same new one replaces; then terms and worth are of all of them together.
    """

    node: NodeKey
    group: GroupKey
    moves: tuple[Move, ...]
    worth: float
    terms: dict[str, tuple[float, float]]
    replacement: GroupKey | None = None
    beside: tuple[NodeKey, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether it is the first of those that one new node replaces."""
        return all(self.node < other for other in self.beside)


class _Set(NamedTuple):
    """Nodes that one of the group with this number replaces, and where their pods go."""

    nodes: Sequence[Node]
    number: int
    moves: tuple[tuple[Move, ...], ...]


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """`kept` says why of all other nodes; `stranded` are nodes that go already, whose pods have no other place now."""

    removals: tuple[Removal, ...]
    kept: dict[NodeKey, str]
    stranded: frozenset[NodeKey]


def shrink(
    seen: Seen, policy: Policy, config: SchedulerConfig, stock: Stock, now_ms: int, going: Collection[NodeKey] = ()
) -> Shrinkage:
    """`going` are the nodes that are being removed already."""
    return _Shrinking(seen, policy, config, stock, now_ms, going).plan()


class _Shrinking:
    def __init__(
        self, seen: Seen, policy: Policy, config: SchedulerConfig, stock: Stock, now_ms: int, going: Collection[NodeKey]
    ) -> None:
        self._seen, self._policy, self._stock, self._now_ms, self._going = seen, policy, stock, now_ms, going
        self._trial = Trial(seen, config)
        self._numbers = {group.key: number for number, group in enumerate(seen.groups)}
        self._prices = effective_prices(seen.groups).tolist()
        self._price = sum(self._price_of(node) for node in seen.nodes) or 1.0
        self._pods = sum(len(_movable(node)) for node in seen.nodes) or 1
        self._limits = limits_of(seen, policy)
        self._names = {self._trial.row_of(node.key): node.key for node in seen.nodes}
        self._left = {group.key: group.size - group.least for group in seen.groups}
        self._room = {group.key: group.most - group.size for group in seen.groups}
        self._taking: set[NodeKey] = set()
        # By pod set of the head-room, how many have room before any node goes.
        self._spare: dict[str, int] = {}
        self._removals: list[Removal] = []
        self._kept: dict[NodeKey, str] = {}

    def plan(self) -> Shrinkage:
        trial = self._trial
        trial.resize(coming(self._seen))
        nodes = {node.key: node for node in self._seen.nodes}
        leaving = [nodes[key] for key in sorted(self._going) if key in nodes]
        for node in leaving:
            trial.close(node.key)
            group = GroupKey(node.cluster, node.group)
            if group in self._left:  # It may not be declared any more.
                self._left[group] -= 1
        for rows in trial.place(self._seen.pending):
            self._taking.update(self._names[row] for row in rows.tolist() if row in self._names)
        trial.close_new()
        stranded = frozenset(node.key for node in leaving if not self._empty(node))
        self._spare = self._head_room(self._seen.head_room)
        others = [node for node in self._seen.nodes if node.key not in self._going]
        lacking = []
        for node in sorted(others, key=lambda node: (len(_movable(node)), -self._price_of(node), node.key)):
            if (reason := self._refusal(node)) or (reason := self._remove(node)):
                self._kept[node.key] = reason
                if reason == NO_PLACE:
                    lacking.append(node)
        for cluster in self._seen.clusters:
            self._consolidate([node for node in lacking if node.cluster == cluster.name])
        for node in sorted(lacking, key=lambda node: (-self._price_of(node), node.key)):
            if node.key in self._kept and not self._refusal(node):
                self._replace([node])
        return Shrinkage(tuple(self._removals), self._kept, stranded)

    def _empty(self, node: Node) -> bool:
        """Puts the pods of a node that goes already elsewhere, if they have places."""
        moves = self._moved(node)
        self._taking.update(move.to for move in moves or () if move.to is not None)
        return moves is not None

    def _price_of(self, node: Node) -> float:
        number = self._numbers.get(GroupKey(node.cluster, node.group))
        return float(self._prices[number]) if number is not None else node.price

    def _refusal(self, node: Node) -> str:
        """Why it may not go, whether or not its pods fit elsewhere; empty if it may."""
        group = GroupKey(node.cluster, node.group)
        full = len(self._removals) + len(self._going) >= self._policy.most_draining
        reasons = (
            (group not in self._numbers, NO_GROUP),
            (not node.ready or node.unschedulable, NOT_READY),
            (bool(node.kept), node.kept),
            (self._left.get(group, 0) <= 0, AT_LEAST),
            (node.key in self._taking, TAKES_PODS),
            (full, ENOUGH),
        )
        found = next((reason for applies, reason in reasons if applies), "")
        return found or next(_forbidden(self._seen, _movable(node)), "")

    def _remove(self, node: Node) -> str:
        """Takes it out of the fleet, or says why not."""
        trial, mark = self._trial, self._trial.mark()
        trial.close(node.key)
        moves = self._moved(node)
        reason = NO_PLACE
        if moves is not None:
            terms = self._terms(self._price_of(node), len(moves))
            worth = sum(weight * value for weight, value in terms.values())
            reason = NOT_WORTH if worth <= 0 else "" if self._keeps_head_room(node.cluster) else HEAD_ROOM
            if not reason:
                self._accept(Removal(node.key, GroupKey(node.cluster, node.group), moves, worth, terms))
                return ""
            trial.take_back(mark)
            trial.put_back(node.key)
        trial.open(node.key)
        return reason

    def _head_room(self, wanted: Iterable[PodSet]) -> dict[str, int]:
        """How many of these have room on the fleet as it is."""
        trial, mark, pod_sets = self._trial, self._trial.mark(), list(wanted)
        found = {item.key: len(rows) for item, rows in zip(pod_sets, trial.place(pod_sets), strict=True)}
        trial.take_back(mark)
        return found

    def _keeps_head_room(self, cluster: str) -> bool:
        """Whether as much of the head-room has room as before, as far as it is this cluster's."""
        own = [item for item in self._seen.head_room if not item.demand.clusters or cluster in item.demand.clusters]
        return all(count >= self._spare[key] for key, count in self._head_room(own).items())

    # --- in place of which one is made ---

    def _consolidate(self, candidates: Iterable[Node]) -> None:
        """Takes out of the fleet the nodes of a cluster that one new node replaces best, if any."""
        found = list(self._first_ones(candidates))
        sets = (self._most_by(number, found) for number in range(len(self._prices)))
        best = max(filter(None, sets), key=lambda each: (self._worth(each), -each.number), default=None)
        if best is not None:
            self._replace(best.nodes, (best.number,))

    def _first_ones(self, candidates: Iterable[Node]) -> Iterator[Node]:
        """Those of which all may go together, by what that disrupts."""
        places = self._policy.most_draining - len(self._removals) - len(self._going)
        left = dict(self._left)
        for node in sorted(candidates, key=lambda node: (len(_movable(node)), -self._price_of(node), node.key)):
            group = GroupKey(node.cluster, node.group)
            if places > 0 and not self._refusal(node) and left[group] > 0:
                places, left[group] = places - 1, left[group] - 1
                yield node

    def _most_by(self, number: int, candidates: Iterable[Node]) -> _Set | None:
        """As many of the first candidates as one node of a group replaces; two at least."""
        group, found = self._seen.groups[number], None
        # One of its own would be kept rather than replaced.
        nodes = [node for node in candidates if (node.cluster, node.group) != group.key]
        low, high = 2, len(nodes)
        while low <= high:
            count = (low + high) // 2
            if not self._pays(number, nodes[:count]):
                low = count + 1
                continue
            moves = self._try(number, nodes[:count])
            if moves is None:
                high = count - 1
            else:
                found, low = _Set(nodes[:count], number, moves), count + 1
        return found

    def _replace(self, nodes: Sequence[Node], numbers: Iterable[int] | None = None) -> None:
        """Takes them out of the fleet, with one of the cheapest group in their place that will do, if there is one."""
        cheapest = sorted(range(len(self._prices)), key=lambda number: (self._prices[number], number))
        for number in cheapest if numbers is None else numbers:
            moves = self._try(number, nodes, keep=True) if self._pays(number, nodes) else None
            if moves is None:
                continue
            chosen, keys = _Set(nodes, number, moves), [node.key for node in nodes]
            self._room[self._seen.groups[number].key] -= 1
            worth, terms = self._worth(chosen), self._terms_of(number, nodes)
            for node, moved in zip(nodes, moves, strict=True):
                beside = tuple(sorted(key for key in keys if key != node.key))
                group = GroupKey(node.cluster, node.group)
                self._accept(Removal(node.key, group, moved, worth, terms, self._seen.groups[number].key, beside))
                del self._kept[node.key]
            return

    def _pays(self, number: int, nodes: Sequence[Node]) -> bool:
        """Whether a new node of a group, which there may be, is worth it in place of these."""
        group, price = self._seen.groups[number], sum(self._price_of(node) for node in nodes)
        if self._prices[number] >= price * (1 - self._policy.least_saving):
            return False
        if any(node.cluster != group.cluster for node in nodes):
            return False
        if self._room[group.key] <= 0 or not self._may_grow(group.key):
            return False
        return sum(weight * value for weight, value in self._terms_of(number, nodes).values()) > 0

    def _terms_of(self, number: int, nodes: Sequence[Node]) -> dict[str, tuple[float, float]]:
        saved = sum(self._price_of(node) for node in nodes) - self._prices[number]
        return self._terms(saved, sum(len(_movable(node)) for node in nodes))

    def _worth(self, chosen: _Set) -> float:
        return sum(weight * value for weight, value in self._terms_of(chosen.number, chosen.nodes).values())

    def _try(self, number: int, nodes: Sequence[Node], *, keep: bool = False) -> tuple[tuple[Move, ...], ...] | None:
        """Where pods of these nodes go with one new node of a group in their place; None where one has no place. With
        `keep` they are there from then on, if all have one; else all is as before.
        """
        trial, mark = self._trial, self._trial.mark()
        trial.add(number, 1)
        for node in nodes:
            trial.close(node.key)
            trial.lift(node.key)
        new, moves = trial.new_rows(number)[-1], list[tuple[Move, ...]]()
        for node in nodes:
            moved = self._placed(node, new)
            if moved is None:
                break
            moves.append(moved)
        complete = len(moves) == len(nodes) and self._keeps_head_room(nodes[0].cluster)
        found = tuple(moves) if complete else None
        if found is None or not keep:
            trial.take_back(mark)
            for node in nodes:
                trial.put_back(node.key)
                trial.open(node.key)
            trial.drop(number)
        return found

    def _may_grow(self, group: GroupKey) -> bool:
        """Old and new are there together for a while: limits of the fleet have to leave room for that."""
        wanted = [int(other.key == group) for other in self._seen.groups]
        for removal in self._removals:
            if removal.replacement is not None and removal.leads:
                wanted[self._numbers[removal.replacement]] += 1
        return self._stock.is_open(group, self._now_ms) and bool(allowed_by(self._limits, np.array([wanted]))[0])

    def _accept(self, removal: Removal) -> None:
        self._removals.append(removal)
        self._left[removal.group] -= 1
        self._taking.update(move.to for move in removal.moves if move.to is not None)

    def _terms(self, saved: float, moved: int) -> dict[str, tuple[float, float]]:
        rewards = self._policy.rewards
        return {
            "price": (rewards.price, saved / self._price),
            "disruption": (rewards.disruption, -moved / self._pods),
        }

    def _moved(self, node: Node) -> tuple[Move, ...] | None:
        """Puts its pods elsewhere; None, with all as before, where one finds no place."""
        trial, mark = self._trial, self._trial.mark()
        trial.lift(node.key)
        moves = self._placed(node)
        if moves is None:
            trial.take_back(mark)
            trial.put_back(node.key)
        return moves

    def _placed(self, node: Node, new: int = -1) -> tuple[Move, ...] | None:
        """Where its pods get a place, on the row `new` as well; None where one finds none."""
        moves: list[Move] = []
        for pod in _movable(node):
            demand = replace(pod.demand, clusters=(node.cluster,))
            rows = self._trial.place_one(PodSet(pod.key, demand, 1, facts=pod.facts)).tolist()
            if not rows or (rows[0] not in self._names and rows[0] != new):
                return None
            moves.append(Move(pod.key, self._names.get(rows[0])))
        return tuple(moves)


def _movable(node: Node) -> list[Pod]:
    """What has to go somewhere if the node goes."""
    return [pod for pod in node.pods if not pod.daemon and not pod.leaving]


def _forbidden(seen: Seen, pods: Iterable[Pod]) -> Iterator[str]:
    """Why pods may not be evicted now. A budget that has something left is enough: pods go one after the other."""
    for pod in pods:
        if pod.pinned:
            yield f"{pod.key} {pod.pinned}"
        for budget in pod.budgets:
            if seen.budgets.get(budget, 0) < 1:
                yield f"the disruption budget {budget} leaves nothing for {pod.key}"
