"""DaemonSet: one pod on every node that it may run on. Source: k8s.io/kubernetes/pkg/controller/daemon."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import cast

from services.simulator.controllers.common import (
    DAEMON_SETS,
    Templates,
    delete_pod,
    is_available,
    is_finished,
    new_pod,
    owned,
    owner_key,
    ready_since,
    round_percentage,
    store_status,
)
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.controllers.scheduling import matches_node, untolerated
from services.simulator.controllers.statefulset import REVISION_LABEL, revision_of
from services.simulator.core.meta import Json, Key, is_deleting, key_of, labels_of
from services.simulator.core.state import NODES, PODS, ClusterState
from services.simulator.core.store import Event

_NODES_CHANGED = ("*", "nodes")
_TOLERATED = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)


@dataclass(frozen=True, slots=True)
class _View:
    """The nodes that the pods should be on and the pods by node."""

    eligible: list[str]
    running: dict[str, list[Json]]


class DaemonSetController:
    watches = frozenset({DAEMON_SETS, PODS, NODES})

    def __init__(self, events: Recorder) -> None:
        self._templates = Templates()
        self._events = events

    def keys(self, storage: str, event: Event) -> Iterable[Key]:
        if storage == NODES:
            return () if _only_heartbeat(event) else (_NODES_CHANGED,)
        if storage == DAEMON_SETS:
            return () if event.type == "DELETED" else (key_of(event.item.object),)
        return owner_key(event, "DaemonSet", "apps")

    def reconcile(self, key: Hashable, work: Work) -> None:
        state = work.state
        if key == _NODES_CHANGED:
            for item in state.items(DAEMON_SETS):
                work.later(key_of(item.object), 0)
            return
        owner = state.find(DAEMON_SETS, *cast("Key", key))
        if owner is None:
            return
        wanted = revision_of(owner)
        if not is_deleting(owner):
            self._sync(state, owner, wanted)
        self._report(state, state.find(DAEMON_SETS, *cast("Key", key)) or owner, wanted)

    def _view(self, state: ClusterState, owner: Json) -> _View:
        spec = _tolerant(owner["spec"]["template"]["spec"])
        eligible = [item.object["metadata"]["name"] for item in state.items(NODES) if _may_run(spec, item.object)]
        running: dict[str, list[Json]] = {}
        for pod in owned(state, owner, PODS):
            running.setdefault(_node_of(pod), []).append(pod)
        return _View(eligible, running)

    def _sync(self, state: ClusterState, owner: Json, wanted: str) -> None:
        view = self._view(state, owner)
        allowed = set(view.eligible)
        for node, pods in view.running.items():
            for pod in pods[0 if node not in allowed else 1 :]:
                if not is_deleting(pod):
                    delete_pod(state, pod)
            for pod in pods[:1]:
                if is_finished(pod) and not is_deleting(pod):
                    delete_pod(state, pod, grace=0)
        for node in view.eligible:
            if not view.running.get(node):
                self._create(state, owner, node, wanted)
        if owner["spec"]["updateStrategy"]["type"] == "RollingUpdate":
            self._update(state, owner, view, wanted)

    def _create(self, state: ClusterState, owner: Json, node: str, wanted: str) -> None:
        template = owner["spec"]["template"]
        admitted = self._templates.admitted(owner, {**template, "spec": template["spec"]})
        spec = _pinned(_tolerant(admitted["spec"]), node)
        labels = {**((template.get("metadata") or {}).get("labels") or {}), REVISION_LABEL: wanted}
        prefix = f"{owner['metadata']['name']}-"
        pod = new_pod(state, owner, template, {**admitted, "spec": spec}, prefix=prefix, labels=labels)
        stored = state.store.insert(PODS, pod).object
        message = f"Created pod: {stored['metadata']['name']}"
        self._events.record(owner, "SuccessfulCreate", message, "daemonset-controller")

    def _update(self, state: ClusterState, owner: Json, view: _View, wanted: str) -> None:
        rolling = owner["spec"]["updateStrategy"].get("rollingUpdate") or {}
        limit = max(round_percentage(rolling.get("maxUnavailable", 1), len(view.eligible), up=True), 1)
        minimum = owner["spec"].get("minReadySeconds", 0)
        pods = [pod for node in view.eligible for pod in view.running.get(node, ())[:1]]
        unavailable = len(view.eligible) - sum(
            not is_deleting(pod) and is_available(pod, minimum, state.now) for pod in pods
        )
        for pod in pods:
            if labels_of(pod).get(REVISION_LABEL) == wanted or is_deleting(pod):
                continue
            available = is_available(pod, minimum, state.now)
            if available and unavailable >= limit:
                continue
            delete_pod(state, pod)
            unavailable += available

    def _report(self, state: ClusterState, owner: Json, wanted: str) -> None:
        view = self._view(state, owner)
        minimum = owner["spec"].get("minReadySeconds", 0)
        pods = [pod for node in view.eligible for pod in view.running.get(node, ())[:1]]
        available = sum(is_available(pod, minimum, state.now) for pod in pods)
        status: Json = {
            "currentNumberScheduled": len(pods),
            "numberMisscheduled": sum(len(pods) for node, pods in view.running.items() if node not in view.eligible),
            "desiredNumberScheduled": len(view.eligible),
            "numberReady": sum(ready_since(pod) is not None for pod in pods),
            "observedGeneration": owner["metadata"]["generation"],
        }
        counts = {
            "updatedNumberScheduled": sum(labels_of(pod).get(REVISION_LABEL) == wanted for pod in pods),
            "numberAvailable": available,
            "numberUnavailable": len(view.eligible) - available,
        }
        store_status(state, DAEMON_SETS, owner, status | {name: count for name, count in counts.items() if count})


def _may_run(spec: Json, node: Json) -> bool:
    if not matches_node(spec, node):
        return False
    return untolerated(spec.get("tolerations") or (), node, ("NoSchedule", "NoExecute")) is None


def _tolerant(spec: Json) -> Json:
    """The pod spec with the tolerations that daemons get."""
    added = [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect} for key, effect in _TOLERATED]
    kept = [entry for entry in spec.get("tolerations") or () if "tolerationSeconds" not in entry]
    return {**spec, "tolerations": [*kept, *(entry for entry in added if entry not in kept)]}


def _pinned(spec: Json, node: str) -> Json:
    """The pod spec bound to one node by affinity, as the controller does; the scheduler then binds the pod."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = dict(spec.get("affinity") or {})
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": terms,
    }
    return {**spec, "affinity": affinity}


def _node_of(pod: Json) -> str:
    """The node that a pod is on, or before it is bound the one that it is meant for."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


def _only_heartbeat(event: Event) -> bool:
    if event.previous is None or event.type == "DELETED":
        return False
    before, after = event.previous.object, event.item.object
    same_spec = before.get("spec") == after.get("spec")
    return same_spec and before["metadata"].get("labels") == after["metadata"].get("labels")
