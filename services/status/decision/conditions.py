"""The conditions of a workload: what is true of it now, whatever its phase; each keeps the time it last changed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Literal

from services.status.decision.assess import Fault, Verdict, unheard
from services.status.decision.clusters import Roster
from services.status.decision.facts import NodesFacts, ScalingFacts
from services.status.decision.phases import not_ready_fault, waiting_fault
from services.status.decision.plan import Plan
from services.status.decision.values import Condition
from shared.events.v1.status import Phase

State = Literal["True", "False", "Unknown"]
Finding = tuple[str, State, Fault]


def conditions_of(
    plan: Plan,
    verdict: Verdict,
    phase: Phase,
    roster: Roster,
    *,
    scaling: ScalingFacts | None = None,
    nodes: NodesFacts | None = None,
    before: tuple[Condition, ...],
    at_ms: int,
) -> tuple[Condition, ...]:
    findings = chain(
        _findings(plan, verdict, phase, roster), _scaled(plan, scaling), _nodes_coming(plan, verdict, nodes)
    )
    return transitioned(findings, before, at_ms)


def transitioned(findings: Iterator[Finding], before: tuple[Condition, ...], at_ms: int) -> tuple[Condition, ...]:
    """The findings as conditions; one that is as before is the very same object."""
    known = {condition.type: condition for condition in before}
    return tuple(_transition(finding, known.get(finding[0]), at_ms) for finding in findings)


def _transition(finding: Finding, before: Condition | None, at_ms: int) -> Condition:
    kind, state, fault = finding
    if before is not None and before.status == state:
        if before.reason == fault.reason and before.message == fault.message:
            return before
        at_ms = before.last_transition_at
    return Condition(type=kind, status=state, reason=fault.reason, message=fault.message, last_transition_at=at_ms)


def _findings(plan: Plan, verdict: Verdict, phase: Phase, roster: Roster) -> Iterator[Finding]:
    if plan.refusal:
        yield "RequestAccepted", "False", Fault(plan.refusal.reason, plan.refusal.message)
    else:
        yield "RequestAccepted", "True", Fault("Accepted", f"request {plan.request_id}")
    if verdict.drift is not None:
        yield "Drifted", "True", verdict.drift
    if plan.deleting:
        yield "Terminating", "True", _terminating(plan)
        yield "Ready", "False", Fault("Terminating", "the workload is being deleted")
        return
    yield "Scheduled", "False" if plan.waiting else "True", waiting_fault(plan)
    yield _applied(plan, verdict)
    yield _ready(verdict, phase)
    yield _clusters_ready(plan, verdict, roster)


def _scaled(plan: Plan, scaling: ScalingFacts | None) -> Iterator[Finding]:
    """The autoscaler's own, as of a HorizontalPodAutoscaler, of this very workload and no earlier one of its name."""
    if scaling is not None and scaling.uid == plan.uid and not plan.deleting:
        for kind, state, reason, message in scaling.conditions:
            yield kind, "True" if state else "False", Fault(reason, message)


def _nodes_coming(plan: Plan, verdict: Verdict, nodes: NodesFacts | None) -> Iterator[Finding]:
    """While there is no room for some, whoever found that out: the autoscaler may not know yet that it has ended."""
    waits = plan.waiting is not None or verdict.unbound
    if nodes is not None and nodes.uid == plan.uid and waits and not plan.deleting:
        yield "NodesComing", "True" if nodes.coming else "False", Fault(nodes.reason, nodes.message)


def _terminating(plan: Plan) -> Fault:
    left = ", ".join(plan.withdrawn[:8])
    return Fault("DeleteRequested", f"still to be withdrawn from {left}" if left else "withdrawn from every cluster")


def _applied(plan: Plan, verdict: Verdict) -> Finding:
    if not plan.placed and plan.desired:
        return "Applied", "False", Fault("NothingPlaced", "no replica has a place")
    if verdict.unapplied:
        return "Applied", "False", verdict.unapplied
    return "Applied", "True", Fault("ReportedByExecutors", f"applied in {len(plan.clusters)} clusters")


def _ready(verdict: Verdict, phase: Phase) -> Finding:
    if phase is Phase.SUCCEEDED:
        return "Ready", "False", Fault("RanToCompletion", "every pod set ran to its end")
    if phase is Phase.FAILED:
        return "Ready", "False", verdict.failure or verdict.refused or Fault("Failed")
    if phase is Phase.RUNNING:
        return "Ready", "True", Fault("AllReplicasReady", f"{verdict.ready} of {verdict.desired} replicas ready")
    if (fault := unheard(verdict)) is not None:
        return "Ready", "Unknown", fault
    if verdict.held:
        return "Ready", "False", Fault("RolloutInProgress", f"{verdict.ready} of {verdict.desired} replicas ready")
    return "Ready", "False", not_ready_fault(verdict)


def _clusters_ready(plan: Plan, verdict: Verdict, roster: Roster) -> Finding:
    if (fault := unheard(verdict)) is not None:
        # That a cluster left is known, whatever runs there; of a silent one it is not even known whether it is ready.
        return "ClustersReady", "False" if verdict.left else "Unknown", fault
    for cluster in plan.clusters:
        state = roster.get(cluster)
        if state is not None and not state.observed.ready:
            observed = state.observed
            return "ClustersReady", "False", Fault(observed.reason or "NotReady", f"{cluster}: {observed.message}")
    return "ClustersReady", "True", Fault("Heard", f"{len(plan.clusters)} clusters in use")
