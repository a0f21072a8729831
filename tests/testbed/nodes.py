"""Nodes that kwok plays: their manifests and what tests do to them."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# kwok plays the kubelet of a node that has this label, with the value `fake`.
KWOK_LABEL: Final = "kwok.x-k8s.io/node"


@dataclass(frozen=True, slots=True)
class NodeShape:
    """One kind of node; quantities as Kubernetes writes them."""

    cpu: str = "8"
    memory: str = "32Gi"
    pods: int = 110
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    extended: Mapping[str, str] = field(default_factory=dict)  # such as {"nvidia.com/gpu": "8"}

    def manifest(self, name: str) -> dict[str, Any]:
        """A Node as a kubelet would register it; kwok keeps the capacity and adds conditions and addresses."""
        resources = {
            "cpu": self.cpu,
            "memory": self.memory,
            "pods": str(self.pods),
            "ephemeral-storage": "100Gi",
            **self.extended,
        }
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            KWOK_LABEL: "fake",
            **self.labels,
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": [dict(taint) for taint in self.taints]},
            "status": {
                "capacity": resources,
                "allocatable": resources,
                "addresses": [
                    {"type": "InternalIP", "address": _address(name)},
                    {"type": "Hostname", "address": name},
                ],
            },
        }


def _address(name: str) -> str:
    """An address of the node's own in 172.16.0.0/12, the same each time."""
    return str(ipaddress.IPv4Address(0xAC10_0000 + zlib.crc32(name.encode()) % (1 << 20)))


def is_ready(node: Mapping[str, Any]) -> bool:
    """Ready, and without the taint that a new node has until the controllers have seen that it is."""
    if any(taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints", ())):
        return False
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
