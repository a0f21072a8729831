"""Which workloads are looked at, and when, since clusters may have to be left: what `evacuation` does to each.

Looks are a moment apart, however often is decided. At each one those that wait to leave are looked at, whose number the
pace bounds; those that have yet to leave have a turn while there is something left of the pace, the more important
first, and what found no room has none before there is any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.leaving.evacuation import Evacuation, Pace, can_leave
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.troubles import Troubles

_LOOK_MS = 200
# So many are asked at most in one look whether they have to leave.
_MOST_ASKED = 2_000
RoomVersion = tuple[int, int, int, int]


class Exodus:
    def __init__(self, fleet: Fleet, workloads: Workloads) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self.troubles = Troubles(fleet.config, fleet.clusters)
        self._pace = Pace(fleet.config)
        self._next_ms = 0
        self._queue: deque[str] = deque()
        self._no_room: dict[Demand, RoomVersion] = {}
        self._no_way_back: dict[str, RoomVersion] = {}
        self.evacuation = Evacuation(fleet, self.troubles, self._pace)

    @property
    def cut_off(self) -> bool:
        """Whether so many clusters are lost that none is left for that."""
        return self.troubles.cut_off

    @property
    def any_avoided(self) -> bool:
        return bool(self.troubles.troubled)

    def avoided(self, plan: PodSetPlan) -> list[int]:
        """The indexes of clusters that pods of a plan would have to leave: none goes there, tolerant as it may be."""
        if not self.troubles.troubled:
            return []
        tolerations = plan.demand.shape.tolerations
        clusters = (self._fleet.clusters.get(name) for name in sorted(self.troubles.troubled))
        return [item.index for item in clusters if item is not None and self.troubles.repels(item, tolerations)]

    def look(self, now_ms: int) -> bool:
        """Whether it is time to look again; if so, what is wrong with the clusters is known now."""
        if now_ms < self._next_ms:
            return False
        self._next_ms = now_ms + _LOOK_MS
        self.troubles.look(now_ms)
        if self._workloads.watch(self.troubles.troubled):
            self._queue.clear()
            self._no_room.clear()
            self._no_way_back.clear()
        self._pace.fill(now_ms)
        self._pace.keep(self._workloads.leaving)
        return True

    def turns(self, room_version: Callable[[], RoomVersion]) -> Iterator[str]:
        """The workloads of this look; each is decided upon before the next is asked for."""
        leaving = frozenset(self._workloads.leaving)
        yield from sorted(leaving)
        yield from self._returning(leaving, room_version)
        if not self._queue:
            self._queue.extend(sorted(self._workloads.troubled, key=self._rank))
        for _ in range(min(len(self._queue), _MOST_ASKED)):
            if not self._pace.allows_any:
                return
            key = self._queue.popleft()
            record = self._workloads.live(key)
            if record is None or key not in self._workloads.troubled or key in leaving:
                continue
            demands = self._demands(record)
            room = room_version()
            if all(self._no_room.get(demand) == room for demand in demands):
                continue
            self.evacuation.no_room = False
            yield key
            if self.evacuation.no_room:
                self._no_room.update(dict.fromkeys(demands, room_version()))

    def is_done(self, room: RoomVersion) -> bool:
        """Whether everything that has to leave its cluster does, or has found no room elsewhere as things are."""
        for key in self._workloads.troubled:
            record = self._workloads.live(key)
            demands = self._demands(record) if record is not None else []
            if any(self._no_room.get(demand) != room for demand in demands):
                return False
        return True

    def _returning(self, leaving: frozenset[str], room_version: Callable[[], RoomVersion]) -> Iterator[str]:
        """Those with replicas that may return to a cluster now."""
        for key in sorted(self._workloads.away - leaving):
            if not self._pace.allows_any:
                return
            record = self._workloads.live(key)
            if record is None or self._no_way_back.get(key) == room_version():
                continue
            if any(self.evacuation.homes(item.away, record.placed.withdrawn) for item in record.placed.pod_sets):
                self.evacuation.no_room = False
                yield key
                if self.evacuation.no_room:
                    self._no_way_back[key] = room_version()
                else:
                    self._no_way_back.pop(key, None)

    def _rank(self, key: str) -> tuple[int, str]:
        record = self._workloads.live(key)
        return (-record.placed.rank if record is not None else 0, key)

    def _demands(self, record: WorkloadRecord) -> list[Demand]:
        """Of the pod sets that have to leave a cluster by now."""
        return [plan.demand for plan in record.plans if can_leave(plan) and self._has_to_leave(record, plan)]

    def _has_to_leave(self, record: WorkloadRecord, plan: PodSetPlan) -> bool:
        placement, terms = record.placement(plan.name), record.placed.workload.placement
        # Of what is at most once nothing can be done about a cluster that is not heard, unless it ran by a lease.
        once = terms.at_most_once and not terms.leased
        return placement is not None and any(
            share.kept and self.troubles.is_due(share.cluster, plan.demand.shape.tolerations)
            for share in placement.shares
            if share.cluster in self.troubles.troubled and (not once or self.evacuation.can_vacate(share.cluster))
        )
