"""Replicas that were placed in a cluster and not seen there yet: room is held for them on the nodes of their share.

Which of a share's nodes still hold room is a function of the share and of the pods that were seen bound, whatever
the order in which both became known:

1. A pod on a node of the share takes over one of that node's replicas (the last first): these are matched.
2. Every other pod of the pod set stands for some replica too: as many of the rest, from the end of the share, are
   given up. Not where we bind: there a pod elsewhere is one that has yet to go, and the replica is yet to come.
3. What is left holds room. So pods and reservations together are never fewer than the placed replicas, and where there
   are no more pods than that, never more.

Kept incrementally: `_limit` is a position of the share, and exactly the unmatched replicas before it hold room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.scheduler.decision.seen.slots import Hold, NodeSlot, NodeSlots
from services.scheduler.decision.table.neighbours import PodFacts
from services.scheduler.decision.table.requests import Request


class ShareKey(NamedTuple):
    workload: str
    pod_set: str
    cluster: str


class ShareReservations:
    """One pod set in one cluster. `request` is what each replica takes, None where replicas hold no room; `facts` are
    what others may know of its pods, None where nobody knows on which nodes they will be.

    `seen` are its pods that were seen bound, `ready` those of them that were last seen ready.
    """

    __slots__ = (
        "_bound",
        "_by_slot",
        "_holds",
        "_limit",
        "_matched",
        "_nodes",
        "_seen",
        "_slots",
        "facts",
        "key",
        "ready",
        "request",
        "seen",
    )

    @classmethod
    def of_one(cls, key: ShareKey, slots: NodeSlots, hold: Hold, *, bound: bool) -> ShareReservations:
        """A share of one replica, of which no pod was seen: what `begin` makes of it."""
        share = cls.__new__(cls)
        share.key, share._slots, share.seen, share.ready = key, slots, 0, 0
        share.request, share.facts, share._bound = hold.request, hold.facts, bound
        slot = hold.slot
        share._nodes, share._holds, share._matched, share._limit = (slot,), [hold], bytearray(1), 1
        share._by_slot, share._seen = None, {}
        hold.owner = share
        slot.uses += 1
        return share

    def __init__(self, key: ShareKey, slots: NodeSlots) -> None:
        self.key = key
        self.seen = 0
        self.ready = 0
        self._slots = slots
        self.request: Request | None = None
        self.facts: PodFacts | None = None
        self._nodes: Sequence[NodeSlot] = ()
        self._holds: list[Hold | None] = []
        self._matched = bytearray()
        # Made when the first pod is seen: most shares are decided before that.
        self._by_slot: dict[NodeSlot, list[int]] | None = None
        self._seen: dict[NodeSlot, int] = {}
        self._limit = 0
        self._bound = False

    @property
    def empty(self) -> bool:
        return not self._nodes and not self.seen

    @property
    def bound(self) -> bool:
        """Whether Flotilla binds the pods, each to the node of its replica."""
        return self._bound

    @property
    def replicas(self) -> int:
        return len(self._nodes)

    def on(self, slot: NodeSlot) -> tuple[Sequence[int], int]:
        """The positions of the share that are on a node, and how many of its pods were seen there."""
        return self._indexes(slot), self._seen.get(slot, 0)

    @property
    def slots_seen(self) -> Iterable[NodeSlot]:
        """Where its pods were seen."""
        return self._seen

    def hold_at(self, index: int) -> Hold | None:
        """The room held for the replica at a position of the share, if it is held."""
        return self._holds[index] if index < len(self._holds) else None

    def set_share(
        self,
        nodes: Sequence[NodeSlot],
        request: Request | None,
        ready: Sequence[Hold] = (),
        facts: PodFacts | None = None,
        *,
        bound: bool = False,
    ) -> None:
        """The share's nodes from now on; `ready` are holds that were made for it already; `bound`: by us, to them."""
        self.facts = facts
        available: dict[tuple[NodeSlot, Request], list[Hold]] = {}
        for hold in (*ready, *(hold for hold in self._holds if hold is not None)):
            hold.owner = self
            available.setdefault((hold.slot, hold.request), []).append(hold)
        for slot in nodes:
            self._slots.use(slot)
        former, self._nodes, self.request = self._nodes, nodes, request
        self._match()
        # What a share that is no more had is bound as it was.
        self._bound = bound if nodes else bound or self._bound
        others = sum(self._matched) if bound else self.seen
        keep = max(0, len(self._nodes) - others) if request is not None else 0
        self._limit = 0
        while keep:
            slot = self._nodes[self._limit]
            if not self._matched[self._limit]:
                waiting = available.get((slot, request)) if request is not None else None
                if waiting:
                    hold = self._holds[self._limit] = waiting.pop()
                    self._slots.know(hold, facts)
                else:
                    self._hold(self._limit)
                keep -= 1
            self._limit += 1
        for left in available.values():
            for hold in left:
                self._slots.release(hold)
        self._leave(former)

    def _leave(self, former: Sequence[NodeSlot]) -> None:
        if self.seen and former:
            # Pods of replicas that were given up are about to go.
            for slot in Counter(former) - Counter(self._nodes) if self._bound else self._seen:
                self._slots.touch(slot)
        for slot in former:
            self._slots.leave(slot)

    def begin(self, ready: Sequence[Hold], *, bound: bool) -> None:
        """The first that is known of a share: holds for each of its replicas, in their order, of equal pods."""
        self._nodes = [hold.slot for hold in ready]
        for hold in ready:
            hold.owner = self
            hold.slot.uses += 1
        first = ready[0]
        self.request, self.facts, self._bound = first.request, first.facts, bound
        self._holds = [*ready]
        self._matched = bytearray(len(ready))
        self._limit = len(ready)

    def _match(self) -> None:
        """Rule 1, for all pods at once."""
        self._holds = [None] * len(self._nodes)
        self._matched = bytearray(len(self._nodes))
        self._by_slot = None
        for slot, seen in self._seen.items():
            indexes = self._indexes(slot)
            for index in indexes[len(indexes) - min(seen, len(indexes)) :]:
                self._matched[index] = True

    def _indexes(self, slot: NodeSlot) -> Sequence[int]:
        """The positions of the share that are on a node."""
        if self._by_slot is None:
            self._by_slot = {}
            for index, node in enumerate(self._nodes):
                self._by_slot.setdefault(node, []).append(index)
        return self._by_slot.get(slot, ())

    def pod_seen(self, slot: NodeSlot) -> Hold | None:
        """A pod of the pod set is on a node; a hold that it takes over is no longer ours."""
        indexes = self._indexes(slot)
        before = self._seen.get(slot, 0)
        self._seen[slot] = before + 1
        self.seen += 1
        if before < len(indexes):
            index = indexes[len(indexes) - 1 - before]
            self._matched[index] = True
            hold, self._holds[index] = self._holds[index], None
            if hold is not None:
                hold.owner = None
                return hold
        if not self._bound:
            self._give_up_one()
        return None

    def pod_gone(self, slot: NodeSlot) -> None:
        """A pod that was seen on a node is no longer there."""
        indexes = self._indexes(slot)
        left = self._seen[slot] - 1
        self.seen -= 1
        if left:
            self._seen[slot] = left
        else:
            del self._seen[slot]
        index = -1
        if left < len(indexes):
            index = indexes[len(indexes) - 1 - left]
            self._matched[index] = False
        if self._bound:
            if index >= 0:
                self._hold(index)
            return
        if self.seen >= len(self._nodes):
            # Pods still stand for every replica.
            self._limit = min(self._limit, index) if index >= 0 else self._limit
        elif 0 <= index < self._limit:
            self._hold(index)
        else:
            self._take_back_one()

    def _hold(self, index: int) -> None:
        if self.request is not None:
            self._holds[index] = self._slots.hold(self._nodes[index], self.request, self, self.facts)

    def _give_up_one(self) -> None:
        while self._limit:
            self._limit -= 1
            hold = self._holds[self._limit]
            if hold is not None:
                self._holds[self._limit] = None
                self._slots.release(hold)
                return

    def _take_back_one(self) -> None:
        while self._limit < len(self._nodes):
            index = self._limit
            self._limit += 1
            if not self._matched[index]:
                self._hold(index)
                return
