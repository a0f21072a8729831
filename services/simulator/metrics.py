"""`metrics.k8s.io`: what nodes and pods use, from a load profile. Pure: a function of the state and its time."""

from __future__ import annotations

from services.simulator.core.meta import Json, timestamp
from services.simulator.core.resources import Resource
from services.simulator.core.state import NODES, PODS, ClusterState
from services.simulator.load import LoadProfile, pod_usage

_WINDOW = "15s"
_NODE_OVERHEAD_CPU_NANO = 100_000_000
_NODE_OVERHEAD_KIB = 512 * 1024


def _usage(cpu_nano: int, memory_kib: int) -> dict[str, str]:
    return {"cpu": f"{cpu_nano}n", "memory": f"{memory_kib}Ki"}


def _running(pod: Json) -> bool:
    return bool(pod["status"].get("phase") == "Running")


def _meta(state: ClusterState, obj: Json) -> Json:
    meta = {"name": obj["metadata"]["name"], "creationTimestamp": timestamp(state.now)}
    for name in ("namespace", "labels"):
        if name in obj["metadata"]:
            meta[name] = obj["metadata"][name]
    return meta


def metrics_items(state: ClusterState, load: LoadProfile, resource: Resource) -> list[Json]:
    return _pods(state, load) if resource.namespaced else _nodes(state, load)


def _pods(state: ClusterState, load: LoadProfile) -> list[Json]:
    return [
        {
            "kind": "PodMetrics",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": _meta(state, item.object),
            "timestamp": timestamp(state.now),
            "window": _WINDOW,
            "containers": [
                {"name": name, "usage": _usage(cpu, memory)}
                for name, cpu, memory in pod_usage(load, item.object, state.now)
            ],
        }
        for item in state.items(PODS)
        if _running(item.object)
    ]


def _nodes(state: ClusterState, load: LoadProfile) -> list[Json]:
    found = []
    for node in state.items(NODES):
        name = node.object["metadata"]["name"]
        if name in state.silent_nodes:
            continue
        cpu, memory = _NODE_OVERHEAD_CPU_NANO, _NODE_OVERHEAD_KIB
        for pod in state.store.collection(PODS).indexed("spec.nodeName", name):
            if _running(pod.object):
                for _, container_cpu, container_memory in pod_usage(load, pod.object, state.now):
                    cpu += container_cpu
                    memory += container_memory
        found.append(
            {
                "kind": "NodeMetrics",
                "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": _meta(state, node.object),
                "timestamp": timestamp(state.now),
                "window": _WINDOW,
                "usage": _usage(cpu, memory),
            }
        )
    return found
