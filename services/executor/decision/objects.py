"""Turns for objects that are applied as they stand: apply, repair, prune, and raise the fence."""

from __future__ import annotations

from services.executor.decision.desired import Resolved, Wanted, fence_of, kinds_of, marks
from services.executor.decision.endings import has_ended
from services.executor.decision.fence import OPEN, Fence
from services.executor.decision.identity import BASE_GROUP_KINDS, NAMESPACE, NAMESPACES, ObjectId, ServedKind
from services.executor.decision.instructions import Annotate, CreateNamespace, Stamp
from services.executor.decision.plan import Plan
from services.executor.decision.world import kind_annotation
from shared.model.identities import FENCE_ANNOTATION


def ground_is_ready(plan: Plan, resolved: Resolved) -> bool:
    """Whether the namespaces are there and remember the kinds; else the plan says what is to be done first."""
    if problem := plan.world.feed_problem(NAMESPACES):
        plan.waits.append(problem)
        return False
    for name in resolved.namespaces:
        _prepare_namespace(plan, name)
    return not (plan.calls or plan.failures or plan.waits)


def _prepare_namespace(plan: Plan, name: str) -> None:
    target = ObjectId(NAMESPACE, "", name)
    namespace = plan.world.namespaces.get(name)
    if plan.held(target, "v1"):
        return
    if namespace is None:
        plan.calls.append(CreateNamespace(cause=plan.cause, subject=plan.subject.name, target=target))
    elif namespace.terminating:
        plan.fail(target, "NamespaceTerminating", "the namespace is being deleted", "v1")
    elif name == plan.subject.command.namespace:
        missing = kinds_to_remember(plan) - namespace.kinds
        if missing:
            annotations: dict[str, str | None] = dict(kind_annotation(kind) for kind in sorted(missing))
            plan.calls.append(
                Annotate(cause=plan.cause, subject=plan.subject.name, target=target, annotations=annotations)
            )


def kinds_to_remember(plan: Plan) -> set[ServedKind]:
    """The kinds of the command that a start would not look for by itself."""
    return {
        kind
        for kind in kinds_of(plan.subject.command)
        if kind.group_kind not in BASE_GROUP_KINDS and plan.world.not_served(kind.group_kind) is None
    }


def plan_object(plan: Plan, wanted: Wanted) -> None:
    not_served = plan.world.not_served(wanted.id.kind)
    if not_served is not None:
        plan.fail(wanted.id, "KindNotServed", not_served, wanted.api_version)
        return
    live = plan.world.live.get(wanted.id)
    if plan.held(wanted.id, wanted.api_version) or plan.claimed_by_another(wanted, live):
        return
    settled = plan.subject.settled.get(wanted.id)
    if live is not None and live.deleting:
        plan.await_deletion(live)
    elif live is None and has_ended(plan, wanted):
        plan.as_desired += 1
    elif settled is None or settled.shape != wanted.shape:
        plan.apply(wanted)
    elif live is None or settled.drifted(live):
        plan.repair(wanted)
    else:
        plan.as_desired += 1


def prune(plan: Plan, resolved: Resolved) -> None:
    """Deletes what the command no longer names.

    Pods of a group go at once: they may hold the room that other pods need. Objects go when all that is named was
    accepted, so that a command whose new objects are refused does not take the old ones away.
    """
    accepted = not (plan.calls or plan.failures)
    for live in plan.world.live.of(plan.subject.name):
        if live.id in resolved.by_id or plan.held(live.id):
            continue
        if live.deleting:
            if live.template_hash:
                plan.await_deletion(live)
        elif live.template_hash or accepted:
            plan.delete(live)


def raise_fence(plan: Plan, resolved: Resolved) -> None:
    """Puts the command's generation on one object where nothing had to be applied.

    A repeat with a newer generation and the same content needs no work, but the fence must outlive this process: one
    object with the newest generation holds it for all. There is no hurry, since until compaction takes a command away
    the topic itself has the fence, and a later repeat may come meanwhile: a share gets one whenever another cluster's
    share of its workload changes. A Deployment's controller passes what is written here on to its ReplicaSet.
    """
    subject, command = plan.subject, fence_of(plan.subject.command)
    if subject.stamped == command or command <= cluster_fence(plan):
        subject.stamp_at_ms = None
        return
    if subject.stamp_at_ms is None:
        subject.stamp_at_ms = plan.now_ms + plan.policy.stamp_ms
    if plan.now_ms < subject.stamp_at_ms:
        plan.wake(subject.stamp_at_ms)
        return
    for wanted in resolved.by_id.values():
        live = plan.world.live.get(wanted.id)
        if live is None or live.deleting or live.subject != subject.name or wanted.id in subject.retries:
            continue
        subject.stamped, subject.stamp_at_ms = command, None
        if wanted.bound:
            current = live.template_hash == wanted.template_hash
            # A pod that is yet to be replaced keeps saying what it was made for: others take it at its word.
            annotations = marks(subject.command) if current else {FENCE_ANNOTATION: str(command)}
            plan.calls.append(Stamp(cause=plan.cause, subject=subject.name, target=wanted.id, annotations=annotations))
        else:
            plan.apply(wanted)
        return


def cluster_fence(plan: Plan) -> Fence:
    """The newest command that any object of the subject was written for."""
    fence = OPEN
    for live in plan.world.live.of(plan.subject.name):
        fence = fence.raised_by(live.fence)
    return fence
