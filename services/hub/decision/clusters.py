"""One Cluster: what is to be done, given its custom resource and the heartbeats of its agents.

A Cluster that a user made declares the cluster to the fleet, as does one that joined by itself (label
`flotilla.dev/origin: joined`) once somebody wrote into its specification. What was declared before and is no longer is
taken back by a tombstone. `spec.workloads` becomes one Workload of the cluster's name, owned by the Cluster. What has
a `spec.provision` is made, and ends in steps: see `provisioning`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from services.hub.decision.cluster_status import Apply, Made, status_of
from services.hub.decision.instructions import (
    CreateObject,
    DeleteObject,
    Item,
    Look,
    PublishAudit,
    PublishDeclaration,
    ReplaceObject,
    SetFinalizers,
    WriteStatus,
)
from services.hub.decision.measured import is_worth_writing
from services.hub.decision.provisioning import Provisioning, Said, declared_provision, needs_finalizer
from services.hub.decision.resources import (
    API_VERSION,
    CLUSTERS,
    FINALIZER,
    ORIGIN_JOINED,
    ORIGIN_LABEL,
    WORKLOADS,
    ClusterSpec,
)
from services.hub.decision.state import Policy, Pulse, State
from services.hub.decision.views import UNKNOWN_ACTOR, ClusterView, Json, Refusal, WorkloadView, dump
from shared.events.v1.audit import ActionAudited
from shared.events.v1.clusters import ClusterDeclared
from shared.kernel.machine import Instruction
from shared.model.identities import CLUSTER_LABEL, WorkloadKey
from shared.model.names import dns_label_error


def decide_cluster(name: str, state: State, policy: Policy, now_ms: int, cause: str) -> Iterator[Instruction]:
    """Everything that brings the custom resource and the fleet together."""
    return _Decision(name, state, policy, now_ms, cause).instructions()


class _Decision:
    def __init__(self, name: str, state: State, policy: Policy, now_ms: int, cause: str) -> None:
        self._name = name
        self._item = Item("", name)
        self._state = state
        self._policy = policy
        self._now_ms = now_ms
        self._cause = cause
        self._pulse = state.pulses.get(name)

    def instructions(self) -> Iterator[Instruction]:
        view = self._state.clusters.get(self._name)
        if view is not None and view.meta.deleting and FINALIZER in view.meta.finalizers:
            yield from self._end(view)
            return
        if view is None or view.meta.deleting:
            yield from self._take_back()
            if view is None:
                yield from self._welcome()
            return
        if view.joined_by_itself and not view.spec and self._pulse is None:
            yield DeleteObject(cause=self._cause, resource=CLUSTERS, namespace="", name=self._name, uid=view.meta.uid)
            return
        if self._policy.provision and needs_finalizer(view):
            # The watch brings the object back with it; before that nothing may be made.
            yield self._finalizers(view, (*view.meta.finalizers, FINALIZER))
            return
        yield from self._declare(view)
        apply = Apply()
        if isinstance(view.declared, ClusterSpec):
            apply = self._check_workload(view)
            yield from self._bring_workload(view, view.declared, apply)
        provisioning = self._provisioning(view)
        yield from provisioning.ask()
        said = provisioning.said()
        yield from self._write_status(view, apply, (said,) if said is not None else (), said.reason if said else "")

    def _end(self, view: ClusterView) -> Iterator[Instruction]:
        """One that is provisioned goes when it is empty: the step that is due."""
        provisioning, known, present = self._provisioning(view), self._state.declared.get(self._name), self._present()
        if present is not None and _owned_by(present, view) and not present.meta.deleting:
            yield self._delete(present)
        if isinstance(view.declared, Refusal) and not provisioning.is_forced:
            # What is to be deleted is not known; the specification of what is being deleted may be put right.
            yield from self._write_status(view, Apply(), (), "Invalid")
            return
        if known is not None:
            yield from provisioning.close(known, ending=False)
        drained = provisioning.drained()
        if drained.status != "True":
            said = provisioning.said()
            yield from self._write_status(view, Apply(), (*((said,) if said else ()), drained), drained.reason)
            return
        if not provisioning.has_gone(known):
            yield from provisioning.leave(known)
            said = provisioning.ending()
            yield from self._write_status(view, Apply(), (*((said,) if said else ()), drained), "Deleting")
            return
        if known is not None:
            yield from self._withdraw(known)
        yield self._finalizers(view, tuple(name for name in view.meta.finalizers if name != FINALIZER))

    def _provisioning(self, view: ClusterView) -> Provisioning:
        return Provisioning(view, self._state, self._policy, self._now_ms, self._cause)

    # What the fleet is told

    def _declare(self, view: ClusterView) -> Iterator[Instruction]:
        spec = view.declared
        if view.joined_by_itself and not view.spec:
            yield from self._take_back()
            return
        if not isinstance(spec, ClusterSpec):
            # What was declared before stands until the specification is put right.
            return
        wanted = ClusterDeclared(
            name=self._name,
            uid=view.meta.uid,
            labels=spec.labels,
            taints=spec.taints,
            unschedulable=spec.unschedulable,
            price_per_hour=spec.price_per_hour,
            node_prices=spec.node_prices,
            node_groups=spec.node_groups,
            head_room=spec.head_room,
            node_limits=spec.node_limits,
            watched_resources=spec.watched_resources,
            provision=declared_provision(spec),
        )
        known = self._state.declared.get(self._name)
        if known == wanted:
            return
        created = known is None or known.uid != wanted.uid
        request_id = f"{view.meta.uid}.{view.meta.generation}"
        # First: a hub that dies in between finds it undeclared, and repeats both.
        yield self._audit("create" if created else "change", view.meta.actor, request_id)
        yield PublishDeclaration(cause=self._cause, name=self._name, declared=wanted)

    def _take_back(self) -> Iterator[Instruction]:
        """Once its Workload is gone: with the declaration the cluster itself may go, and could confirm nothing."""
        known, present = self._state.declared.get(self._name), self._present()
        if known is None:
            return
        owner = present.meta.owner if present is not None else None
        if owner is None or owner.uid != known.uid:
            yield from self._withdraw(known)
        elif not known.unschedulable:
            closed = known.model_copy(update={"unschedulable": True})
            yield PublishDeclaration(cause=self._cause, name=self._name, declared=closed)

    def _withdraw(self, known: ClusterDeclared) -> Iterator[Instruction]:
        yield self._audit("delete", UNKNOWN_ACTOR, f"{known.uid}.delete")
        yield PublishDeclaration(cause=self._cause, name=self._name, declared=None)

    def _welcome(self) -> Iterator[Instruction]:
        """A cluster that joined by itself gets an object, if its agents are alive and its name can be one."""
        if self._pulse is None or not self._alive(self._pulse) or dns_label_error(self._name):
            return
        left_ms = self._state.deleted_ms.get(self._name, 0) + self._policy.rejoin_ms - self._now_ms
        if left_ms > 0:
            # A user deleted it just now. Its agents may be about to leave; if they stay, it is shown again.
            yield Look(cause=self._cause, item=self._item, after_ms=left_ms)
            return
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": "Cluster",
            "metadata": {"name": self._name, "labels": {ORIGIN_LABEL: ORIGIN_JOINED}},
        }
        yield CreateObject(cause=self._cause, resource=CLUSTERS, namespace="", body=body)

    # Its own workload

    def _check_workload(self, view: ClusterView) -> Apply:
        present = self._present()
        if present is None or _owned_by(present, view) or not view.spec.get("workloads"):
            return Apply(present if present is not None and _owned_by(present, view) else None)
        owner = present.meta.owner
        if owner is not None and owner.kind == "Cluster" and owner.uid not in self._cluster_uids():
            return Apply(waits="the Workload of an earlier Cluster of this name is being deleted")
        message = f"Workload {present.key} is there already and does not belong to this Cluster"
        return Apply(conflict=message)

    def _bring_workload(self, view: ClusterView, spec: ClusterSpec, apply: Apply) -> Iterator[Instruction]:
        present = apply.workload
        if present is not None and present.meta.deleting:
            return
        if not spec.workloads:
            if present is not None:
                yield self._delete(present)
            return
        if apply.conflict or apply.waits:
            return
        wanted = self._workload(view, spec, present)
        if present is None:
            yield CreateObject(
                cause=self._cause, resource=WORKLOADS, namespace=self._policy.owned_namespace, body=wanted
            )
        elif present.spec != wanted["spec"]:
            yield ReplaceObject(
                cause=self._cause,
                resource=WORKLOADS,
                namespace=present.meta.namespace,
                name=present.meta.name,
                body=wanted,
            )

    def _present(self) -> WorkloadView | None:
        return self._state.workloads.get(WorkloadKey(self._policy.owned_namespace, self._name))

    def _cluster_uids(self) -> set[str]:
        return {cluster.meta.uid for cluster in self._state.clusters.values()}

    def _workload(self, view: ClusterView, spec: ClusterSpec, present: WorkloadView | None) -> Json:
        metadata: Json = {
            "name": self._name,
            "namespace": self._policy.owned_namespace,
            "labels": {CLUSTER_LABEL: self._name},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "Cluster",
                    "name": self._name,
                    "uid": view.meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
        if present is not None:
            metadata |= {
                "uid": present.meta.uid,
                "resourceVersion": present.meta.resource_version,
                "finalizers": list(present.meta.finalizers),
                "labels": {**present.meta.labels, **metadata["labels"]},
                "annotations": dict(present.meta.annotations),
            }
        return {
            "apiVersion": API_VERSION,
            "kind": "Workload",
            "metadata": metadata,
            "spec": {
                "podSets": [dump(pod_set) for pod_set in spec.workloads],
                "placement": {"clusters": [self._name]},
            },
        }

    def _delete(self, present: WorkloadView) -> DeleteObject:
        return DeleteObject(
            cause=self._cause,
            resource=WORKLOADS,
            namespace=present.meta.namespace,
            name=present.meta.name,
            uid=present.meta.uid,
        )

    # What the user is told

    def _write_status(
        self, view: ClusterView, apply: Apply, said: Sequence[Said], provision: str
    ) -> Iterator[Instruction]:
        """`said` and `provision` are the conditions and the word of how far making or ending it has come."""
        pulse = self._pulse
        alive = pulse is not None and self._alive(pulse)
        counts = self._state.counts.of(self._name)
        made = Made(tuple(said), provision)
        wanted = status_of(view, pulse, apply, counts, made, self._now_ms, alive=alive)
        if pulse is not None and alive:
            # Wakes when it would be late, and when what was measured is due to be written again.
            wait_ms = min(pulse.expires_ms(self._policy) - self._now_ms, self._policy.refresh_ms)
            yield Look(cause=self._cause, item=self._item, after_ms=max(wait_ms, 1))
        if not is_worth_writing(view.status, wanted, self._now_ms, self._policy.refresh_ms):
            return
        due_ms = self._state.status_written_ms.get(self._item, 0) + self._policy.status_interval_ms
        if self._now_ms < due_ms:
            yield Look(cause=self._cause, item=self._item, after_ms=due_ms - self._now_ms)
            return
        yield WriteStatus(
            cause=self._cause, resource=CLUSTERS, namespace="", name=self._name, uid=view.meta.uid, status=wanted
        )

    def _alive(self, pulse: Pulse) -> bool:
        return self._now_ms < pulse.expires_ms(self._policy)

    def _finalizers(self, view: ClusterView, finalizers: tuple[str, ...]) -> SetFinalizers:
        return SetFinalizers(
            cause=self._cause,
            resource=CLUSTERS,
            namespace="",
            name=self._name,
            resource_version=view.meta.resource_version,
            finalizers=finalizers,
        )

    def _audit(self, verb: Literal["create", "change", "delete"], actor: str, request_id: str) -> PublishAudit:
        return PublishAudit(
            cause=self._cause,
            event_id=f"{request_id}.audit",
            action=ActionAudited(
                actor=actor, verb=verb, kind="Cluster", name=self._name, request_id=request_id, at=self._now_ms
            ),
        )


def _owned_by(workload: WorkloadView, view: ClusterView) -> bool:
    return workload.meta.owner is not None and workload.meta.owner.uid == view.meta.uid
