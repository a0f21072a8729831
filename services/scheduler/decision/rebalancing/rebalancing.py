"""Replicas that run move to better places: where it is asked for, at a pace, and when nothing else is to be done.

What gains enough elsewhere (`better`) is replaced as what has to leave a cluster is (`evacuation`): reserved, started,
confirmed ready, and only then removed. Why it moves stands in the decision (`PodSetPlacement.rebalanced`).

Nothing moves
- of workloads that do not ask for it; of Jobs, gangs, what is everywhere, pods with volumes (`PodSetPlan.rebalance`);
- of a workload that is not at rest: whose replicas wait, leave, are away, are not all ready, or run in a cluster that
  was not well for `stable_ms`; nor to such a cluster. So there is one move of a workload at a time;
- where a PodDisruptionBudget of the replica's cluster allows none to go. A pod set's own budget is kept by the order of
  the steps: there is one replica more until the old one goes;
- while what waits or has to leave its cluster may still find room, or room is kept for a gang.

It comes to an end. A replica that moved stays where it is for the workload's `cooldownSeconds`. To a cluster that it
left, or where its replacement was never ready, no other of its pod set moves until something happened to the fleet that
was not a move: nodes, clusters or workloads are others. So where nothing happens each replica comes to every cluster
at most once, whatever its moves do to the costs of others.

When a replica arrived somewhere stands in the decisions; which clusters were left, and how much of the pace is left,
the leader alone knows: a new one begins with one move, and goes by the last that is on record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.leaving.evacuation import is_moving
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.preempting.budgets import Budgets
from services.scheduler.decision.rebalancing.better import Better, Search
from services.scheduler.decision.scoring.profiles import DIGITS
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.troubles import Troubles
from shared.events.v1.decisions import PodSetPlacement, Rebalanced

_LOOK_MS = 200
# The next look, where others come first.
_LATER_MS = 1_000
# And where all were asked and none is better off elsewhere: what makes it so is nothing that cannot wait as long.
_REST_MS = 10_000
# Where nothing happened meanwhile: then the measured load alone may have made a difference.
_LONGEST_REST_MS = 60_000
_MINUTE_MS = 60_000
# So many workloads are asked at most in one look, and no more are judged after so many pods: a few milliseconds.
_MOST_ASKED = 100
_MOST_PODS = 40

_PodSetKey = tuple[str, str]
# What changes with all that happens to a fleet but where replicas are.
_Happened = tuple[int, int, int]


class _Left(NamedTuple):
    """When a pod set left a cluster, and what had happened until then."""

    happened: _Happened
    at_ms: int


class Rate:
    """How many moves may begin: `per_minute`, and after a while without any as many as in a second, but one."""

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._most = max(per_minute / 60, 1.0) if per_minute else 0.0
        self._tokens = self._most and 1.0
        self._filled_at: int | None = None

    def fill(self, now_ms: int) -> None:
        if self._filled_at is not None:
            gained = self._per_minute * max(now_ms - self._filled_at, 0) / _MINUTE_MS
            self._tokens = min(self._tokens + gained, self._most)
        self._filled_at = now_ms

    @property
    def allows_one(self) -> bool:
        return self._tokens >= 1

    def spend(self) -> None:
        self._tokens -= 1


class Rebalancing:
    def __init__(self, fleet: Fleet, workloads: Workloads, troubles: Troubles) -> None:
        self._fleet = fleet
        self._config: SchedulerConfig = fleet.config
        self._workloads = workloads
        self._troubles = troubles
        self._budgets = Budgets(fleet, workloads)
        self._rate = Rate(fleet.config.rebalances_per_minute)
        self._queue: deque[str] = deque()
        self._left: dict[_PodSetKey, dict[str, _Left]] = {}
        self._next_ms = self._now_ms = 0
        self._judged = 0
        # By the last one asked, and by any since all were to be asked.
        self._moved = self._any_moved = False
        # Workloads that were asked in vain: until when nobody asks again, where nothing happens.
        self._in_vain: dict[str, tuple[int, tuple[int, ...]]] = {}
        # Whether time alone may make a difference for the last one asked.
        self._bides_time = False
        self._begun = 0

    def turns(self, now_ms: int, is_free: Callable[[], bool]) -> Iterator[str]:
        """The workloads of this look; each is decided upon before the next is asked for.

        `is_free` says whether nothing else comes first.
        """
        if now_ms < self._next_ms:
            return
        self._next_ms, self._now_ms, self._judged = now_ms + _LOOK_MS, now_ms, 0
        self._rate.fill(now_ms)
        if not self._rate.allows_one or self._troubles.cut_off:
            return
        if not is_free():
            self._next_ms = now_ms + _LATER_MS
            return
        most = max(int(self._config.rebalances_per_minute), 1) - self._under_way()
        if not self._queue:
            self._begin_anew(now_ms)
        for _ in range(min(len(self._queue), _MOST_ASKED)):
            if not self._rate.allows_one or most <= 0 or self._judged >= _MOST_PODS:
                return
            key = self._queue.popleft()
            record = self._workloads.live(key)
            if record is None or not self._is_at_rest(record) or self._is_in_vain(key):
                continue
            self._moved = self._bides_time = False
            yield key
            most -= self._moved
            self._any_moved = self._any_moved or self._moved
            if not (self._moved or self._bides_time):
                self._in_vain[key] = now_ms + _LONGEST_REST_MS, self._state()
        if not self._queue and not self._any_moved:
            self._next_ms = now_ms + _REST_MS

    def _begin_anew(self, now_ms: int) -> None:
        """All are to be asked."""
        rebalancing = self._workloads.rebalancing
        self._queue.extend(sorted(rebalancing))
        self._left = {key: value for key, value in self._left.items() if key[0] in rebalancing}
        self._in_vain = {key: known for key, known in self._in_vain.items() if key in rebalancing and known[0] > now_ms}
        self._any_moved = False

    def _is_in_vain(self, key: str) -> bool:
        until, state = self._in_vain.get(key, (0, ()))
        return self._now_ms < until and state == self._state()

    def _state(self) -> tuple[int, ...]:
        """Changes with whatever may make another place better, but for measured loads and the time."""
        return (*self._happened(), self._fleet.table.freed)

    def take_begun(self) -> int:
        """How many moves began since this was asked last."""
        begun, self._begun = self._begun, 0
        return begun

    def settle(self, workload: str, draft: PodSetDraft, budget: Budget, withdrawn: object) -> None:
        """Moves the replica that gains most, if any gains enough. The workload is at rest."""
        del withdrawn
        terms = draft.plan.rebalance
        if self._moved or terms is None or not _is_movable(draft.plan):
            return
        key = (workload, draft.plan.name)
        self._note_failure(key, draft.rebalanced)
        cooldown_ms = terms.cooldown_seconds * 1_000
        arrived = draft.rebalanced.arrived if draft.rebalanced is not None else {}
        staying = {name: at for name, at in arrived.items() if self._now_ms - at < cooldown_ms}
        sources = sorted({replica.cluster for replica in draft.replicas} - staying.keys())
        closed = self._closed(key, draft.rebalanced, cooldown_ms)
        # They may move, and be moved to, after a while.
        self._bides_time = self._bides_time or bool(staying or closed)
        search = Search(self._fleet, draft, terms.minimum_gain, closed)
        better = search.best(sources)
        self._judged += search.asked
        if (
            better is None
            or not self._may_go(draft, better)
            or not draft.replace([better.replica], budget, better.cluster)
        ):
            return
        self._moved = True
        self._rate.spend()
        self._begun += 1
        source = better.replica.cluster
        self._left.setdefault(key, {})[source] = _Left(self._happened(), self._now_ms)
        staying[better.cluster] = self._now_ms
        draft.rebalanced = Rebalanced(
            at=self._now_ms,
            from_cluster=source,
            from_node=better.pod.slot.name,
            cluster=better.cluster,
            node=draft.replicas[-1].node,
            cost_before=round(better.before, DIGITS),
            cost=round(better.cost, DIGITS),
            gain=round(better.gain, DIGITS),
            minimum_gain=terms.minimum_gain,
            by_terms=better.by_terms,
            arrived=dict(sorted(staying.items())),
        )

    # --- when ---

    def _under_way(self) -> int:
        count = 0
        for key in self._workloads.leaving & self._workloads.rebalancing:
            record = self._workloads.live(key)
            items = record.placed.pod_sets if record is not None else ()
            count += any(item.leaving and item.rebalanced is not None and is_moving(item.rebalanced) for item in items)
        return count

    def _is_at_rest(self, record: WorkloadRecord) -> bool:
        placed = record.placed
        if placed.withdrawn or any(item.reason or item.leaving or item.away for item in placed.pod_sets):
            return False
        if not all(self._troubles.is_stable(name) for name in record.clusters):
            return False
        pairs = ((plan, record.placement(plan.name)) for plan in record.plans)
        return all(
            placement is not None and self._is_ready(record.key, placement)
            for plan, placement in pairs
            if plan.rebalance is not None
        )

    def _is_ready(self, workload: str, placement: PodSetPlacement) -> bool:
        """Whether there is a ready pod for each replica, and none beside."""
        known = (
            (share, self._fleet.pods.find_share(ShareKey(workload, placement.name, share.cluster)))
            for share in placement.shares
        )
        return all(seen is not None and share.replicas == seen.seen == seen.ready for share, seen in known)

    # --- where to ---

    def _closed(self, key: _PodSetKey, last: Rebalanced | None, cooldown_ms: int) -> frozenset[int]:
        """Clusters that are not well, and those that the pod set left for better ones, or came to in vain."""
        left, happened = self._left.get(key, {}), self._happened()
        for name in [
            name for name, (before, at) in left.items() if before != happened and self._now_ms - at >= cooldown_ms
        ]:
            del left[name]
        closed = set(left)
        if last is not None and self._now_ms - last.at < cooldown_ms:
            closed.add(last.cluster if last.state == "failed" else last.from_cluster)
        return frozenset(
            item.index
            for item in self._fleet.clusters
            if item.name in closed or not self._troubles.is_stable(item.name)
        )

    def _note_failure(self, key: _PodSetKey, last: Rebalanced | None) -> None:
        if last is not None and last.state == "failed":
            left = self._left.setdefault(key, {})
            left.setdefault(last.cluster, _Left(self._happened(), last.at))

    def _happened(self) -> _Happened:
        return self._fleet.table.facts_log.end, self._fleet.clusters.version, self._workloads.asked

    def _may_go(self, draft: PodSetDraft, better: Better) -> bool:
        """By the budgets of its cluster; where it is not known which pod goes, any of them."""
        share = self._fleet.pods.find_share(ShareKey(draft.workload, draft.plan.name, better.replica.cluster))
        if share is None:
            return False
        self._budgets.begin()
        pods = (better.pod,) if draft.plan.division is Division.NODES else tuple(self._fleet.pods.pods_of(share))
        return self._budgets.allow_any(pods)


def _is_movable(plan: PodSetPlan) -> bool:
    return plan.gang is None and not plan.duplicated and plan.division in (Division.DIVIDED, Division.NODES)
