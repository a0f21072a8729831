"""ReplicaSet: as many pods as asked. Source: k8s.io/kubernetes/pkg/controller/replicaset."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import cast

from services.simulator.controllers.common import (
    REPLICA_SETS,
    Templates,
    delete_pod,
    is_active,
    is_available,
    new_pod,
    owned,
    owner_key,
    ready_since,
    store_status,
)
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.core.meta import Json, Key, is_deleting, key_of, labels_of
from services.simulator.core.state import PODS, ClusterState
from services.simulator.core.store import Event

_BURST = 500
"""Pods created or deleted in one reconcile, as in Kubernetes."""


class ReplicaSetController:
    watches = frozenset({REPLICA_SETS, PODS})

    def __init__(self, events: Recorder) -> None:
        self._templates = Templates()
        self._events = events

    def keys(self, storage: str, event: Event) -> Iterable[Key]:
        if storage == REPLICA_SETS:
            return () if event.type == "DELETED" else (key_of(event.item.object),)
        return owner_key(event, "ReplicaSet", "apps")

    def reconcile(self, key: Hashable, work: Work) -> None:
        namespace, name = cast("Key", key)
        state = work.state
        replica_set = state.find(REPLICA_SETS, namespace, name)
        if replica_set is None:
            return
        pods = [pod for pod in owned(state, replica_set, PODS) if is_active(pod)]
        if not is_deleting(replica_set):
            more = self._scale(state, replica_set, pods)
            if more:
                work.later(key, 0)
            pods = [pod for pod in owned(state, replica_set, PODS) if is_active(pod)]
            replica_set = state.find(REPLICA_SETS, namespace, name) or replica_set
        wait = self._report(state, replica_set, pods)
        if wait is not None:
            work.later(key, wait)

    def _scale(self, state: ClusterState, replica_set: Json, pods: list[Json]) -> bool:
        """Creates or deletes pods; True if the burst was not enough."""
        missing = replica_set["spec"]["replicas"] - len(pods)
        meta = replica_set["metadata"]
        if missing > 0:
            template = replica_set["spec"]["template"]
            admitted = self._templates.admitted(replica_set, template)
            for _ in range(min(missing, _BURST)):
                pod = new_pod(state, replica_set, template, admitted, prefix=f"{meta['name']}-")
                state.store.insert(PODS, pod)
                name = pod["metadata"]["name"]
                self._events.record(replica_set, "SuccessfulCreate", f"Created pod: {name}", "replicaset-controller")
        elif missing < 0:
            for pod in sorted(pods, key=_deletion_rank)[: min(-missing, _BURST)]:
                delete_pod(state, pod)
                name = pod["metadata"]["name"]
                self._events.record(replica_set, "SuccessfulDelete", f"Deleted pod: {name}", "replicaset-controller")
        return bool(abs(missing) > _BURST)

    def _report(self, state: ClusterState, replica_set: Json, pods: list[Json]) -> float | None:
        """Writes the status; seconds until a ready pod becomes available, if one will."""
        spec, minimum = replica_set["spec"], replica_set["spec"].get("minReadySeconds", 0)
        template_labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        ready = [pod for pod in pods if ready_since(pod) is not None]
        available = sum(is_available(pod, minimum, state.now) for pod in ready)
        labelled = sum(template_labels.items() <= labels_of(pod).items() for pod in pods)
        status: Json = {"replicas": len(pods)}
        if labelled:
            status["fullyLabeledReplicas"] = labelled
        if ready:
            status["readyReplicas"] = len(ready)
        if available:
            status["availableReplicas"] = available
        status["observedGeneration"] = replica_set["metadata"]["generation"]
        store_status(state, REPLICA_SETS, replica_set, status)
        return float(minimum) if available < len(ready) else None


def _deletion_rank(pod: Json) -> tuple[bool, bool, bool, float, str]:
    """Pods to delete first: unassigned, pending, not ready, most recently ready, newest."""
    since = ready_since(pod)
    return (
        bool(pod["spec"].get("nodeName")),
        pod["status"].get("phase") == "Running",
        since is not None,
        -(since or 0.0),
        pod["metadata"]["name"],
    )
