"""What runs by the lease: asking for it, and stopping what runs when it is over.

Stopped are the objects that have pods; all else of a workload, its volumes above all, stays as it is. When the lease is
there again, what is missing is applied as ever.
"""

from __future__ import annotations

from services.executor.decision.identity import BASE_GROUP_KINDS
from services.executor.decision.instructions import Report
from services.executor.decision.plan import Plan
from services.executor.decision.state import State
from shared.events.v1.leases import LEASE_SUBJECT
from shared.events.v1.results import CommandReported
from shared.kernel.machine import Instruction, Stimulus


def ask_for_lease(state: State, stimulus: Stimulus, new: str = "") -> list[Instruction]:
    """Asks, if anything runs by it; for a `new` subject only if that does, and is not known to the last answer."""
    subjects = state.leased() if state.caught_up else []
    if not subjects or (new and (new not in subjects or state.lease.allows(new, stimulus.at_ms))):
        return []
    asked = state.lease.ask(subjects, stimulus.at_ms)
    report = CommandReported(
        cluster=state.cluster,
        subject=LEASE_SUBJECT,
        epoch=0,
        generation=0,
        digest="",
        outcome="applied",
        reported_at=stimulus.at_ms,
        lease=asked,
    )
    return [Report(cause=stimulus.id, report=report)]


def may_apply(state: State, subject: str, now_ms: int) -> bool:
    """Whether objects of a subject may be made or changed: always, unless it runs by the lease."""
    known = state.subjects.get(subject)
    return known is None or not known.command.leased or state.lease.allows(subject, now_ms)


def plan_lapsed(plan: Plan, tolerated_until: int | None) -> None:
    """Without a lease: what is there is left alone for as long as its answer may take, and stopped then."""
    plan.waits.append("there is no lease for it: the control plane was not heard, or wants it elsewhere")
    if tolerated_until is None:
        return
    if plan.now_ms < tolerated_until:
        plan.wake(tolerated_until)
        return
    for live in plan.world.live.of(plan.subject.name):
        if live.id.kind not in BASE_GROUP_KINDS or live.finished:
            continue
        if live.deleting:
            plan.await_deletion(live)
        elif not plan.held(live.id):
            plan.delete(live)
