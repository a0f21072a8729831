"""The phases of a workload: which one a verdict means, and every step on the way to it.

The main line is Accepted → Scheduled → Applied → Running. A change of the specification begins it anew; within one
specification no step of it is left out, whatever is observed first, and the way back has a reason: replicas lost their
place (Pending), or run no longer (Degraded). A deletion keeps the phase until the workload is gone.
"""

from __future__ import annotations

from msgspec import Struct

from services.status.decision.assess import NOT_REPORTED, Fault, Verdict, unheard
from services.status.decision.plan import Plan
from services.status.decision.values import Milestones
from shared.events.v1.status import Phase

MAIN_LINE = (Phase.ACCEPTED, Phase.SCHEDULED, Phase.APPLIED, Phase.RUNNING)
_RANK = {
    Phase.ACCEPTED: 0,
    Phase.PENDING: 0,
    Phase.SCHEDULED: 1,
    Phase.APPLIED: 2,
    Phase.RUNNING: 3,
    Phase.DEGRADED: 3,
    Phase.SUCCEEDED: 3,
}


class Line(Struct, frozen=True, gc=False):
    """How far one specification has come. `phase` is None where nothing was said of it yet."""

    phase: Phase | None
    milestones: Milestones

    @property
    def ran(self) -> bool:
        return self.milestones.running_at is not None

    @property
    def rank(self) -> int:
        """The place on the main line, -1 before it."""
        if self.phase is None:
            return -1
        if self.phase is Phase.FAILED:
            return 3 if self.ran else 2 if self.milestones.applied_at is not None else 1
        return _RANK.get(self.phase, -1)


def target_phase(plan: Plan, verdict: Verdict, line: Line) -> Phase:
    """The phase that the present state means, given how far the specification had come."""
    if plan.deleting:
        return line.phase or Phase.ACCEPTED
    if verdict.succeeded or line.phase is Phase.SUCCEEDED:
        # Finished pods and Jobs may be cleaned up; that does not undo their success.
        return Phase.SUCCEEDED
    if verdict.failure or (verdict.refused and not line.ran):
        return Phase.FAILED
    if line.ran:
        return Phase.RUNNING if verdict.held else Phase.DEGRADED
    return _before_running(plan, verdict)


def _before_running(plan: Plan, verdict: Verdict) -> Phase:
    if plan.waiting:
        return Phase.PENDING
    if not verdict.applied:
        return Phase.SCHEDULED
    return Phase.RUNNING if verdict.complete else Phase.APPLIED


def path(line: Line, target: Phase, verdict: Verdict, *, waiting: bool) -> tuple[Phase, ...]:
    """Every phase to be told, in order, up to `target`; empty if nothing changed."""
    if target is line.phase:
        return ()
    rank = line.rank
    match target:
        case Phase.ACCEPTED | Phase.SCHEDULED | Phase.APPLIED | Phase.RUNNING:
            steps = MAIN_LINE[rank + 1 : _RANK[target] + 1]
            return steps or (target,)
        case Phase.SUCCEEDED:
            return (*MAIN_LINE[rank + 1 :], target)
        case Phase.FAILED:
            reached = 0 if waiting else 2 if verdict.applied else 1
            return (*MAIN_LINE[rank + 1 : reached + 1], target)
        case Phase.PENDING:
            return (*MAIN_LINE[rank + 1 : 1], target)
    return (target,)


def explain(phase: Phase, plan: Plan, verdict: Verdict, *, changed: bool, back: bool) -> Fault:
    """Reason and message of a phase. `changed`: the specification is not the first; `back`: it was further already."""
    clusters = len(plan.clusters)
    match phase:
        case Phase.ACCEPTED:
            fault = Fault("SpecificationChanged" if changed else "RequestAccepted", f"request {plan.request_id}")
        case Phase.PENDING:
            fault = waiting_fault(plan)
        case Phase.SCHEDULED:
            fault = Fault("Placed", f"{plan.placed} replicas in {clusters} clusters")
            if back:
                failed = verdict.unapplied if verdict.unapplied and verdict.unapplied.reason != NOT_REPORTED else None
                fault = failed or Fault("PlacementChanged", fault.message)
        case Phase.APPLIED:
            fault = Fault("ReportedByExecutors", f"applied in {clusters} clusters")
        case Phase.RUNNING:
            fault = Fault("AllReplicasReady", f"{verdict.ready} of {verdict.desired} replicas ready")
        case Phase.DEGRADED:
            fault = degraded_fault(plan, verdict)
        case Phase.SUCCEEDED:
            fault = Fault("RanToCompletion", "every pod set ran to its end")
        case _:
            fault = verdict.failure or verdict.refused or Fault("Failed")
    return fault


def waiting_fault(plan: Plan) -> Fault:
    item = plan.waiting
    if item is None:
        return Fault("Placed", f"{plan.placed} of {plan.desired} replicas have a place")
    message = f"{plan.desired - plan.placed} of {plan.desired} replicas have no place"
    return Fault(item.reason or "Waiting", f"{message}: {item.message}" if item.message else message)


def degraded_fault(plan: Plan, verdict: Verdict) -> Fault:
    if (fault := unheard(verdict)) is not None:
        return fault
    if plan.waiting:
        return waiting_fault(plan)
    return not_ready_fault(verdict)


def not_ready_fault(verdict: Verdict) -> Fault:
    message = f"{verdict.ready} of {verdict.desired} replicas ready"
    return Fault(verdict.trouble or "ReplicasNotReady", message)
