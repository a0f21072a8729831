"""What has to start together gets its room in the end: the first that has waited long enough has it kept.

A gang, or a Job of several pods, holds no room while it waits, so that smaller workloads use it. Smaller ones might
do so for ever. So from `gang_patience_ms` after it was asked for, the first of those that wait in vain, in the
order of turns, has room kept: whoever has its turn behind it takes nothing of what it could use on the nodes on
which it is to start. Those are the nodes that have the greatest part free, as many as have room for all of it when
nothing else is there; and they stay these, whichever is idler later, unless it can start elsewhere at once. Nothing new
comes to them, so what is free there only grows, and it starts no later than when what runs there has ended. Who has a
turn before it (of a higher priority, older, or about as old and larger; of a queue with a smaller share) takes what it
finds, and so do replacements for what was lost. What would fit nowhere even on empty nodes has nothing kept.

No room is held between calls. The leader alone knows which nodes these are: its successor chooses anew. For whom they
are follows from what waits, and since when from its request. One at a time, so that no two keep what the other lacks.

As in Volcano's `reserve` (nodes with the most idle resources are locked for the job that is elected), and Kueue's
`StrictFIFO` as far as the order goes. Backfilling as in EASY would need to know how long pods run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads, starts_together
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.scoring.line import Place
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.slots import Hold
from services.scheduler.decision.table.arrays import BLOCK, IntArray, Rows
from shared.model.pods import WHOLE_DEVICE

# Of those that waited long enough so many are looked at, whether they fit at all.
_MOST_LOOKED_AT = 8
# Where nothing happened, so long passes until the next look: only time can have made a difference, and patience is
# a matter of minutes.
_LOOK_MS = 5_000

Drafts = Callable[[WorkloadRecord, int], list[PodSetDraft]]
# A queue's turn, and the place in its line.
Turn = tuple[bool, float, str, Place]
# Of what has its place by now: nobody is behind it.
_AT_ONCE: Turn = (True, float("inf"), "", (0, 0, 0.0, 0, ""))


class Reserve:
    """`head` is for whom room is kept, empty where for nobody. `version` changes with it."""

    def __init__(self, fleet: Fleet, workloads: Workloads, drafts: Drafts) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._drafts = drafts
        self._holds: list[Hold] = []
        self._now_ms = self._looked_ms = 0
        self._looked_at: tuple[int, ...] = ()
        # The rows on which the head is to start.
        self._chosen: Rows = np.zeros(0, np.intp)
        self.head = ""
        self.version = 0

    @property
    def kept(self) -> bool:
        """Whether the room is held at this moment."""
        return bool(self._holds)

    def look(self, now_ms: int) -> None:
        """For whom room is kept from now on."""
        self._now_ms = now_ms
        if not self._workloads.together and not self.head:
            return
        state = self._state()
        if state == self._looked_at and now_ms - self._looked_ms < _LOOK_MS:
            return
        self._looked_at, self._looked_ms = state, now_ms
        head, chosen = "", self._chosen[:0]
        for record in self._patient(now_ms):
            if (needs := self._needs(record)) is not None:
                head, chosen = record.key, np.array([*needs], np.intp)
                break
        self._chosen = chosen
        if head != self.head:
            self.head = head
            self.version += 1

    def comes_behind(self, key: str, queue: str, priority: int, requested_at: int, demands: Sequence[Demand]) -> bool:
        """Whether a workload has its turn behind the head."""
        head = self._workloads.live(self.head) if self.head and key != self.head else None
        if head is None:
            return False
        place = self._place(key, priority, requested_at, demands)
        if self._workloads.queues is None or queue == self._workloads.queues.of(head.placed.workload):
            return place > self._place_of(head)
        turns = [self._turn(queue, place, demand) for demand in demands]
        return bool(turns) and min(turns) > self._turn_of(head)

    def keep_from(self, record: WorkloadRecord) -> None:
        """Holds the room if a workload is behind the head, else lets it go: it is about to be tried."""
        queues, placed = self._workloads.queues, record.placed
        if not self.head:
            return
        queue = queues.of(placed.workload) if queues is not None else ""
        if not self.comes_behind(record.key, queue, placed.rank, placed.request.published_at, _short(record)):
            self.let_go()
        elif not self._holds:
            head = self._workloads.live(self.head)
            needs = self._needs(head) if head is not None else None
            self._holds = list(self._hold(needs)) if needs is not None else []

    def let_go(self) -> None:
        if self._holds:
            self._fleet.slots.take_back(self._holds)
            self._holds = []

    def _patient(self, now_ms: int) -> Sequence[WorkloadRecord]:
        """Those that waited long enough, in the order of their turns."""
        patience = self._fleet.config.gang_patience_ms
        records = (self._workloads.live(key) for key in self._workloads.together)
        found = [
            (self._turn_of(record), record)
            for record in records
            if record is not None and now_ms - record.placed.request.published_at >= patience
        ]
        return [record for _, record in sorted(found, key=lambda item: item[0])[:_MOST_LOOKED_AT]]

    def _turn_of(self, record: WorkloadRecord) -> Turn:
        queues, place = self._workloads.queues, self._place_of(record)
        if queues is None:
            return False, 0.0, "", place
        turns = (self._turn(queues.of(record.placed.workload), place, plan.demand) for plan, _ in _lacking(record))
        return min(turns, default=_AT_ONCE)

    def _turn(self, queue: str, place: Place, demand: Demand) -> Turn:
        queues = self._workloads.queues
        return (*queues.rank(queue, demand), queue, place) if queues is not None else (False, 0.0, "", place)

    def _place_of(self, record: WorkloadRecord) -> Place:
        placed = record.placed
        return self._place(record.key, placed.rank, placed.request.published_at, _short(record))

    def _place(self, key: str, priority: int, requested_at: int, demands: Iterable[Demand]) -> Place:
        """Where a workload is tried first: for the largest of its pods."""
        fleet = self._fleet
        size = max((fleet.line.size(fleet.profile_for(demand).request) for demand in demands), default=0.0)
        return fleet.line.place(priority, requested_at, key, size)

    def _state(self) -> tuple[int, ...]:
        """Changes with whatever may give the room to another, but for the time."""
        table = self._fleet.table
        return table.usage_log.end, table.facts_log.end, self._fleet.clusters.version, self._workloads.asked

    # --- which room ---

    def _needs(self, record: WorkloadRecord) -> dict[int, IntArray] | None:
        """What it will take on which rows, when nothing else is there; None where it would not fit."""
        anew = self._needs_on(record, None)
        if record.key != self.head or (anew is not None and self._is_free(anew)):
            return anew
        needs = self._needs_on(record, self._chosen)
        return needs if needs is not None else anew

    def _is_free(self, needs: dict[int, IntArray]) -> bool:
        return all(bool((self._fleet.table.free[row] >= need)[need > 0].all()) for row, need in needs.items())

    def _needs_on(self, record: WorkloadRecord, only: Rows | None) -> dict[int, IntArray] | None:
        table = self._fleet.table
        left = table.allocatable.copy()
        drafts = {draft.plan.name: draft for draft in self._drafts(record, self._now_ms)}
        needs: dict[int, IntArray] = {}
        for plan, rest in _lacking(record):
            draft = drafts[plan.name]
            vector = draft.profile.request.vector
            rows = self._rows(draft, left, rest, only)
            if rows is None:
                return None
            for row, count in rows:
                needs[row] = needs.get(row, 0) + vector * count
                left[row] -= vector * count
        return needs

    def _rows(self, draft: PodSetDraft, left: IntArray, rest: int, only: Rows | None) -> list[tuple[int, int]] | None:
        """Rows for `rest` replicas, and how many on each; of one cluster, where they are placed whole."""
        table, vector = self._fleet.table, draft.profile.request.vector
        rows, asked = np.flatnonzero(draft.open_rows()), vector > 0
        if only is not None:
            rows = rows[np.isin(rows, only)]
        most = np.asarray((left[rows][:, asked] // vector[asked]).min(axis=1, initial=rest), np.int64)
        rows, most = rows[most > 0], most[most > 0]
        free = np.maximum(table.free[rows][:, asked], 0)
        idle = (free / table.allocatable[rows][:, asked]).min(axis=1, initial=1.0)
        order = np.lexsort((table.order[rows], -idle))
        rows, most = rows[order], most[order]
        if draft.plan.division is not Division.TOGETHER:
            return _taken(rows, most, rest)
        clusters = table.block_cluster[rows // BLOCK]
        # Which is first does not depend on the order in which clusters became known: the one with the idlest node.
        for cluster in dict.fromkeys(clusters.tolist()):
            inside = clusters == cluster
            if (found := _taken(rows[inside], most[inside], rest)) is not None:
                return found
        return None

    def _hold(self, needs: dict[int, IntArray]) -> Iterator[Hold]:
        """Of what is needed, as much as is free."""
        table, slots = self._fleet.table, self._fleet.slots
        names, gpu = table.columns.names, table.columns.gpu_column
        for row, need in needs.items():
            free = np.minimum(np.maximum(table.free[row], 0), need)
            if gpu >= 0:
                free[gpu] //= WHOLE_DEVICE
            amounts = tuple(sorted((names[index], int(free[index])) for index in np.flatnonzero(free).tolist()))
            if amounts:
                yield slots.hold(slots.by_row(row), self._fleet.requests.intern(amounts), None)


def _taken(rows: Rows, most: IntArray, rest: int) -> list[tuple[int, int]] | None:
    """The first rows with room for so many; None where all have less."""
    found = []
    for row, count in zip(rows.tolist(), most.tolist(), strict=True):
        if rest <= 0:
            break
        found.append((row, min(count, rest)))
        rest -= count
    return found if rest <= 0 else None


def _lacking(record: WorkloadRecord) -> list[tuple[PodSetPlan, int]]:
    """What has to start together and does not, and how many replicas more."""
    pairs = zip(record.plans, record.placed.pod_sets, strict=True)
    return [
        (plan, (plan.gang.needed(plan.desired) if plan.gang is not None else plan.desired) - item.placed)
        for plan, item in pairs
        if starts_together(plan, item)
    ]


def _short(record: WorkloadRecord) -> list[Demand]:
    """What it waits for."""
    short = {item.name for item in record.placed.pod_sets if item.reason}
    return [plan.demand for plan in record.plans if plan.name in short]
