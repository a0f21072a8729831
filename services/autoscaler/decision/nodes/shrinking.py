"""Which nodes are not needed, since their pods fit elsewhere by the scheduler's own choices; which could be cheaper.

A node goes for `Σ r_i · u_i` of its group with one node less, against that of its size as it is: the part of the
fleet's price that is saved, against the part of its pods that move. Whoever waits, and the head-room, has its place
first. What moves stays in its cluster, since its controller makes it anew there, and goes to nodes that are there: what
is on its way may not come. A node that is to take any of these stays in the same plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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
ENOUGH = "as many nodes as may go at once do"


class Move(NamedTuple):
    """Where the scheduler would put a pod that is evicted; `to` is None where that is the node that is to be made."""

    pod: str
    to: NodeKey | None


@dataclass(frozen=True, slots=True)
class Removal:
    """`worth` is by how much the plan is better for it, by the terms `price` and `disruption`, weight and difference of
    utility. `replacement` is the group that has a new node first, None where none is needed.
    """

    node: NodeKey
    group: GroupKey
    moves: tuple[Move, ...]
    worth: float
    terms: dict[str, tuple[float, float]]
    replacement: GroupKey | None = None


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
        self._removals: list[Removal] = []
        self._kept: dict[NodeKey, str] = {}

    def plan(self) -> Shrinkage:
        trial = self._trial
        trial.resize(coming(self._seen))
        nodes = {node.key: node for node in self._seen.nodes}
        leaving = [nodes[key] for key in sorted(self._going) if key in nodes]
        for node in leaving:
            trial.close(node.key)
            if node.group:
                self._left[GroupKey(node.cluster, node.group)] -= 1
        for rows in (*trial.place(self._seen.pending), *trial.place(self._seen.head_room)):
            self._taking.update(self._names[row] for row in rows.tolist() if row in self._names)
        trial.close_new()
        stranded = frozenset(node.key for node in leaving if not self._empty(node))
        others = [node for node in self._seen.nodes if node.key not in self._going]
        lacking = []
        for node in sorted(others, key=lambda node: (len(_movable(node)), -self._price_of(node), node.key)):
            if (reason := self._refusal(node)) or (reason := self._remove(node)):
                self._kept[node.key] = reason
                if reason == NO_PLACE:
                    lacking.append(node)
        for node in sorted(lacking, key=lambda node: (-self._price_of(node), node.key)):
            if node.key not in self._taking and not self._refusal(node) and self._replace(node):
                del self._kept[node.key]
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
        if moves is not None:
            terms = self._terms(self._price_of(node), len(moves))
            worth = sum(weight * value for weight, value in terms.values())
            if worth > 0:
                self._accept(Removal(node.key, GroupKey(node.cluster, node.group), moves, worth, terms))
                return ""
            trial.take_back(mark)
            trial.put_back(node.key)
        trial.open(node.key)
        return NOT_WORTH if moves is not None else NO_PLACE

    def _replace(self, node: Node) -> bool:
        """Takes it out of the fleet, with a node of a cheaper group in its place, if there is one."""
        trial, price = self._trial, self._price_of(node)
        for number in sorted(range(len(self._prices)), key=lambda number: (self._prices[number], number)):
            group = self._seen.groups[number]
            if self._prices[number] >= price * (1 - self._policy.least_saving):
                break
            if group.cluster != node.cluster or self._room[group.key] <= 0 or not self._may_grow(group.key):
                continue
            terms = self._terms(price - self._prices[number], len(_movable(node)))
            worth = sum(weight * value for weight, value in terms.values())
            if worth <= 0:
                continue
            trial.add(number, 1)
            trial.close(node.key)
            moves = self._moved(node, trial.new_rows(number)[-1])
            if moves is not None:
                self._room[group.key] -= 1
                key = GroupKey(node.cluster, node.group)
                self._accept(Removal(node.key, key, moves, worth, terms, replacement=group.key))
                return True
            trial.drop(number)
            trial.open(node.key)
        return False

    def _may_grow(self, group: GroupKey) -> bool:
        """Old and new are there together for a while: limits of the fleet have to leave room for that."""
        wanted = [int(other.key == group) for other in self._seen.groups]
        for removal in self._removals:
            if removal.replacement is not None:
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

    def _moved(self, node: Node, new: int = -1) -> tuple[Move, ...] | None:
        """Puts its pods elsewhere, on the row `new` as well; None, with all as before, where one finds no place."""
        trial, mark = self._trial, self._trial.mark()
        trial.lift(node.key)
        moves: list[Move] = []
        for pod in _movable(node):
            demand = replace(pod.demand, clusters=(node.cluster,))
            rows = trial.place_one(PodSet(pod.key, demand, 1, facts=pod.facts)).tolist()
            if not rows or (rows[0] not in self._names and rows[0] != new):
                trial.take_back(mark)
                trial.put_back(node.key)
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
