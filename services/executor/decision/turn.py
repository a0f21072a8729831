"""One turn of one subject: from its command and what is known of the cluster to a plan.

A plan with calls is carried out and the subject gets another turn; a plan without is the present state of affairs.
"""

from __future__ import annotations

from services.executor.decision.desired import fence_of
from services.executor.decision.endings import note_endings
from services.executor.decision.fence import Fence
from services.executor.decision.identity import BASE_GROUP_KINDS, NAMESPACES, NODES
from services.executor.decision.objects import cluster_fence, ground_is_ready, plan_object, prune, raise_fence
from services.executor.decision.plan import Plan
from services.executor.decision.pods import plan_group


def overtaken_by(plan: Plan) -> Fence | None:
    """The fence, if the command is older than what was admitted or applied; raises the subject's fence on the way."""
    subject = plan.subject
    subject.fence = subject.fence.raised_by(cluster_fence(plan))
    return None if subject.fence.admits(fence_of(subject.command)) else subject.fence


def everything_is_known(plan: Plan) -> bool:
    """Whether the absence of an object means that it is not there; else the plan waits, saying for what."""
    world, command = plan.world, plan.subject.command
    needed = dict.fromkeys((*BASE_GROUP_KINDS, *plan.subject.resolved.kinds))
    if command.action == "withdraw":
        namespace = world.namespaces.get(command.namespace)
        needed |= {kind.group_kind: None for kind in (namespace.kinds if namespace else ())}
    problems = [world.feed_problem(NAMESPACES), *(world.kind_problem(kind) for kind in needed)]
    if command.pods:
        problems.append(world.feed_problem(NODES))
    plan.waits += [problem for problem in problems if problem]
    return not plan.waits


def plan_run(plan: Plan) -> None:
    resolved = plan.subject.resolved
    if not ground_is_ready(plan, resolved):
        return
    for wanted in resolved.objects:
        plan_object(plan, wanted)
    for group in resolved.groups:
        plan_group(plan, group)
    prune(plan, resolved)
    if not plan.calls:
        note_endings(plan, resolved)
        raise_fence(plan, resolved)


def plan_withdrawal(plan: Plan) -> None:
    for live in plan.world.live.of(plan.subject.name):
        if live.deleting:
            plan.await_deletion(live)
        elif not plan.held(live.id):
            plan.delete(live)
    if not (plan.calls or plan.failures or plan.waits):
        note_endings(plan, None)
