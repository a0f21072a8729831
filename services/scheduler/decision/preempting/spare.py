"""By row: how much room would be there at most if all that a claim may take gave way. Kept up to date by difference.

It is a bound: it says which rows are worth a look, and in which order, so that the best is found without looking at all
of them. What it costs when it is asked first is a look at every hold of the fleet, afterwards at those of rows where
something changed.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.preempting.claims import Claim
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareReservations
from services.scheduler.decision.seen.slots import NodeSlot
from services.scheduler.decision.table.arrays import IntArray, Rows

NO_RANK = 2**40


class Spare:
    """`amounts` of all that may give way, `largest` of a workload's alone, and `lowest` rank, by row. `going` of pods
    that may stand for no replica.
    """

    def __init__(self, fleet: Fleet, workloads: Workloads, claim: Claim) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._claim = claim
        self._version = (-1, -1, -1, -1)
        self._seen = -1
        self.amounts: IntArray = np.zeros((0, 0), np.int64)
        self.largest: IntArray = np.zeros((0, 0), np.int64)
        self.going: IntArray = np.zeros((0, 0), np.int64)
        self.lowest: IntArray = np.zeros(0, np.int64)

    def refresh(self) -> None:
        table = self._fleet.table
        version = (table.rows, table.columns.width, table.layout, self._claim.version(self._workloads))
        rows = table.usage_log.since(self._seen) if version == self._version else None
        self._seen = table.usage_log.end
        if rows is None or len(rows) > table.rows:
            self._version = version
            shape = (table.rows, table.columns.width)
            self.amounts, self.largest, self.going = (np.zeros(shape, np.int64) for _ in range(3))
            self.lowest = np.full(table.rows, NO_RANK, np.int64)
            rows = np.flatnonzero(table.alive)
        for row in dict.fromkeys(rows.tolist()):
            self._look(row)

    def _look(self, row: int) -> None:
        self.amounts[row] = self.largest[row] = self.going[row] = 0
        self.lowest[row] = NO_RANK
        slot = self._fleet.slots.find_row(row)
        if slot is None:
            return
        together: Counter[str] = Counter()
        for hold in slot.holds:
            share = hold.owner or (hold.pod.share if hold.pod is not None else None)
            if share is None:
                continue
            vector = hold.request.vector
            record = self._workloads.live(share.key.workload)
            if hold.owner is None and (record is None or _may_be_going(share, slot)):
                self.going[row] += vector
            rank = self._claim.rank(record) if record is not None else None
            if record is not None and rank is not None:
                self.lowest[row] = min(self.lowest[row], rank)
                self.amounts[row] += vector
                together[record.key] += 1
                most = vector * together[record.key] if _goes_whole(record) else vector
                np.maximum(self.largest[row], most, out=self.largest[row])


def _may_be_going(share: ShareReservations, slot: NodeSlot) -> bool:
    """Whether pods of a share on a node may stand for no replica."""
    if not share.bound:
        return share.seen > share.replicas
    positions, seen = share.on(slot)
    return seen > len(positions)


def _goes_whole(record: WorkloadRecord) -> bool:
    return any(plan.division is Division.TOGETHER for plan in record.plans)


def fewest(deficit: IntArray, largest: IntArray) -> Rows:
    """At least so many units have to give way on each row; a deficit that nothing makes up for does not come here."""
    needed = -(-np.maximum(deficit, 0) // np.maximum(largest, 1))
    return np.asarray(needed.max(axis=1), np.intp)
