"""What is to be told of a workload next, given what was told before: steps of its history, and its latest status.

`Tracked.said` is all the memory that this needs, and it is in the log: so a restart repeats nothing.
"""

from __future__ import annotations

from itertools import accumulate

from msgspec import Struct, structs

from services.status.decision.assess import Fault, Verdict, assess
from services.status.decision.clusters import Roster
from services.status.decision.conditions import conditions_of, transitioned
from services.status.decision.messages import Hop
from services.status.decision.phases import MAIN_LINE, Line, explain, path, target_phase
from services.status.decision.plan import Plan, Refusal
from services.status.decision.statuses import event_of, status_of
from services.status.decision.tracked import Tracked
from services.status.decision.values import Milestones, WorkloadStatus
from shared.events.v1.status import Phase, WorkloadPhaseChanged


class Told(Struct, frozen=True, gc=False):
    """The next status, the steps that lead to it, and the hops that were reached."""

    status: WorkloadStatus
    events: tuple[WorkloadPhaseChanged, ...] = ()
    hops: tuple[tuple[Hop, int], ...] = ()
    running_at: int | None = None


def tell(tracked: Tracked, plan: Plan, roster: Roster, *, plan_only: bool = False) -> Told:
    """What the present state says. With `plan_only` no further than to where the plan itself leads, and never back."""
    said = tracked.said
    new = said is None or not tracked.alive or not _continues(said, plan)
    before = Milestones(requested_at=plan.requested_at, decided_at=plan.decided_at)
    line = Line(None, before) if new or said is None else Line(said.phase, _begun(said.milestones, before))
    verdict = assess(tracked, plan, roster)
    target = target_phase(plan, verdict, line)
    if plan_only:
        target = _planned(plan, line)
    steps = path(line, target, verdict, waiting=plan.waiting is not None)
    times = _times(steps, tracked, plan, verdict)
    milestones = _milestones(line.milestones, steps, times)
    at_ms = max(said.updated_at if said else 0, tracked.at_ms, *times)
    fault = explain(target, plan, verdict, changed=plan.workload_generation > 1, back=False)
    if plan.deleting:
        fault = Fault("Terminating", "the workload is being deleted")
    known = said.conditions if said is not None and tracked.alive and said.uid == plan.uid else ()
    status = status_of(
        tracked,
        plan,
        verdict,
        phase=target,
        fault=fault,
        conditions=conditions_of(
            plan,
            verdict,
            target,
            roster,
            scaling=tracked.scaling,
            nodes=tracked.nodes,
            before=known,
            at_ms=at_ms,
        ),
        milestones=milestones,
        step=(said.step if said else 0) + len(steps),
        updated_at=at_ms,
    )
    if not steps:
        return Told(status)
    return Told(
        status=status,
        events=_events(status, list(zip(steps, times, strict=True)), plan, verdict, line=line, said=said),
        hops=_hops(line, milestones),
        running_at=milestones.running_at if not line.ran else None,
    )


def tell_end(tracked: Tracked, reason: str, message: str) -> Told | None:
    """The workload is gone; None if that was told, or if it was never there."""
    said = tracked.said
    if said is None or not tracked.alive:
        return None
    at_ms = max(said.updated_at, tracked.at_ms)
    fault = Fault(reason, message)
    status = said.but(
        phase=Phase.DELETED,
        reason=reason,
        message=message,
        desired=0,
        ready=0,
        conditions=transitioned(iter([("Ready", "False", fault)]), said.conditions, at_ms),
        pod_sets=(),
        clusters=(),
        step=said.step + 1,
        updated_at=at_ms,
    )
    return Told(status, (event_of(status, said.phase, at_ms),))


def tell_refusal(tracked: Tracked, refusal: Refusal, generation: int) -> Told:
    """A request was refused, and there is no workload."""
    said = tracked.said
    at_ms = max(said.updated_at if said else 0, tracked.at_ms)
    fault = Fault(refusal.reason, refusal.message)
    status = WorkloadStatus(
        namespace=tracked.namespace,
        name=tracked.name,
        phase=Phase.REJECTED,
        generation=generation,
        request_id=refusal.request_id,
        reason=fault.reason,
        message=fault.message,
        conditions=transitioned(iter([("RequestAccepted", "False", fault)]), (), at_ms),
        milestones=Milestones(requested_at=refusal.requested_at),
        step=(said.step if said else 0) + 1,
        updated_at=at_ms,
    )
    return Told(status, (event_of(status, said.phase if said else None, at_ms),))


def resume(said: WorkloadStatus | None, event: WorkloadPhaseChanged) -> WorkloadStatus | None:
    """The status that a phase change leads to, when the change was published and the status was not; None if it was."""
    if said is not None and said.step >= event.step:
        return None
    same = said is not None and (said.uid, said.workload_generation) == (event.uid, event.workload_generation)
    milestones = said.milestones if said is not None and same else Milestones()
    update: dict[str, int] = {}
    if event.phase is Phase.APPLIED and milestones.applied_at is None:
        update["applied_at"] = event.changed_at
    if event.phase is Phase.RUNNING and milestones.running_at is None:
        update["running_at"] = event.changed_at
    fields = event.model_dump(exclude={"previous", "changed_at"})
    fields |= {"milestones": structs.replace(milestones, **update), "updated_at": event.changed_at}
    if said is None:
        return WorkloadStatus(**fields)
    if not same:
        fields |= {"clusters": (), "pod_sets": (), "conditions": ()}
    return said.but(**fields)


def _continues(said: WorkloadStatus, plan: Plan) -> bool:
    """Whether the plan goes on with what was told; a deletion is no new beginning."""
    return said.uid == plan.uid and (plan.deleting or said.workload_generation == plan.workload_generation)


def _planned(plan: Plan, line: Line) -> Phase:
    if line.phase is not None and (line.phase not in {Phase.ACCEPTED, Phase.PENDING} or plan.deleting):
        return line.phase
    if plan.deleting:
        return Phase.ACCEPTED
    return Phase.PENDING if plan.waiting else Phase.SCHEDULED


def _begun(known: Milestones, begin: Milestones) -> Milestones:
    """Milestones that were resumed from a phase change lack when it all began."""
    if known.decided_at is not None:
        return known
    return structs.replace(known, requested_at=begin.requested_at, decided_at=begin.decided_at)


def _times(steps: tuple[Phase, ...], tracked: Tracked, plan: Plan, verdict: Verdict) -> list[int]:
    """When each step happened: never before the one that was told before it."""
    if not steps:
        return []
    known = {
        Phase.ACCEPTED: plan.decided_at,
        Phase.PENDING: plan.decided_at,
        Phase.SCHEDULED: plan.decided_at,
        Phase.APPLIED: verdict.applied_at or tracked.at_ms,
    }
    floor = tracked.said.updated_at if tracked.said else 0
    return list(accumulate((known.get(phase, tracked.at_ms) for phase in steps), max, initial=floor))[1:]


def _milestones(before: Milestones, steps: tuple[Phase, ...], times: list[int]) -> Milestones:
    if not steps:
        return before
    reached = dict(zip(steps, times, strict=True))
    update: dict[str, int] = {}
    if before.applied_at is None and Phase.APPLIED in reached:
        update["applied_at"] = reached[Phase.APPLIED]
    if before.running_at is None and Phase.RUNNING in reached:
        update["running_at"] = reached[Phase.RUNNING]
    return structs.replace(before, **update) if update else before


def _hops(line: Line, after: Milestones) -> tuple[tuple[Hop, int], ...]:
    before = line.milestones
    hops: list[tuple[Hop, int]] = []
    if line.phase is None and after.requested_at is not None and after.decided_at is not None:
        hops.append((Hop.DECIDED, after.decided_at - after.requested_at))
    if before.applied_at is None and after.applied_at is not None and after.decided_at is not None:
        hops.append((Hop.APPLIED, after.applied_at - after.decided_at))
    if before.running_at is None and after.running_at is not None and after.applied_at is not None:
        hops.append((Hop.RUNNING, after.running_at - after.applied_at))
    return tuple((hop, max(0, milliseconds)) for hop, milliseconds in hops)


def _events(
    status: WorkloadStatus,
    steps: list[tuple[Phase, int]],
    plan: Plan,
    verdict: Verdict,
    *,
    line: Line,
    said: WorkloadStatus | None,
) -> tuple[WorkloadPhaseChanged, ...]:
    previous = said.phase if said is not None else None
    first = status.step - len(steps) + 1
    rank = line.rank
    events: list[WorkloadPhaseChanged] = []
    for index, (phase, at_ms) in enumerate(steps):
        back = phase in MAIN_LINE and MAIN_LINE.index(phase) < rank
        fault = explain(phase, plan, verdict, changed=plan.workload_generation > 1, back=back)
        step = status.but(phase=phase, reason=fault.reason, message=fault.message, step=first + index)
        events.append(event_of(step, previous, at_ms))
        previous = phase
    return tuple(events)
