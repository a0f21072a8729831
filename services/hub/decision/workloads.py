"""One Workload: what is to be done, given its custom resource and what the fleet says.

Who owns what: a Workload that a user made asks the fleet for what its specification says. One that mirrors a request
made elsewhere (label `flotilla.dev/origin: topic`) shows what the fleet has; its specification is overwritten, and only
its deletion is a request. Taking the label off makes it the user's own.

A request is published once for each wish and is known to be answered when the fleet names its id. It is audited first:
a hub that dies between the two finds the wish unanswered, and repeats both with the same ids. Nothing is published a
second time over a change or a deletion that came from elsewhere after the answer: that would be two writers in a loop.
The condition Synced says so, and the next change of the specification is published as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from services.hub.decision.instructions import (
    CreateObject,
    DeleteObject,
    Item,
    Look,
    PublishAudit,
    PublishRequest,
    ReplaceObject,
    SetFinalizers,
    WriteStatus,
)
from services.hub.decision.resources import (
    API_VERSION,
    FINALIZER,
    ORIGIN_LABEL,
    ORIGIN_TOPIC,
    WORKLOAD_UID_ANNOTATION,
    WORKLOADS,
)
from services.hub.decision.state import Policy, State
from services.hub.decision.views import UNKNOWN_ACTOR, Json, Meta, Request, WorkloadView, deletion_id, specification
from services.hub.decision.workload_status import answers, status_of
from shared.events.v1.audit import ActionAudited
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.events.v1.workloads import DeleteWorkload, WorkloadRef
from shared.kernel.machine import Instruction
from shared.model.identities import WorkloadKey

_GONE = frozenset({Phase.DELETED.value, Phase.REJECTED.value})


def decide_workload(key: WorkloadKey, state: State, policy: Policy, now_ms: int, cause: str) -> Iterator[Instruction]:
    """Everything that brings the custom resource and the fleet together."""
    decision = _Decision(key, state, policy, now_ms, cause)
    return decision.instructions()


class _Decision:
    def __init__(self, key: WorkloadKey, state: State, policy: Policy, now_ms: int, cause: str) -> None:
        self._key = key
        self._item = Item.of(key)
        self._state = state
        self._policy = policy
        self._now_ms = now_ms
        self._cause = cause
        self._placement = state.placements.get(key)
        self._placed = self._placement.placement if self._placement is not None else None
        self._status = state.statuses.get(key)

    def instructions(self) -> Iterator[Instruction]:
        view = self._state.workloads.get(self._key)
        if view is None:
            yield from self._mirror_new()
        elif view.meta.deleting:
            yield from self._let_go(view)
        elif view.mirrors:
            yield from self._keep_mirror(view)
        elif self._is_orphan(view):
            yield self._delete(view)
        else:
            yield from self._request(view)

    # A user's own

    def _request(self, view: WorkloadView) -> Iterator[Instruction]:
        if isinstance(view.wish, Request) and FINALIZER not in view.meta.finalizers:
            # The watch brings the object back with it; before that nothing may be asked of the fleet.
            yield self._finalizers(view, (*view.meta.finalizers, FINALIZER))
            return
        if isinstance(view.wish, Request) and self._is_due(view, view.wish):
            yield self._audit(view, "create" if view.meta.generation <= 1 else "change", view.wish.id)
            yield PublishRequest(cause=self._cause, key=self._key, request_id=view.wish.id, body=view.wish.body())
            # Its acknowledgement asks for the next look.
            return
        yield from self._write_status(view)

    def _is_due(self, view: WorkloadView, wish: Request) -> bool:
        sent = self._state.sent.get(self._key)
        if (sent is not None and sent.request_id == wish.id) or answers(wish.id, self._placement, self._status):
            return False
        if not self._was_answered(view):
            return True
        # It was answered once. What is there now came from elsewhere; what is not there was deleted there, unless
        # the fleet knows nothing at all of it: then its log is a new one, and has to be told again.
        return self._placed is None and view.status.get("phase") not in _GONE

    def _was_answered(self, view: WorkloadView) -> bool:
        """Whether the fleet answered the present wish, as the object says or as was seen since."""
        sent = self._state.sent.get(self._key)
        known = sent is not None and sent.answered and sent.request_id == view.wish.id
        return known or view.status.get("requestId") == view.wish.id

    def _is_orphan(self, view: WorkloadView) -> bool:
        """Whether the Cluster that it was made for is gone. A hub cluster need not have a garbage collector."""
        owner = view.meta.owner
        if owner is None or owner.kind != "Cluster":
            return False
        cluster = self._state.clusters.get(owner.name)
        return cluster is None or cluster.meta.uid != owner.uid

    # Deletion

    def _let_go(self, view: WorkloadView) -> Iterator[Instruction]:
        if FINALIZER not in view.meta.finalizers:
            return
        if self._is_gone(view):
            rest = tuple(name for name in view.meta.finalizers if name != FINALIZER)
            yield self._finalizers(view, rest)
            return
        request_id = deletion_id(view.meta.uid)
        sent = self._state.sent.get(self._key)
        if sent is not None and sent.request_id == request_id:
            left_ms = sent.at_ms + self._policy.delete_grace_ms - self._now_ms
            if left_ms > 0:
                yield Look(cause=self._cause, item=self._item, after_ms=left_ms)
        elif self._placed is None or not self._placed.deleting:
            body = WorkloadRequested(
                root=DeleteWorkload(
                    operation="delete", workload=WorkloadRef(namespace=self._key.namespace, name=self._key.name)
                )
            ).to_json()
            yield self._audit(view, "delete", request_id)
            yield PublishRequest(cause=self._cause, key=self._key, request_id=request_id, body=body)
            return
        yield from self._write_status(view)

    def _is_gone(self, view: WorkloadView) -> bool:
        """Whether the fleet let go of it, as far as this object is concerned."""
        if view.mirrors:
            # What it mirrored is gone, perhaps followed by another of the same name, which is not its to delete.
            known = view.meta.annotations.get(WORKLOAD_UID_ANNOTATION, "")
            return self._placed is None or bool(known and known != self._placed.uid)
        if self._placed is not None:
            return False
        sent = self._state.sent.get(self._key)
        if sent is None or sent.request_id != deletion_id(view.meta.uid):
            # A request may be on its way, so the deletion has to follow it in the log.
            return False
        # Behind that request in the log the workload cannot come back: after a while no answer is one.
        return sent.answered or self._now_ms - sent.at_ms >= self._policy.delete_grace_ms

    # Mirrors

    def _mirror_new(self) -> Iterator[Instruction]:
        if self._placed is not None and not self._placed.deleting:
            yield CreateObject(
                cause=self._cause,
                resource=WORKLOADS,
                namespace=self._key.namespace,
                body=_mirror(self._key, self._placed, None),
            )

    def _keep_mirror(self, view: WorkloadView) -> Iterator[Instruction]:
        if self._placed is None:
            # Without the finalizer first: its deletion is no user's, and asks nothing of the fleet.
            if FINALIZER in view.meta.finalizers:
                yield self._finalizers(view, tuple(name for name in view.meta.finalizers if name != FINALIZER))
            yield self._delete(view)
            return
        if not self._placed.deleting:
            wanted = _mirror(self._key, self._placed, view.meta)
            if _differs(view, wanted):
                yield ReplaceObject(
                    cause=self._cause,
                    resource=WORKLOADS,
                    namespace=self._key.namespace,
                    name=self._key.name,
                    body=wanted,
                )
                return
        yield from self._write_status(view)

    # Common

    def _write_status(self, view: WorkloadView) -> Iterator[Instruction]:
        sent = self._state.sent.get(self._key)
        waited_ms = self._policy.answer_ms if sent is None else self._now_ms - sent.at_ms
        patient = waited_ms < self._policy.answer_ms
        wanted = status_of(
            view, self._placement, self._status, self._now_ms, patient=patient, answered=self._was_answered(view)
        )
        if patient:
            yield Look(cause=self._cause, item=self._item, after_ms=self._policy.answer_ms - waited_ms)
        if wanted == view.status:
            return
        due_ms = self._state.status_written_ms.get(self._item, 0) + self._policy.status_interval_ms
        if self._now_ms < due_ms:
            yield Look(cause=self._cause, item=self._item, after_ms=due_ms - self._now_ms)
            return
        yield WriteStatus(
            cause=self._cause,
            resource=WORKLOADS,
            namespace=self._key.namespace,
            name=self._key.name,
            uid=view.meta.uid,
            status=wanted,
        )

    def _audit(self, view: WorkloadView, verb: Literal["create", "change", "delete"], request_id: str) -> PublishAudit:
        owner = self._state.clusters.get(view.meta.owner.name) if view.meta.owner else None
        # Who deletes an object is not written on it.
        actor = UNKNOWN_ACTOR if verb == "delete" else (owner or view).meta.actor
        return PublishAudit(
            cause=self._cause,
            event_id=f"{request_id}.audit",
            action=ActionAudited(
                actor=actor, verb=verb, kind="Workload", name=str(self._key), request_id=request_id, at=self._now_ms
            ),
        )

    def _finalizers(self, view: WorkloadView, finalizers: tuple[str, ...]) -> SetFinalizers:
        return SetFinalizers(
            cause=self._cause,
            resource=WORKLOADS,
            namespace=self._key.namespace,
            name=self._key.name,
            resource_version=view.meta.resource_version,
            finalizers=finalizers,
        )

    def _delete(self, view: WorkloadView) -> DeleteObject:
        return DeleteObject(
            cause=self._cause,
            resource=WORKLOADS,
            namespace=self._key.namespace,
            name=self._key.name,
            uid=view.meta.uid,
        )


def _mirror(key: WorkloadKey, placed: WorkloadPlaced, present: Meta | None) -> Json:
    """The resource that shows a workload which was requested elsewhere."""
    metadata: Json = {
        "name": key.name,
        "namespace": key.namespace,
        "labels": {**placed.workload.labels, ORIGIN_LABEL: ORIGIN_TOPIC},
        "annotations": {**placed.workload.annotations, WORKLOAD_UID_ANNOTATION: placed.uid},
        "finalizers": [FINALIZER],
    }
    if present is not None:
        others = [name for name in present.finalizers if name != FINALIZER]
        metadata |= {
            "uid": present.uid,
            "resourceVersion": present.resource_version,
            "finalizers": [*others, FINALIZER],
        }
    return {
        "apiVersion": API_VERSION,
        "kind": "Workload",
        "metadata": metadata,
        "spec": specification(placed.workload),
    }


def _differs(view: WorkloadView, wanted: Json) -> bool:
    metadata = wanted["metadata"]
    return bool(
        view.spec != wanted["spec"]
        or dict(view.meta.labels) != metadata["labels"]
        or dict(view.meta.annotations) != metadata["annotations"]
        or FINALIZER not in view.meta.finalizers
    )
