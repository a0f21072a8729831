"""What is held on each node: by pods that were seen there, and by replicas that are expected there.

Pods and placements may be known before their node, and a node may go before its pods. So holds belong to a slot,
which has the node's name; a slot has a row of the node table only while the node exists, and then the row is
charged with exactly the holds of the slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from services.scheduler.decision.table.neighbours import Neighbours, PodFacts
from services.scheduler.decision.table.nodes import NodeFacts, NodeTable
from services.scheduler.decision.table.requests import Request

if TYPE_CHECKING:
    from services.scheduler.decision.seen.pods import SeenPod
    from services.scheduler.decision.seen.reservations import ShareKey, ShareReservations

NO_ROW = -1


class Hold:
    """Room for one pod on one node. A reservation has an `owner`, what a pod that was seen holds has its `pod`.

    `facts` are what others may know of the pod; None where it is not known to be there.
    """

    __slots__ = ("devices", "facts", "owner", "pod", "request", "slot")

    def __init__(
        self,
        slot: NodeSlot,
        request: Request,
        owner: ShareReservations | None,
        facts: PodFacts | None,
        devices: tuple[int, ...] = (),
    ) -> None:
        self.slot = slot
        self.facts = facts
        self.request = request
        self.owner = owner
        self.pod: SeenPod | None = None
        self.devices = devices


class NodeSlot:
    """`row` is NO_ROW while the node does not exist. `priced` says that the node's own label has its price.

    `uses` counts the shares and pods that refer to the slot; it is known as long as there are any. `names` has the name
    alone, for shares of one replica.
    """

    __slots__ = ("cluster", "holds", "name", "names", "priced", "row", "uses")

    def __init__(self, cluster: str, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.names = (name,)
        self.row = NO_ROW
        self.priced = False
        self.uses = 0
        self.holds: dict[Hold, None] = {}


class NodeSlots:
    def __init__(self, table: NodeTable, neighbours: Neighbours) -> None:
        self._table = table
        self._neighbours = neighbours
        self._slots: dict[str, dict[str, NodeSlot]] = {}
        self._by_row: dict[int, NodeSlot] = {}
        # The slot of a row: asked for so often that no function of Python's is between.
        self.by_row: Callable[[int], NodeSlot] = self._by_row.__getitem__

    def __iter__(self) -> Iterator[NodeSlot]:
        for slots in self._slots.values():
            yield from slots.values()

    def unfounded(self) -> Iterator[ShareKey]:
        """Shares with replicas that are expected on a node that does not exist."""
        for slot in self:
            if slot.row == NO_ROW:
                yield from (hold.owner.key for hold in slot.holds if hold.owner is not None)

    def is_overbooked(self, slot: NodeSlot) -> bool:
        """Whether more replicas are expected on a node than it has room for, whatever runs there: it was another node
        when they were placed.
        """
        expected = [hold.request.vector for hold in slot.holds if hold.owner is not None]
        return bool(expected) and bool((sum(expected) > self._table.allocatable[slot.row]).any())

    def of_cluster(self, cluster: str) -> list[NodeSlot]:
        return list(self._slots.get(cluster, {}).values())

    def get(self, cluster: str, name: str) -> NodeSlot | None:
        return self._slots.get(cluster, {}).get(name)

    def ensure(self, cluster: str, name: str) -> NodeSlot:
        slots = self._slots.get(cluster)
        if slots is None:
            slots = self._slots[cluster] = {}
        slot = slots.get(name)
        if slot is None:
            slot = slots[name] = NodeSlot(cluster, name)
        return slot

    def ensure_all(self, cluster: str, names: Iterable[str]) -> list[NodeSlot]:
        return [self.ensure(cluster, name) for name in names]

    def observe(self, facts: NodeFacts) -> NodeSlot:
        """The node exists, with these facts."""
        slot = self.ensure(facts.cluster, facts.name)
        if slot.row != NO_ROW and self._table.accepts(slot.row, facts):
            self._table.update(slot.row, facts)
            return slot
        self._detach(slot)
        slot.row = self._table.add(facts)
        self._by_row[slot.row] = slot
        for hold in slot.holds:
            self._charge(hold)
        return slot

    def forget(self, slot: NodeSlot) -> None:
        """The node is gone. What is held there stays known, in case that it comes back."""
        self._detach(slot)
        self._drop_unused(slot)

    def use(self, slot: NodeSlot) -> None:
        slot.uses += 1

    def leave(self, slot: NodeSlot) -> None:
        slot.uses -= 1
        self._drop_unused(slot)

    def hold(
        self, slot: NodeSlot, request: Request, owner: ShareReservations | None, facts: PodFacts | None = None
    ) -> Hold:
        hold = Hold(slot, request, owner, facts)
        slot.holds[hold] = None
        row = slot.row
        if row != NO_ROW:
            hold.devices = self._table.charge(row, request)
            if facts is not None:
                self._neighbours.add(row, facts, 1)
        return hold

    def taken(self, slot: NodeSlot, request: Request, devices: tuple[int, ...], facts: PodFacts | None) -> Hold:
        """What `hold` makes, on a node that exists and is charged with it already."""
        hold = Hold(slot, request, None, facts, devices)
        slot.holds[hold] = None
        if facts is not None and (facts.terms or self._neighbours.active):
            self._neighbours.add(slot.row, facts, 1)
        return hold

    def release(self, hold: Hold) -> None:
        slot = hold.slot
        del slot.holds[hold]
        if slot.row != NO_ROW:
            self._discharge(hold)
        self._drop_unused(slot)

    def take_back(self, holds: Iterable[Hold]) -> None:
        """Releases what was held in vain: there is no more room than there was before, and nothing is tried again."""
        freed = self._table.freed
        for hold in holds:
            self.release(hold)
        self._table.freed = freed

    def resize(self, hold: Hold, request: Request) -> None:
        """The hold takes another amount from now on."""
        if request is hold.request:
            return
        row = hold.slot.row
        if row != NO_ROW:
            self._table.discharge(row, hold.request, hold.devices)
            hold.devices = self._table.charge(row, request)
        hold.request = request

    def know(self, hold: Hold, facts: PodFacts | None) -> None:
        """What others may know of the pod from now on."""
        if hold.facts is not facts:
            row = hold.slot.row
            if row != NO_ROW and hold.facts is not None:
                self._neighbours.add(row, hold.facts, -1)
            hold.facts = facts
            if row != NO_ROW and facts is not None:
                self._neighbours.add(row, facts, 1)

    def try_resize(
        self, hold: Hold, request: Request, fits: Callable[[int], bool], facts: PodFacts | None = None
    ) -> bool:
        """Resizes where `fits` says so of the node's row, asked without this hold on it; else leaves it as it is.

        Where it fits, others may know `facts` of the pod, if they are given.
        """
        row = hold.slot.row
        if row == NO_ROW:
            return False
        self._discharge(hold)
        fitting = fits(row)
        if fitting:
            hold.request = request
            hold.facts = facts if facts is not None else hold.facts
        self._charge(hold)
        return fitting

    def lift(self, hold: Hold) -> None:
        """The room of a hold is free for a moment: to see what would fit then. See `NodeTable.lift`."""
        row = hold.slot.row
        if row != NO_ROW:
            self._table.lift(row, hold.request, hold.devices)
            if hold.facts is not None:
                self._neighbours.add(row, hold.facts, -1)

    def put_back(self, hold: Hold) -> None:
        """A hold has its room again, exactly as before it was lifted."""
        row = hold.slot.row
        if row != NO_ROW:
            self._table.put_back(row, hold.request, hold.devices)
            if hold.facts is not None:
                self._neighbours.add(row, hold.facts, 1)

    def touch(self, slot: NodeSlot) -> None:
        """Whose pods are on a node has changed, though not what they take."""
        if slot.row != NO_ROW:
            self._table.usage_log.add(slot.row, self._table.rows)

    def find_row(self, row: int) -> NodeSlot | None:
        return self._by_row.get(row)

    def present(self) -> Iterator[tuple[int, PodFacts]]:
        """The row of every pod of which others may know."""
        for slot in self._by_row.values():
            for hold in slot.holds:
                if hold.facts is not None:
                    yield slot.row, hold.facts

    def _charge(self, hold: Hold) -> None:
        row = hold.slot.row
        hold.devices = self._table.charge(row, hold.request)
        if hold.facts is not None:
            self._neighbours.add(row, hold.facts, 1)

    def _discharge(self, hold: Hold) -> None:
        row = hold.slot.row
        self._table.discharge(row, hold.request, hold.devices)
        if hold.facts is not None:
            self._neighbours.add(row, hold.facts, -1)

    def _detach(self, slot: NodeSlot) -> None:
        if slot.row == NO_ROW:
            return
        for hold in slot.holds:
            self._discharge(hold)
            hold.devices = ()
        self._table.remove(slot.row)
        del self._by_row[slot.row]
        slot.row = NO_ROW

    def _drop_unused(self, slot: NodeSlot) -> None:
        if slot.row == NO_ROW and not slot.holds and not slot.uses:
            slots = self._slots[slot.cluster]
            del slots[slot.name]
            if not slots:
                del self._slots[slot.cluster]
