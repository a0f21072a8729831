"""The orders of all node groups: what was asked of each, what came of it, and what is asked next.

A group begins as it is found, and nothing is ordered of it before a plan wants it otherwise. What is there counts: a
group that was made larger by somebody else is as large as it is, since an order of fewer nodes would let its provider
choose which go. Nodes go by name alone.

An order has an epoch, which is the autoscaler's, and a generation, which grows with every order of its group. Equal
orders are one order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from services.autoscaler.decision.nodes import telling
from services.autoscaler.decision.nodes.draining import Drains, Grow, Keep, Remove, Times
from services.autoscaler.decision.nodes.fleet import Sized
from services.autoscaler.decision.nodes.growing import Growth
from services.autoscaler.decision.nodes.memory import OrderMemory, PlansMemory
from services.autoscaler.decision.nodes.orders import Orders
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.seen import GroupKey, NodeKey, Seen
from services.autoscaler.decision.nodes.shrinking import Shrinkage
from services.autoscaler.decision.nodes.stock import Shortage, Stock
from services.autoscaler.decision.nodes.trail import Fleet
from shared.events.v1.node_groups import (
    NodeGroupPlanned,
    NodeGroupReported,
    NodeRemoval,
    NodesKept,
    NodesPlanned,
    SizeChosen,
)
from shared.events.v1.results import CommandReported
from shared.model.identities import NODE_GROUP_SUBJECT
from shared.model.node_groups import FORBIDDEN, NOT_FOUND, OUT_OF_STOCK, PROVIDER_UNAVAILABLE, REFUSED

# Reasons of an order.
FOUND: Final = "Found"
LEAST: Final = "LeastSize"
PODS_WAIT: Final = "PodsWait"
HEAD_ROOM: Final = "HeadRoom"
NOT_NEEDED: Final = "NotNeeded"
CHEAPER: Final = "Cheaper"
STAYS: Final = "Stays"
NOT_COME: Final = "DidNotCome"
LACKING: Final = OUT_OF_STOCK
# What an executor says of a provider that will not make nodes by asking again; the other counts when it has lasted.
_LACKING: Final = frozenset({OUT_OF_STOCK, NOT_FOUND, FORBIDDEN, REFUSED})
_LASTING_MS: Final = 60_000


class Told(NamedTuple):
    """A record of `fleet.nodegroups`, None where the group is no more; `ordered` is what its command is made of, or
    what its command was, which ends then.
    """

    key: str
    planned: NodeGroupPlanned | None
    ordered: NodeGroupPlanned | None


@dataclass(slots=True)
class _Order:
    size: int
    reason: str
    removing: dict[str, NodeRemoval] = field(default_factory=dict)
    message: str = ""
    chosen: SizeChosen | None = None
    kept: tuple[NodesKept, ...] = ()
    reported: NodeGroupReported | None = None
    told: NodeGroupPlanned | None = None

    def set(self, size: int, reason: str, message: str) -> None:
        self.size, self.reason, self.message = size, reason, message

    def memory(self, group: GroupKey) -> OrderMemory:
        return OrderMemory(
            group=group,
            size=self.size,
            reason=self.reason,
            message=self.message,
            removing=tuple(self.removing.values()),
            chosen=self.chosen,
            kept=self.kept,
            reported=self.reported,
            told=_plain(self.told),
        )

    @classmethod
    def remembered(cls, memory: OrderMemory) -> Self:
        return cls(
            size=memory.size,
            reason=memory.reason,
            removing={item.node: item for item in memory.removing},
            message=memory.message,
            chosen=memory.chosen,
            kept=memory.kept,
            reported=memory.reported,
            told=memory.told,
        )


class NodePlans:
    """See the module. `fleet` is what is known; all else is what was done about it."""

    def __init__(self, fleet: Fleet, policy: Policy, times: Times) -> None:
        self._fleet, self._policy = fleet, policy
        self.stock, self.drains = Stock(), Drains(times)
        self._coming = Orders(times.provision)
        self._orders: dict[GroupKey, _Order] = {}
        self._gone: dict[str, NodeGroupPlanned | None] = {}
        self._lacking: dict[GroupKey, str] = {}
        # Whose provider does not answer, since when that was heard.
        self._silent: dict[GroupKey, int] = {}
        self._refused: dict[NodeKey, str] = {}
        self._plan: NodesPlanned | None = None
        self._plan_told: NodesPlanned | None = None
        self._epoch = 0

    # --- what the log says ---

    def restore(self, key: str, planned: NodeGroupPlanned | None) -> None:
        """What was told last. None is a tombstone."""
        cluster, _, name = key.partition("/")
        group = GroupKey(cluster, name)
        if planned is None:
            self._orders.pop(group, None)
            return
        self._epoch = max(self._epoch, planned.epoch)
        self._orders[group] = _Order(
            size=planned.size,
            reason=planned.reason,
            removing={item.node: item for item in planned.removing},
            message=planned.message,
            chosen=planned.chosen,
            kept=planned.kept,
            reported=planned.reported,
            told=planned,
        )

    def restore_plan(self, plan: NodesPlanned | None) -> None:
        self._plan = self._plan_told = plan

    def begin(self, now_ms: int) -> list[NodeGroupPlanned]:
        """When all was read: orders that no executor has confirmed, whose commands may be missing."""
        unconfirmed = []
        # Also above those of which the log knows no more.
        self._epoch = max(self._epoch + 1, now_ms // 1000)
        for group, order in self._orders.items():
            assert order.told is not None
            # Not after now: whoever said it may have had a clock that was ahead.
            for item in order.removing.values():
                self.drains.resume(NodeKey(group.cluster, item.node), group, min(item.at, now_ms))
            if order.told.lacked_at is not None:
                self.stock.resume(group, Shortage(min(order.told.lacked_at, now_ms), order.told.closed_ms))
            if not order.told.confirmed:
                unconfirmed.append(order.told)
        return unconfirmed

    def report(self, report: CommandReported, now_ms: int) -> None:
        """What an executor says of an order; of an older one it says nothing."""
        group = GroupKey(report.cluster, report.subject.removeprefix(NODE_GROUP_SUBJECT))
        order = self._orders.get(group)
        told = order.told if order is not None else None
        if order is None or told is None or (report.epoch, report.generation) != (told.epoch, told.generation):
            return
        said = report.node_group
        reason = (said.reason if said is not None else "") or report.reason
        message = (said.message if said is not None else "") or report.message
        order.reported = NodeGroupReported(
            epoch=report.epoch,
            generation=report.generation,
            outcome=report.outcome,
            reason=reason,
            message=message,
            size=said.size if said is not None else None,
            ready=said.ready if said is not None else 0,
            at=report.reported_at,
        )
        since_ms = self._silent.pop(group, now_ms)
        if reason == PROVIDER_UNAVAILABLE:
            # An executor that goes on asking says so once.
            self._silent[group] = since_ms
        if reason in _LACKING:
            self._lacking[group] = f"{reason}: {message}" if message else reason
        for failure in report.failures:
            node = NodeKey(report.cluster, failure.name)
            if failure.kind == "Node" and failure.name in order.removing:
                self._refused[node] = f"{failure.reason}: {failure.message}" if failure.message else failure.reason

    # --- what is remembered ---

    def memory(self) -> PlansMemory:
        """All that the next plan goes by, but for the fleet, the policy and the time."""
        return PlansMemory(
            epoch=self._epoch,
            orders=tuple(order.memory(group) for group, order in self._orders.items()),
            gone=tuple((key, _plain(told)) for key, told in self._gone.items()),
            lacking=tuple(self._lacking.items()),
            silent=tuple(self._silent.items()),
            refused=tuple(self._refused.items()),
            plan=self._plan,
            plan_told=self._plan_told,
            stock=self.stock.memory(),
            drains=self.drains.memory(),
            awaited=self._coming.memory(),
        )

    def remember(self, memory: PlansMemory) -> None:
        """Goes on with what another remembered."""
        self._epoch = memory.epoch
        self._orders = {item.group: _Order.remembered(item) for item in memory.orders}
        self._gone = dict(memory.gone)
        self._lacking, self._silent = dict(memory.lacking), dict(memory.silent)
        self._refused = dict(memory.refused)
        self._plan, self._plan_told = memory.plan, memory.plan_told
        self.stock.remember(memory.stock)
        self.drains.remember(memory.drains)
        self._coming.remember(memory.awaited)

    # --- what there is ---

    @property
    def any_group(self) -> bool:
        """Whether any is declared."""
        return bool(self._fleet.groups)

    @property
    def plan(self) -> NodesPlanned | None:
        """The last one."""
        return self._plan

    def failures(self) -> dict[GroupKey, str]:
        """Why what was asked for last did not come, of the groups of which that is the last word."""
        orders = self._orders.items()
        return {group: order.message for group, order in orders if order.reason in (LACKING, NOT_COME)}

    def look(self, now_ms: int, *, coming: bool) -> Seen:
        """What a plan is made of, after what is there was compared with what was asked for."""
        there, known = self._fleet.there(), self._fleet.groups
        for group in [group for group in self._orders if group not in known]:
            self._gone[_key(group)] = self._orders.pop(group).told
        open_now = self._fleet.open_clusters(now_ms)
        for group, declared in known.items():
            # Of who is not heard nobody knows what is there.
            if group.cluster in open_now:
                self._adopt(group, there[group], declared.min_size, now_ms)
        self.stock.keep(known)
        sized = {group: Sized(order.size, frozenset(order.removing)) for group, order in self._orders.items()}
        return self._fleet.seen(sized, now_ms, coming=coming)

    def _adopt(self, group: GroupKey, there: set[str], least: int, now_ms: int) -> None:
        order = self._orders.get(group)
        if order is None:
            order = self._orders[group] = _Order(len(there), FOUND)
        order.removing = {name: item for name, item in order.removing.items() if name in there}
        present = len(there) - len(order.removing)
        if order.reason == FOUND and not (order.told and order.told.generation):
            order.size = present
        why = self._lacking.pop(group, "")
        if now_ms - self._silent.get(group, now_ms) >= _LASTING_MS:
            del self._silent[group]
            why = f"{PROVIDER_UNAVAILABLE}: for {_LASTING_MS // 1000} s"
        if why and order.size > present:
            self.stock.lacked(group, now_ms)
            order.set(max(present, least), LACKING, why)
        if present > order.size:
            order.set(present, FOUND, f"{present} nodes are there")
        if order.size < least:
            order.set(least, LEAST, f"its owner wants {least} at least")

    # --- what is done ---

    def wait(self, seen: Seen, now_ms: int) -> bool:
        """Gives up what was asked for and does not come; whether there was any such."""
        before = {group: order.size for group, order in self._orders.items()}
        for fewer in self._coming.step(seen, self.stock, now_ms):
            order = self._orders[fewer.group]
            going = next(item.size for item in seen.groups if item.key == fewer.group) - order.size
            size = fewer.size - going
            if size < order.size:
                order.set(size, NOT_COME, f"{order.size - size} nodes did not come in time")
        return any(order.size != before[group] for group, order in self._orders.items())

    def nothing_waits(self, now_ms: int) -> None:
        """No plan is needed."""
        self._plan = NodesPlanned(planned_at=now_ms)

    def grew(self, seen: Seen, growth: Growth, now_ms: int) -> None:
        """A plan for who waits: nodes that are on their way out stay first."""
        self._plan = telling.plan_of(seen, growth, now_ms)
        for choice in growth.choices:
            order = self._orders.get(choice.group)
            if order is None:
                continue
            added = choice.size - choice.before
            back = sorted(order.removing)[:added]
            for name in back:
                del order.removing[name]
                self.drains.take_back(NodeKey(choice.group.cluster, name), now_ms)
            waiting = sum(item.count for item in seen.pending)
            stay = f", {len(back)} of them were to go" if back else ""
            whom = f"{waiting} pods that wait" if waiting else "head-room"
            reason = PODS_WAIT if waiting else HEAD_ROOM
            order.set(order.size + added, reason, f"{added} nodes more for {whom}{stay}")
            order.chosen = telling.chosen(choice, growth, now_ms)

    def shrank(self, seen: Seen, shrinkage: Shrinkage, now_ms: int) -> None:
        """Which nodes are not needed: some begin to go, some stay after all."""
        refused, self._refused = self._refused, {}
        for item in self.drains.step(seen, shrinkage, self._policy, self.stock, now_ms, refused):
            match item:
                case Grow(group, node, beside):
                    names = ", ".join(each.name for each in (node, *beside))
                    self._orders[group].set(self._orders[group].size + 1, CHEAPER, f"one node more in place of {names}")
                case Remove(removal):
                    order, name = self._orders[removal.group], removal.node.name
                    order.removing[name] = telling.removal_of(removal, now_ms)
                    reason = NOT_NEEDED if removal.replacement is None else CHEAPER
                    order.set(order.size - 1, reason, f"{name} goes: its {len(removal.moves)} pods fit elsewhere")
                case Keep(node, group, reason):
                    known = self._orders.get(group)
                    if known is not None and known.removing.pop(node.name, None) is not None:
                        known.set(known.size + 1, STAYS, f"{node.name} stays: {reason}")
        nodes: dict[GroupKey, list[NodeKey]] = {}
        for each in seen.nodes:
            nodes.setdefault(GroupKey(each.cluster, each.group), []).append(each.key)
        for group, order in self._orders.items():
            order.kept = telling.kept_of(shrinkage, nodes.get(group, ()))

    # --- what is told ---

    def told(self, now_ms: int, inputs: Mapping[str, Mapping[int, int]]) -> Iterator[Told]:
        """What is another than was told. Call when the last ones are in the log, or will not be."""
        gone, self._gone = self._gone, {}
        for key, former in sorted(gone.items()):
            if former is not None:
                yield Told(key, None, former if former.generation else None)
        there = self._fleet.there()
        for group, order in self._orders.items():
            declared = self._fleet.groups.get(group)
            if declared is None:
                continue
            ordered = telling.order_of(declared, order.size, order.removing)
            digest, former = telling.digest_of(ordered), order.told
            # As it was found: nobody has to be told to leave it so.
            untouched = (former is None or not former.generation) and order.reason == FOUND
            new = not untouched and (former is None or former.digest != digest)
            shortage = self.stock.shortage(group)
            planned = NodeGroupPlanned(
                cluster=group.cluster,
                group=group.name,
                epoch=self._epoch if new or former is None else former.epoch,
                generation=(former.generation if former is not None else 0) + new,
                digest=digest,
                size=order.size,
                there=len(there[group]),
                reason=order.reason,
                message=order.message,
                planned_at=now_ms,
                provider=declared.provider,
                template=declared.template,
                removing=tuple(order.removing[name] for name in ordered.remove),
                chosen=order.chosen,
                kept=order.kept,
                lacked_at=shortage.at_ms if shortage is not None else None,
                closed_ms=shortage.for_ms if shortage is not None else 0,
                reported=order.reported,
                inputs={topic: dict(positions) for topic, positions in inputs.items()},
            )
            if former is None or new or _gist(planned) != _gist(former):
                order.told = planned
                yield Told(_key(group), planned, planned if new else None)

    def plan_told(self) -> NodesPlanned | None:
        """What is told of the fleet, if it is another than was told."""
        plan, former = self._plan, self._plan_told
        if plan is None or (former is not None and _plan_gist(plan) == _plan_gist(former)):
            return None
        self._plan_told = plan
        return plan


def _plain(planned: NodeGroupPlanned | None) -> NodeGroupPlanned | None:
    """Without the positions that had been read: nothing depends on them."""
    return planned.model_copy(update={"inputs": {}}) if planned is not None else None


def _key(group: GroupKey) -> str:
    return f"{group.cluster}/{group.name}"


def _gist(planned: NodeGroupPlanned) -> NodeGroupPlanned:
    """All of it but when it was said, and from what."""
    return planned.model_copy(update={"planned_at": 0, "inputs": {}})


def _plan_gist(plan: NodesPlanned) -> NodesPlanned:
    return plan.model_copy(update={"planned_at": 0})
