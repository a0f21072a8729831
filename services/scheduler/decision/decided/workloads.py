"""The workloads as they were decided: their records, the room that is held for them, and what is to be decided again.

A decision states the whole outcome for its workload, so folding it is replacing what was there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.decided.queues import Queues
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.turns import Turns
from services.scheduler.decision.decided.waiting import WaitingQueue
from services.scheduler.decision.placing.gangs import GANG
from services.scheduler.decision.placing.purse import OVER_BUDGET
from services.scheduler.decision.placing.replicas import PLACING
from services.scheduler.decision.scoring.unfit import UNSCHEDULABLE
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.slots import Hold
from shared.events.v1.decisions import ClusterShare, PodSetPlacement, WorkloadPlaced

# Holds that were made for a decision already, by pod set, and then by cluster.
ReadyHolds = Mapping[str, Mapping[str, Sequence[Hold]]]
_EVERYWHERE, _BOUND, _AWAY, _LEAVING, _UNFINISHED, _TOGETHER, _REBALANCING, _LEASED = 1, 2, 4, 8, 16, 32, 64, 128
_NO_HOLDS: Mapping[str, Sequence[Hold]] = {}


class Workloads:
    """`everywhere`, `bound` and `unfinished` are keys of workloads that may be different as soon as clusters are (they
    have copies everywhere, or overrides by labels), with pods that Flotilla binds, and with replicas that a limit left
    over; `waiting` has those with replicas that found no place, `together` those of them that start together.
    `stranded` are those that clusters which left the fleet keep from where they should be; see `note_departures`.
    `troubled` have replicas in clusters that may have to be left, `leaving` some that wait to leave, `away` some that
    are to return; see `watch`. Of those in `rebalancing` replicas may move to better places; `leased` run by leases and
    wait for a cluster to confirm that they are gone. `asked` rises with each request that leads to something. `changed`
    is for whoever keeps a sum of them: those that were decided upon since.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._records: dict[str, WorkloadRecord] = {}
        self.waiting = WaitingQueue(fleet.line)
        self.everywhere: set[str] = set()
        self.bound: set[str] = set()
        self.unfinished: set[str] = set()
        self.together: set[str] = set()
        self.stranded: set[str] = set()
        self.troubled: set[str] = set()
        self.leaving: set[str] = set()
        self.away: set[str] = set()
        self.rebalancing: set[str] = set()
        self.asked = 0
        self.leased: set[str] = set()
        self.changed: set[str] = set()
        # How many workloads of each priority have replicas that have a place.
        self.ranks: Counter[int] = Counter()
        # Rises when the priority of such a workload changes.
        self.ranks_changed = 0
        # None without queues.
        self.queues = Queues(fleet) if fleet.config.queues else None
        self.turns = Turns(self.queues, fleet.line) if self.queues is not None else None
        self._watched: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()
        self._marked = {
            _EVERYWHERE: self.everywhere,
            _BOUND: self.bound,
            _AWAY: self.away,
            _LEAVING: self.leaving,
            _UNFINISHED: self.unfinished,
            _TOGETHER: self.together,
            _REBALANCING: self.rebalancing,
            _LEASED: self.leased,
        }

    def __iter__(self) -> Iterator[WorkloadRecord]:
        return iter(self._records.values())

    def get(self, key: str) -> WorkloadRecord | None:
        return self._records.get(key)

    def live(self, key: str) -> WorkloadRecord | None:
        """The workload, unless it is being deleted."""
        record = self._records.get(key)
        return record if record is not None and not record.placed.deleting else None

    def fold(
        self,
        key: str,
        placed: WorkloadPlaced,
        plans: tuple[PodSetPlan, ...],
        ready: ReadyHolds,
        *,
        instead: bool = False,
    ) -> None:
        """The workload's outcome from now on; `instead` of the last one, which nobody has seen."""
        record = self._records.get(key)
        self.asked += record is None or record.placed.request.id != placed.request.id
        if record is not None and record.placed.pod_sets:
            self._give_up_shares(record, placed)
        self._fleet.mix.replace(record.plans if record is not None else (), plans)
        if record is None or record.placed.uid != placed.uid:
            if record is not None:
                self._count_rank(record, None)
            record = self._records[key] = WorkloadRecord(key, placed, plans)
        record.replace(placed, plans, instead=instead)
        self.changed.add(key)
        self._count_rank(record, placed.rank if any(item.shares for item in placed.pod_sets) else None)
        # A pod set's outcome for each plan, in their order, or none at all for a deletion.
        for item, plan in zip(placed.pod_sets, plans, strict=False):
            holds = ready.get(item.name, _NO_HOLDS)
            for share in item.shares:
                self._set_share(record, plan, share, holds.get(share.cluster, ()))
        self._index(record)

    def begin(
        self, placed: WorkloadPlaced, plans: tuple[PodSetPlan, ...], where: ShareKey, hold: Hold, *, known: bool
    ) -> None:
        """What `fold` does for a new workload of one pod, which has its room and counts in the mix already. Pods of it
        may be `known`. Without queues.
        """
        key, bound = where.workload, plans[0].division is Division.NODES
        self.asked += 1
        rank = placed.workload.priority if placed.priority is None else placed.priority
        record = WorkloadRecord(key, placed, plans, 1, marks=_BOUND if bound else 0, counted_rank=rank)
        self._records[key] = record
        self.changed.add(key)
        self.ranks[rank] += 1
        if known:
            self._set_share(record, plans[0], placed.pod_sets[0].shares[0], (hold,))
        else:
            self._fleet.pods.begin_single(where, hold, bound=bound)
        if bound:
            self.bound.add(key)
        if self._gone or self._watched or self.stranded or self.troubled:
            self._watch(record)

    def _give_up_shares(self, record: WorkloadRecord, placed: WorkloadPlaced) -> None:
        """Those that are there no more."""
        present = {(item.name, share.cluster) for item in placed.pod_sets for share in item.shares}
        for item in record.placed.pod_sets:
            for share in item.shares:
                if (item.name, share.cluster) not in present:
                    self._fleet.pods.set_share(ShareKey(record.key, item.name, share.cluster), (), None)

    def _set_share(self, record: WorkloadRecord, plan: PodSetPlan, share: ClusterShare, ready: Sequence[Hold]) -> None:
        fleet, where = self._fleet, ShareKey(record.key, plan.name, share.cluster)
        if not plan.holds_room or fleet.has_finished(where, plan.division):
            fleet.pods.set_share(where, (), None, ready)
            return
        bound = plan.division is Division.NODES
        if ready and fleet.pods.find_share(where) is None and share.nodes == tuple([hold.slot.name for hold in ready]):
            fleet.pods.begin_share(where, ready, bound=bound)
            return
        nodes = fleet.slots.ensure_all(share.cluster, share.nodes)
        request = fleet.profiles.get(plan.demand).request
        facts = ready[0].facts if ready else plan.facts(record.placed.workload)
        fleet.pods.set_share(where, nodes, request, ready, facts, bound=bound)

    def sync_share(self, where: ShareKey) -> None:
        """Holds room for a share anew, after its Job ended or is no longer known to have."""
        record = self._records.get(where.workload)
        if record is None:
            return
        for plan in record.plans:
            placement = record.placement(plan.name) if plan.name == where.pod_set else None
            for share in placement.shares if placement is not None else ():
                if share.cluster == where.cluster:
                    self._set_share(record, plan, share, ())
        if self.queues is not None:
            self.queues.charge(record)

    def note_departures(self) -> None:
        """Follows which clusters have left the fleet. Takes the time of all workloads, where that has changed."""
        gone = self._fleet.clusters.gone
        if gone != self._gone:
            self._gone = gone
            for record in self._records.values():
                _mark(self.stranded, record.key, self._is_stranded(record))

    def watch(self, clusters: frozenset[str]) -> bool:
        """These clusters may have to be left; whether that has changed, which takes the time of all workloads."""
        if clusters == self._watched:
            return False
        self._watched = clusters
        for record in self._records.values():
            _mark(self.troubled, record.key, self._is_troubled(record))
        return True

    def _is_troubled(self, record: WorkloadRecord) -> bool:
        return not record.placed.deleting and not self._watched.isdisjoint(record.clusters)

    def _is_stranded(self, record: WorkloadRecord) -> bool:
        """Whether it has replicas where nothing runs them any more, or its end waits for nobody else."""
        if record.placed.deleting:
            return self._gone.issuperset(record.placed.withdrawn)
        return not self._gone.isdisjoint(record.clusters)

    def _count_rank(self, record: WorkloadRecord, rank: int | None) -> None:
        """`rank` is None for a workload without replicas that have a place."""
        former = record.counted_rank
        if former == rank:
            return
        if former is not None:
            self.ranks[former] -= 1
            if not self.ranks[former]:
                del self.ranks[former]
        if rank is not None:
            self.ranks[rank] += 1
            self.ranks_changed += former is not None
        record.counted_rank = rank

    def _index(self, record: WorkloadRecord) -> None:
        """Keeps the queues of what is to be decided again."""
        placed, key = record.placed, record.key
        marks, waits = _marks(record)
        if waits and placed.withdrawn and placed.workload.placement.leased:
            marks |= _LEASED
        if waits or key in self.waiting:
            # Whatever is short of replicas says why.
            short = {item.name for item in placed.pod_sets if item.reason}
            demands = {plan.demand for plan in record.plans if plan.name in short}
            self.waiting.put(key, placed.rank, placed.request.published_at, demands)
        if self.queues is not None:
            self._count(self.queues, record)
        self._watch(record)
        changed, record.marks = marks ^ record.marks, marks
        while changed:
            bit = changed & -changed
            changed ^= bit
            _mark(self._marked[bit], key, bool(marks & bit))

    def _watch(self, record: WorkloadRecord) -> None:
        if self._gone or self.stranded:
            _mark(self.stranded, record.key, bool(self._gone) and self._is_stranded(record))
        if self._watched or self.troubled:
            _mark(self.troubled, record.key, bool(self._watched) and self._is_troubled(record))

    def _count(self, queues: Queues, record: WorkloadRecord) -> None:
        """What the workload has counts for its queue, and what it lacks waits in the queue's line."""
        placed = record.placed
        short = {item.name for item in placed.pod_sets if item.reason}
        demands = {plan.demand for plan in record.plans if plan.name in short}
        if self.turns is not None:
            priority, at = placed.rank, placed.request.published_at
            self.turns.put(record.key, queues.of(placed.workload), priority, at, demands)
        queues.charge(record)

    def forget(self, record: WorkloadRecord) -> None:
        """The workload is no more."""
        key = record.key
        for item in record.placed.pod_sets:
            for share in item.shares:
                self._fleet.pods.set_share(ShareKey(key, item.name, share.cluster), (), None)
        self._fleet.mix.replace(record.plans, ())
        self._count_rank(record, None)
        del self._records[key]
        self.changed.add(key)
        self.waiting.put(key, 0, 0, ())
        if self.queues is not None and self.turns is not None:
            self.turns.put(key, self.queues.of(record.placed.workload), 0, 0, ())
            self.queues.discharge(key)
        for index in (*self._marked.values(), self.stranded, self.troubled):
            index.discard(key)


def _marks(record: WorkloadRecord) -> tuple[int, bool]:
    """Of which of `Workloads._marked` it is a part, a bit for each; and whether it has replicas without a place."""
    placed, marks, waits = record.placed, 0, False
    for plan in record.plans if not placed.deleting else ():
        if plan.follows_clusters:
            marks |= _EVERYWHERE
        if plan.division is Division.NODES:
            marks |= _BOUND
        if plan.rebalance is not None:
            marks |= _REBALANCING
    for item in placed.pod_sets:
        if item.reason:
            waits = True
            marks |= _UNFINISHED if item.reason == PLACING else 0
            marks |= _TOGETHER if _starts_with_room(record, item) else 0
        if item.away:
            marks |= _AWAY
        for share in item.shares:
            if share.leaving is not None:
                marks |= _LEAVING
    return marks, waits


def _starts_with_room(record: WorkloadRecord, item: PodSetPlacement) -> bool:
    """Whether room that is kept would let replicas start together; where some of them lack money it would not."""
    together = any(starts_together(plan, item) for plan in record.plans)
    return together and all(other.reason != OVER_BUDGET for other in record.placed.pod_sets)


def starts_together(plan: PodSetPlan, item: PodSetPlacement) -> bool:
    """Whether replicas of a pod set wait to start together, and all that they lack is room on nodes."""
    if plan.name != item.name:
        return False
    whole = plan.division is Division.TOGETHER and plan.desired > 1 and item.reason == UNSCHEDULABLE
    return item.reason == GANG or whole


def _mark(index: set[str], key: str, belongs: bool) -> None:
    if belongs:
        index.add(key)
    else:
        index.discard(key)
