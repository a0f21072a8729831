"""The node objects of a cluster: made from node groups, and what failing and recovering does to them."""

from __future__ import annotations

from services.simulator.core.meta import Json, timestamp
from services.simulator.core.quantities import canonical
from services.simulator.core.state import ClusterState
from services.simulator.spec import ClusterSpec, NodeGroup

PRICE = "flotilla.dev/price-per-hour"
NODE_GROUP = "flotilla.dev/node-group"
_HEALTHY = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


def node_conditions(state: ClusterState, *, ready: bool, previous: list[Json] | None = None) -> list[Json]:
    """The conditions of a node whose kubelet reports (ready) or has fallen silent."""
    now = timestamp(state.now)
    since = {entry["type"]: (entry["status"], entry["lastTransitionTime"]) for entry in previous or ()}
    heartbeat = now if ready or not previous else previous[0]["lastHeartbeatTime"]

    def entry(kind: str, status: str, reason: str, message: str) -> Json:
        known = since.get(kind)
        return {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": heartbeat,
            "lastTransitionTime": known[1] if known and known[0] == status else now,
            "reason": reason,
            "message": message,
        }

    if not ready:
        return [
            entry(kind, "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
            for kind in (*(name for name, _, _ in _HEALTHY), "Ready")
        ]
    conditions = [entry(kind, "False", reason, message) for kind, reason, message in _HEALTHY]
    return [*conditions, entry("Ready", "True", "KubeletReady", "kubelet is posting ready status")]


def _capacity(group: NodeGroup) -> Json:
    capacity = {
        "cpu": group.cpu,
        "memory": group.memory,
        "ephemeral-storage": "100Gi",
        "pods": str(group.pods),
        **group.resources,
    }
    if group.gpu:
        capacity[group.gpu_resource] = str(group.gpu)
    return {name: canonical(amount) for name, amount in capacity.items()}


def make_node(state: ClusterState, spec: ClusterSpec, group: NodeGroup, index: int) -> Json:
    """A node of a group; the index picks its name, zone and address."""
    name = f"{spec.name}-{group.name}-{index}"
    zone = f"{spec.region}{group.zones[index % len(group.zones)]}" if group.zones else spec.region
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": group.instance_type,
        "topology.kubernetes.io/region": spec.region,
        "topology.kubernetes.io/zone": zone,
        NODE_GROUP: group.name,
        **group.labels,
    }
    annotations = {}
    if group.price_per_hour is not None:
        labels[PRICE] = annotations[PRICE] = f"{group.price_per_hour:g}"
    state.node_addresses += 1
    number = state.node_addresses
    address = f"10.{number // 65536 % 64}.{number // 256 % 256}.{number % 256}"
    subnet = f"10.{128 + number // 256 % 64}.{number % 256}.0/24"
    node_spec: Json = {"podCIDR": subnet, "podCIDRs": [subnet], "providerID": f"{spec.provider}://{spec.region}/{name}"}
    if group.taints:
        node_spec["taints"] = [
            taint.model_dump(exclude_defaults=True) | {"effect": taint.effect} for taint in group.taints
        ]
    capacity = _capacity(group)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": state.ids.uid(),
            "creationTimestamp": timestamp(state.now),
            "labels": labels,
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": node_spec,
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": node_conditions(state, ready=True),
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": state.ids.uid(),
                "systemUUID": state.ids.uid(),
                "bootID": state.ids.uid(),
                "kernelVersion": "6.0.0-simulated",
                "osImage": "Flotilla simulated node",
                "containerRuntimeVersion": "simulated://1",
                "kubeletVersion": spec.version,
                "kubeProxyVersion": spec.version,
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    }
