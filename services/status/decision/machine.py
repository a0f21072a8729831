"""The machine: folds placements, reports and observations into what is published of every workload.

What one batch did to a workload is told once, when the batch ends; but a stimulus that may take a workload back (a pod
is no longer ready, a plan is replaced) first lets be told what was reached before it, so that no step of the main line
is lost in a batch. The machine starts while it restores: until `CaughtUp` it tells nothing but what new placements
say by themselves, since what is observed may belong to a later one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from services.status.decision.clusters import Roster
from services.status.decision.consistency import Unlike, inventory_of
from services.status.decision.early import EarlyReports, Held
from services.status.decision.facts import ReportFacts, declined, report_of, restored_reports, worsened
from services.status.decision.fleet import Fleet
from services.status.decision.history import resume
from services.status.decision.messages import (
    BatchEnded,
    CaughtUp,
    HeartbeatSeen,
    InventorySeen,
    NodesAwaitedSeen,
    OwnedObjectSeen,
    PhaseRestored,
    PlacementSeen,
    PodSeen,
    ResultSeen,
    ScalingSeen,
    StatusInstruction,
    StatusRestored,
    StatusStimulus,
    TimeAdvanced,
    ViewCompared,
)
from services.status.decision.plan import Placement, Refusal
from services.status.decision.telling import Teller
from services.status.decision.tracked import ENDED, Tracked
from services.status.decision.values import WorkloadStatus
from shared.events.v1.objects import LEFT
from shared.events.v1.placements import is_ended
from shared.events.v1.read_model import ClusterView
from shared.events.v1.status import Phase
from shared.kernel.machine import Stimulus

RETENTION_MS = 3_600_000
_EARLY_LIMIT = 50_000
_EARLY_PATIENCE_MS = 60_000
_SETTLE_LIMIT = 500


class StatusMachine:
    """`handle` is the only way in; what is told comes out when a batch ends or time advances."""

    def __init__(
        self, *, retention_ms: int = RETENTION_MS, early_limit: int = _EARLY_LIMIT, settle_limit: int = _SETTLE_LIMIT
    ) -> None:
        self._fleet = Fleet()
        self._teller = Teller(self._fleet, retention_ms=retention_ms, limit=settle_limit)
        self._early = EarlyReports(early_limit, _EARLY_PATIENCE_MS)
        self._told_refusals: set[str] = set()
        self._handlers: dict[type[Stimulus], Callable[[Any], None]] = {
            StatusRestored: self._status_restored,
            PhaseRestored: self._phase_restored,
            PlacementSeen: self._placement_seen,
            ScalingSeen: self._scaling_seen,
            NodesAwaitedSeen: self._nodes_awaited_seen,
            ResultSeen: self._result_seen,
            PodSeen: self._pod_seen,
            OwnedObjectSeen: self._owned_seen,
            HeartbeatSeen: self._heartbeat_seen,
            InventorySeen: self._inventory_seen,
            ViewCompared: self._view_compared,
        }

    def handle(self, stimulus: StatusStimulus) -> Sequence[StatusInstruction]:
        handler = self._handlers.get(type(stimulus))
        if handler is not None:
            handler(stimulus)
            return ()
        match stimulus:
            case BatchEnded() if not self._teller.live:
                return self._teller.flush_history()
            case BatchEnded():
                self._teller.tell_round()
            case CaughtUp():
                self._caught_up(stimulus)
            case TimeAdvanced():
                self._time_advanced(stimulus)
        return self._teller.flush()

    def statuses(self) -> Iterator[tuple[str, WorkloadStatus]]:
        """The latest status of every workload: what the read model should hold."""
        return ((tracked.key, tracked.said) for tracked in self._fleet.all() if tracked.said is not None)

    def clusters(self) -> Iterator[tuple[str, ClusterView]]:
        now_ms = self._teller.now_ms
        views = ((cluster, self._fleet.view(cluster, now_ms)) for cluster in self._fleet.roster.names())
        return ((cluster, view) for cluster, view in views if view is not None)

    def phases(self) -> Mapping[Phase, int]:
        return Counter(status.phase for _, status in self.statuses())

    @property
    def roster(self) -> Roster:
        return self._fleet.roster

    def stale(self) -> int:
        """Workloads whose counts come in part from clusters that are not heard."""
        return self._fleet.stale()

    def held_offsets(self) -> Mapping[int, int]:
        """By partition of the results: the first offset that is not yet reflected in what is told."""
        return self._early.offsets()

    @property
    def early(self) -> EarlyReports:
        return self._early

    @property
    def unsettled(self) -> int:
        """Workloads of which more is to be told: another `BatchEnded` brings the next of them."""
        return self._teller.unsettled

    # What comes in.

    def _status_restored(self, stimulus: StatusRestored) -> None:
        tracked = self._fleet.track(stimulus.key)
        tracked.said = stimulus.status
        tracked.reports = restored_reports(stimulus.status.clusters) if stimulus.status else {}
        if stimulus.status is None:
            self._fleet.drop_if_empty(tracked)

    def _phase_restored(self, stimulus: PhaseRestored) -> None:
        tracked = self._fleet.track(stimulus.key)
        if stimulus.event.phase is Phase.REJECTED:
            self._told_refusals.add(stimulus.event.request_id)
        status = resume(tracked.said, stimulus.event)
        if status is not None:
            tracked.said = status
            self._teller.restate(stimulus.key, stimulus.id)
        self._fleet.drop_if_empty(tracked)

    def _placement_seen(self, stimulus: PlacementSeen) -> None:
        tracked = self._fleet.track(stimulus.key)
        if self._teller.live and not stimulus.restored:
            self._teller.tell_first(tracked)
        if stimulus.placement is None:
            plan, by = tracked.plan, stimulus.ended_at
            if plan is None or is_ended(plan.generation, deleting=plan.deleting, by=by):
                self._placement_gone(tracked, stimulus)
        elif _outdated(tracked, stimulus.placement):
            tracked.placed_before = True
        else:
            self._placement_taken(tracked, stimulus, stimulus.placement)

    def _placement_gone(self, tracked: Tracked, stimulus: PlacementSeen) -> None:
        tracked.placed_before = False
        self._teller.touch(tracked, stimulus)
        self._fleet.forget_plan(tracked)
        if stimulus.restored:
            tracked.refused = None
        elif tracked.refused is None:
            self._teller.end(tracked, "Forgotten", "gone from every cluster")
        tracked.refused = None

    def _placement_taken(self, tracked: Tracked, stimulus: PlacementSeen, placement: Placement) -> None:
        plan, refusal = placement.plan, placement.refusal
        self._teller.touch(tracked, stimulus)
        tracked.traceparent = placement.traceparent
        said = tracked.said
        if not stimulus.restored and said is not None and tracked.alive and (plan is None or plan.uid != said.uid):
            self._fleet.forget_plan(tracked)
            self._teller.end(tracked, "Replaced", "another workload of this name took its place")
        if plan is None:
            if refusal is not None:
                self._refuse(tracked, refusal, placement.generation, restored=stimulus.restored)
            return
        self._fleet.adopt(tracked, plan)
        if not self._teller.live and said is not None and said.uid == plan.uid:
            # What stood in the log before this placement (its name's earlier life, ended or refused) took them away.
            for cluster, report in restored_reports(said.clusters).items():
                known = tracked.reports.get(cluster)
                if known is None or known.generation < report.generation:
                    tracked.reports[cluster] = report
        for held in self._early.take(tracked.key, placement.generation):
            self._take_report(tracked, held.cluster, held.report)
        if not self._teller.live and not stimulus.restored:
            self._teller.tell(tracked, plan_only=True)

    def _refuse(self, tracked: Tracked, refusal: Refusal, generation: int, *, restored: bool) -> None:
        tracked.refused = refusal
        if restored or refusal.request_id in self._told_refusals:
            return
        said = tracked.said
        if said is None or said.phase is not Phase.REJECTED or said.request_id != refusal.request_id:
            self._teller.refuse(tracked, refusal, generation)

    def _scaling_seen(self, stimulus: ScalingSeen) -> None:
        """It may come before its placement: topics are not ordered among one another."""
        tracked = self._fleet.track(stimulus.key)
        if tracked.scaling != stimulus.scaling:
            tracked.scaling = stimulus.scaling
            self._teller.touch(tracked, stimulus)
        self._fleet.drop_if_empty(tracked)

    def _nodes_awaited_seen(self, stimulus: NodesAwaitedSeen) -> None:
        """It too may come before its placement."""
        tracked = self._fleet.track(stimulus.key)
        if tracked.nodes != stimulus.nodes:
            tracked.nodes = stimulus.nodes
            self._teller.touch(tracked, stimulus)
        self._fleet.drop_if_empty(tracked)

    def _result_seen(self, stimulus: ResultSeen) -> None:
        report, cluster = report_of(stimulus.report), stimulus.report.cluster
        tracked = self._fleet.get(stimulus.key)
        plan = tracked.plan if tracked else None
        said = tracked.said if tracked else None
        known = max(plan.generation if plan else -1, said.generation if said else -1)
        if report.generation > known or (plan is None and not self._teller.live):
            # While restoring the placement may simply not have been read yet.
            held = Held(cluster, report, stimulus.partition, stimulus.offset, max(stimulus.at_ms, self._teller.now_ms))
            self._early.hold(stimulus.key, held)
        elif tracked is not None and plan is not None:
            before = tracked.reports.get(cluster)
            if declined(before, report):
                self._teller.tell_first(tracked)
            self._take_report(tracked, cluster, report)
            self._teller.touch(tracked, stimulus)

    def _pod_seen(self, stimulus: PodSeen) -> None:
        before = self._fleet.pod(stimulus.key)
        if before == stimulus.pod:
            return
        if before is not None and worsened(before, stimulus.pod):
            self._teller.tell_first(self._fleet.track(before.workload))
        for tracked in self._fleet.replace_pod(stimulus.key, stimulus.cluster, stimulus.pod):
            self._teller.touch(tracked, stimulus)

    def _owned_seen(self, stimulus: OwnedObjectSeen) -> None:
        before = self._fleet.owned(stimulus.key)
        if before == stimulus.owned:
            return
        if before is not None:
            self._teller.tell_first(self._fleet.track(before.workload))
        for tracked in self._fleet.replace_owned(stimulus.key, stimulus.cluster, stimulus.owned):
            self._teller.touch(tracked, stimulus)

    def _heartbeat_seen(self, stimulus: HeartbeatSeen) -> None:
        cluster, roster = stimulus.cluster, self._fleet.roster
        observed = stimulus.observed
        if observed is None or observed.reason == LEFT:
            changed = roster.leave(cluster)
        else:
            changed = roster.hear(observed, stimulus.at_ms)
        if changed:
            self._teller.touch_cluster(cluster, stimulus)
        if self._teller.live:
            self._teller.write_cluster(cluster, stimulus.id)

    def _inventory_seen(self, stimulus: InventorySeen) -> None:
        reported, cluster = stimulus.inventory, stimulus.cluster
        inventory = inventory_of(reported) if reported is not None else None
        if not self._teller.live:
            # Placements may not have been read yet: it is compared when they have.
            self._fleet.roster.consistency(cluster).inventory = inventory
            return
        for key in self._fleet.take_inventory(cluster, inventory):
            if (tracked := self._fleet.get(key)) is not None:
                self._teller.touch(tracked, stimulus)
        self._teller.write_cluster(cluster, stimulus.id)

    def _view_compared(self, stimulus: ViewCompared) -> None:
        unlike = self._fleet.roster.consistency(stimulus.cluster).unlike
        if stimulus.equal:
            unlike.pop(stimulus.resource, None)
        else:
            unlike[stimulus.resource] = Unlike(stimulus.found, stimulus.expected)
        if self._teller.live:
            self._teller.write_cluster(stimulus.cluster, stimulus.id)

    # What time brings.

    def _caught_up(self, stimulus: CaughtUp) -> None:
        self._teller.live = True
        self._teller.now_ms = stimulus.at_ms
        self._told_refusals.clear()
        for cluster in self._fleet.roster.names():
            self._fleet.take_inventory(cluster, self._fleet.roster.consistency(cluster).inventory)
        for cluster in self._fleet.roster.fall_silent(stimulus.at_ms):
            self._teller.touch_cluster(cluster, stimulus)
        for tracked in self._fleet.all():
            tracked.cause = tracked.cause or stimulus.id
            if tracked.plan is not None:
                self._teller.look_again(tracked)
            elif tracked.alive and not tracked.placed_before:
                tracked.at_ms = max(tracked.at_ms, stimulus.at_ms)
                self._teller.end(tracked, "Forgotten", "gone, while nobody watched")
            elif tracked.said is not None and not tracked.alive:
                self._teller.keep_for_a_while(tracked.key, tracked.said)
            self._fleet.drop_if_empty(tracked)
        self._teller.tell_round()

    def _time_advanced(self, stimulus: TimeAdvanced) -> None:
        self._teller.tell_round()
        self._teller.now_ms = max(self._teller.now_ms, stimulus.at_ms)
        self._early.expire(self._teller.now_ms)
        for cluster in self._fleet.roster.fall_silent(self._teller.now_ms):
            self._teller.touch_cluster(cluster, stimulus)
            self._teller.write_cluster(cluster, stimulus.id)
        for tracked in self._teller.due():
            self._teller.touch(tracked, stimulus)
        self._teller.tell_round()

    def _take_report(self, tracked: Tracked, cluster: str, report: ReportFacts) -> None:
        known = tracked.reports.get(cluster)
        if known is None or report.supersedes(known):
            tracked.reports[cluster] = report


def _outdated(tracked: Tracked, placement: Placement) -> bool:
    """Whether a placement is a repetition of an older one than what is known or was told."""
    if tracked.plan is not None and placement.generation < tracked.plan.generation:
        return True
    said = tracked.said
    if said is None or placement.generation > said.generation:
        return False
    if placement.generation < said.generation:
        return True
    refused = placement.refusal.request_id if placement.plan is None and placement.refusal else None
    return said.phase in ENDED and (refused is None or refused == said.request_id)
