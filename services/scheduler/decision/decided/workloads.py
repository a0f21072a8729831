"""The workloads as they were decided: their records, the room that is held for them, and what is to be decided again.

A decision states the whole outcome for its workload, so folding it is replacing what was there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.scheduler.decision.asked.admission import PodSetPlan
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.waiting import WaitingQueue
from services.scheduler.decision.placing.replicas import PLACING
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.slots import Hold
from shared.events.v1.decisions import ClusterShare, WorkloadPlaced

# Holds that were made for a decision already, by pod set and cluster.
ReadyHolds = dict[tuple[str, str], list[Hold]]


class Workloads:
    """`everywhere`, `bound` and `unfinished` are keys of workloads that may be different as soon as clusters are (they
    have copies everywhere, or overrides by labels), with pods that Flotilla binds, and with replicas that a limit left
    over; `waiting` has those with replicas that found no place.
    `stranded` are those that clusters which left the fleet keep from where they should be; see `note_departures`.
    `troubled` have replicas in clusters that may have to be left, `leaving` some that wait to leave, `away` some that
    are to return; see `watch`.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._records: dict[str, WorkloadRecord] = {}
        self.waiting = WaitingQueue()
        self.everywhere: set[str] = set()
        self.bound: set[str] = set()
        self.unfinished: set[str] = set()
        self.stranded: set[str] = set()
        self.troubled: set[str] = set()
        self.leaving: set[str] = set()
        self.away: set[str] = set()
        self._watched: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[WorkloadRecord]:
        return iter(self._records.values())

    def get(self, key: str) -> WorkloadRecord | None:
        return self._records.get(key)

    def live(self, key: str) -> WorkloadRecord | None:
        """The workload, unless it is being deleted."""
        record = self._records.get(key)
        return record if record is not None and not record.placed.deleting else None

    def fold(self, key: str, placed: WorkloadPlaced, plans: tuple[PodSetPlan, ...], ready: ReadyHolds) -> None:
        """The workload's outcome from now on."""
        record = self._records.get(key)
        if record is not None:
            present = {(item.name, share.cluster) for item in placed.pod_sets for share in item.shares}
            for item in record.placed.pod_sets:
                for share in item.shares:
                    if (item.name, share.cluster) not in present:
                        self._fleet.pods.set_share(ShareKey(key, item.name, share.cluster), (), None)
        self._fleet.mix.replace(record.plans if record is not None else (), plans)
        if record is None or record.placed.uid != placed.uid:
            record = self._records[key] = WorkloadRecord(key, placed, plans)
        record.replace(placed, plans)
        # A pod set's outcome for each plan, in their order, or none at all for a deletion.
        for item, plan in zip(placed.pod_sets, plans, strict=False):
            for share in item.shares:
                self._set_share(record, plan, share, ready.get((item.name, share.cluster), ()))
        self._index(record)

    def _set_share(self, record: WorkloadRecord, plan: PodSetPlan, share: ClusterShare, ready: Sequence[Hold]) -> None:
        fleet, where = self._fleet, ShareKey(record.key, plan.name, share.cluster)
        if not plan.holds_room or fleet.has_finished(where):
            fleet.pods.set_share(where, (), None, ready)
            return
        nodes = fleet.slots.ensure_all(share.cluster, share.nodes)
        bound = plan.division is Division.NODES
        facts = ready[0].facts if ready else plan.facts(record.placed.workload)
        fleet.pods.set_share(where, nodes, fleet.profiles.get(plan.demand).request, ready, facts, bound=bound)

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

    def _index(self, record: WorkloadRecord) -> None:
        """Keeps the queues of what is to be decided again."""
        placed, key = record.placed, record.key
        # Whatever is short of replicas says why.
        short = {item.name for item in placed.pod_sets if item.reason}
        demands = {plan.demand for plan in record.plans if plan.name in short} if short else set()
        self.waiting.put(key, placed.workload.priority, placed.request.published_at, demands)
        divisions = set() if placed.deleting else {plan.division for plan in record.plans}
        away, leaving, placing = _under_way(placed)
        _mark(self.everywhere, key, not placed.deleting and any(plan.follows_clusters for plan in record.plans))
        _mark(self.bound, key, Division.NODES in divisions)
        _mark(self.stranded, key, bool(self._gone) and self._is_stranded(record))
        _mark(self.troubled, key, bool(self._watched) and self._is_troubled(record))
        _mark(self.away, key, away)
        _mark(self.leaving, key, leaving)
        _mark(self.unfinished, key, placing)

    def forget(self, record: WorkloadRecord) -> None:
        """The workload is no more."""
        key = record.key
        for item in record.placed.pod_sets:
            for share in item.shares:
                self._fleet.pods.set_share(ShareKey(key, item.name, share.cluster), (), None)
        self._fleet.mix.replace(record.plans, ())
        del self._records[key]
        self.waiting.put(key, 0, 0, ())
        for index in (
            self.everywhere,
            self.bound,
            self.unfinished,
            self.stranded,
            self.troubled,
            self.leaving,
            self.away,
        ):
            index.discard(key)


def _under_way(placed: WorkloadPlaced) -> tuple[bool, bool, bool]:
    """Whether replicas are to return to a cluster, some wait to leave one, and more are about to be placed."""
    away = leaving = placing = False
    for item in placed.pod_sets:
        away = away or bool(item.away)
        placing = placing or item.reason == PLACING
        for share in item.shares:
            leaving = leaving or share.leaving is not None
    return away, leaving, placing


def _mark(index: set[str], key: str, belongs: bool) -> None:
    if belongs:
        index.add(key)
    else:
        index.discard(key)
