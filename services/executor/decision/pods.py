"""Turns for pods that Flotilla binds itself: create, bind, replace, create again.

A pod is replaced (deleted, and created anew once it is gone) when its template changed or it is on another node than it
should be. At most max(1, 25 %) of a group are taken from service at once: a pod that serves is deleted only while fewer
than that do not serve. A pod that does not serve anyway is replaced at once, and so is one that is to leave a node on
which another waits for room: each might wait for the other otherwise. Nothing is put on a node that is gone or
cordoned, and nothing is deleted that could not be put where it belongs: the scheduler is told, and moves the replica.
"""

from __future__ import annotations

from services.executor.decision.desired import Wanted
from services.executor.decision.endings import has_ended
from services.executor.decision.live import LiveObject
from services.executor.decision.plan import Plan

_DISRUPTION_DIVISOR = 4


def plan_group(plan: Plan, group: tuple[Wanted, ...]) -> None:
    spare = max(1, len(group) // _DISRUPTION_DIVISOR) - sum(not _serves(plan, wanted) for wanted in group)
    for wanted in group:
        if _plan_pod(plan, wanted, may_disrupt=spare > 0):
            spare -= 1


def _serves(plan: Plan, wanted: Wanted) -> bool:
    live = plan.world.live.get(wanted.id)
    return live is not None and (live.available or live.finished)


def _plan_pod(plan: Plan, wanted: Wanted, *, may_disrupt: bool) -> bool:
    """Plans one pod; True if that takes a serving pod from service."""
    live = plan.world.live.get(wanted.id)
    if plan.held(wanted.id, "v1") or plan.claimed_by_another(wanted, live):
        return False
    if live is None:
        _plan_absent(plan, wanted)
    elif live.deleting:
        plan.await_deletion(live)
    elif live.finished and live.template_hash == wanted.template_hash:
        plan.as_desired += 1
    elif live.phase in {"Failed", "Succeeded"}:
        if _node_takes_pods(plan, wanted):
            plan.delete(live)
    elif live.template_hash != wanted.template_hash or live.node not in {"", wanted.node}:
        return _plan_replacement(plan, wanted, live, may_disrupt=may_disrupt)
    elif not live.node:
        if _node_takes_pods(plan, wanted):
            plan.bind(live, wanted.node)
    else:
        _plan_bound(plan, wanted, live)
    return False


def _plan_absent(plan: Plan, wanted: Wanted) -> None:
    settled = plan.subject.settled.get(wanted.id)
    if has_ended(plan, wanted):
        plan.as_desired += 1
    elif not _node_takes_pods(plan, wanted):
        return
    elif settled is not None and settled.shape == wanted.shape:
        plan.repair(wanted)
    else:
        plan.apply(wanted)


def _plan_replacement(plan: Plan, wanted: Wanted, live: LiveObject, *, may_disrupt: bool) -> bool:
    if not _node_takes_pods(plan, wanted):
        return False
    is_in_the_way = live.node != wanted.node and live.node in plan.awaited
    if live.available and not (may_disrupt or is_in_the_way):
        plan.waits.append(f"{wanted.id} is replaced once enough other pods of its group are ready")
        return False
    plan.subject.settled.pop(wanted.id, None)  # its deletion is ours: creating it anew is no repair
    plan.delete(live)
    return live.available


def _plan_bound(plan: Plan, wanted: Wanted, live: LiveObject) -> None:
    settled = plan.subject.settled.get(wanted.id)
    if settled is None or settled.uid != live.uid or settled.shape != wanted.shape:
        plan.apply(wanted)  # found at a start: whether it still says what was applied, only the server can tell
    elif settled.drifted(live):
        plan.repair(wanted)
    else:
        plan.as_desired += 1


def _node_takes_pods(plan: Plan, wanted: Wanted) -> bool:
    reason = plan.world.node_problem(wanted.node)
    if reason is None:
        return True
    what = "does not exist" if reason == "NodeGone" else "is cordoned"
    plan.fail(wanted.id, reason, f"node {wanted.node} {what}", "v1")
    plan.missing_nodes.add(wanted.node)
    return False
