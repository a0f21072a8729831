"""Nodes whose kubelet has fallen silent: NotReady after a grace, tainted, their pods evicted by toleration time.

Source: k8s.io/kubernetes/pkg/controller/{nodelifecycle,tainteviction}.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import cast

from services.simulator.controllers.common import delete_pod, is_finished, pods_of_node
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.controllers.nodes import node_conditions
from services.simulator.controllers.scheduling import tolerates
from services.simulator.core.meta import (
    Json,
    condition_true,
    is_deleting,
    parse_timestamp,
    set_conditions,
    timestamp,
    with_status,
)
from services.simulator.core.state import NODES, PODS, ClusterState
from services.simulator.core.store import Event
from services.simulator.spec import Timing

UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
LEASES = "leases.coordination.k8s.io"
_COMPONENT = "node-controller"


class NodeLifecycleController:
    """Keys: (`health`, node) and (`evict`, node)."""

    watches = frozenset({NODES, PODS})

    def __init__(self, timing: Timing, events: Recorder) -> None:
        self._timing = timing
        self._events = events
        self._silent_since: dict[str, float] = {}

    def keys(self, storage: str, event: Event) -> Iterable[tuple[str, str]]:
        if storage == PODS:
            node = event.item.object["spec"].get("nodeName")
            bound = event.previous is None or event.previous.object["spec"].get("nodeName") != node
            return (("evict", node),) if node and bound and event.type != "DELETED" else ()
        name = event.item.object["metadata"]["name"]
        return () if event.type == "DELETED" else (("health", name), ("evict", name))

    def reconcile(self, key: Hashable, work: Work) -> None:
        what, name = cast("tuple[str, str]", key)
        node = work.state.find(NODES, "", name)
        if node is None:
            self._silent_since.pop(name, None)
        elif what == "health":
            self._health(work.state, node, key, work)
        else:
            self._evict(work.state, node, key, work)

    def _health(self, state: ClusterState, node: Json, key: Hashable, work: Work) -> None:
        name = node["metadata"]["name"]
        if name not in state.silent_nodes:
            self._silent_since.pop(name, None)
            if "conditions" not in node.get("status", {}):
                node = _joined(node)
            if not condition_true(node, "Ready"):
                self._set(state, node, ready=True)
            self._taint_unschedulable(state, state.find(NODES, "", name) or node)
            return
        since = self._silent_since.setdefault(name, state.now)
        left = since + self._timing.node_grace - state.now
        if left > 0:
            work.later(key, left)
        elif condition_true(node, "Ready"):
            self._set(state, node, ready=False)

    def _set(self, state: ClusterState, node: Json, *, ready: bool) -> None:
        taints = [taint for taint in (node.get("spec") or {}).get("taints") or () if taint["key"] != UNREACHABLE]
        if not ready:
            added = timestamp(state.now)
            taints += [
                {"key": UNREACHABLE, "effect": effect, "timeAdded": added} for effect in ("NoSchedule", "NoExecute")
            ]
        spec = {name: value for name, value in node["spec"].items() if name != "taints"}
        if taints:
            spec["taints"] = taints
        conditions = node_conditions(state, ready=ready, previous=node["status"].get("conditions"))
        stored = state.store.replace(NODES, {**with_status(node, conditions=conditions), "spec": spec}).object
        reason = "NodeReady" if ready else "NodeNotReady"
        name = node["metadata"]["name"]
        self._events.record(stored, reason, f"Node {name} status is now: {reason}", _COMPONENT)
        if not ready:
            for pod in pods_of_node(state, name):
                self._mark_not_ready(state, pod)

    def _mark_not_ready(self, state: ClusterState, pod: Json) -> None:
        if condition_true(pod, "Ready"):
            change = {"type": "Ready", "status": "False"}
            conditions = set_conditions(pod["status"]["conditions"], [change], state.now)
            state.store.replace(PODS, with_status(pod, conditions=conditions))

    def _taint_unschedulable(self, state: ClusterState, node: Json) -> None:
        """A cordoned node bears a taint as well, which what reads only taints relies on."""
        taints = (node.get("spec") or {}).get("taints") or []
        has = any(taint["key"] == UNSCHEDULABLE for taint in taints)
        wanted = bool((node.get("spec") or {}).get("unschedulable"))
        if has == wanted:
            return
        taints = [taint for taint in taints if taint["key"] != UNSCHEDULABLE]
        if wanted:
            taints.append({"key": UNSCHEDULABLE, "effect": "NoSchedule", "timeAdded": timestamp(state.now)})
        spec = {name: value for name, value in node["spec"].items() if name != "taints"}
        state.store.replace(NODES, {**node, "spec": {**spec, **({"taints": taints} if taints else {})}})

    def _evict(self, state: ClusterState, node: Json, key: Hashable, work: Work) -> None:
        taints = [taint for taint in (node.get("spec") or {}).get("taints") or () if taint["effect"] == "NoExecute"]
        if not taints:
            return
        waits = []
        for pod in pods_of_node(state, node["metadata"]["name"]):
            if is_deleting(pod) or is_finished(pod):
                continue
            at = _eviction_time(pod, taints, state.now)
            if at is None:
                continue
            if at <= state.now:
                self._events.record(
                    pod, "TaintManagerEviction", "Marking for deletion Pod", "taint-eviction-controller"
                )
                delete_pod(state, pod)
            else:
                waits.append(at - state.now)
        if waits:
            work.later(key, min(waits))


def _joined(node: Json) -> Json:
    """A node that somebody created through the API gets a kubelet, and what a small machine has unless it says so."""
    status = node.get("status") or {}
    capacity = status.get("capacity") or {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    addresses = [{"type": "Hostname", "address": node["metadata"]["name"]}]
    joined = {"capacity": capacity, "allocatable": capacity, "addresses": addresses, **status}
    return {**node, "spec": node.get("spec") or {}, "status": joined}


def _eviction_time(pod: Json, taints: list[Json], now: float) -> float | None:
    """When a pod has to go because of NoExecute taints; None if it may stay."""
    moments = []
    for taint in taints:
        matching = [entry for entry in pod["spec"].get("tolerations") or () if tolerates([entry], taint)]
        if not matching:
            return now
        limits = [entry["tolerationSeconds"] for entry in matching if "tolerationSeconds" in entry]
        if limits:
            since = parse_timestamp(taint["timeAdded"]) if "timeAdded" in taint else now
            moments.append(since + max(min(limits), 0))
    return min(moments) if moments else None


class LeaseController:
    """Renews the leases of nodes whose kubelet lives, if the cluster asks for it. One key renews them all."""

    watches = frozenset({NODES})

    def __init__(self, timing: Timing) -> None:
        self._every = timing.lease_renewal
        self._running = False

    def keys(self, storage: str, event: Event) -> Iterable[str]:
        del storage
        if not self._every or self._running or event.type != "ADDED":
            return ()
        self._running = True
        return ("renew",)

    def reconcile(self, key: Hashable, work: Work) -> None:
        state = work.state
        for item in state.items(NODES):
            name = item.object["metadata"]["name"]
            if name not in state.silent_nodes:
                self._renew(state, item.object)
        work.later(key, self._every)

    def _renew(self, state: ClusterState, node: Json) -> None:
        name = node["metadata"]["name"]
        renewed = timestamp(state.now).replace("Z", ".000000Z")
        known = state.find(LEASES, "kube-node-lease", name)
        if known is not None:
            state.store.replace(LEASES, {**known, "spec": {**known["spec"], "renewTime": renewed}})
            return
        reference = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        state.store.insert(
            LEASES,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": name,
                    "namespace": "kube-node-lease",
                    "uid": state.ids.uid(),
                    "creationTimestamp": timestamp(state.now),
                    "ownerReferences": [reference],
                },
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed},
            },
        )
