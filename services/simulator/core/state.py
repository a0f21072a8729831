"""The state of one cluster, and its clock: everything that requests and controllers read and write."""

from __future__ import annotations

from services.simulator.core.builtins import builtin_resources
from services.simulator.core.crds import CRD, resources_of
from services.simulator.core.ids import Ids
from services.simulator.core.meta import Json, is_deleting
from services.simulator.core.resources import Resource, ResourceRegistry
from services.simulator.core.store import Event, Item, Store

PODS = "pods"
NODES = "nodes"
NAMESPACES = "namespaces"
INITIAL_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


def _node_of(pod: Json) -> str:
    return str(pod.get("spec", {}).get("nodeName", ""))


class ClusterState:
    """`now` is set by whoever drives the cluster (seconds since the epoch) and never goes back."""

    def __init__(self, name: str, *, version: str, now: float, seed: str, first_version: int, window: int) -> None:
        self.name = name
        self.version = version
        self.now = now
        self.ids = Ids(f"{seed}/{name}")
        self.registry = ResourceRegistry()
        self.registry.add(builtin_resources())
        self.store = Store(first_version, window, {PODS: {"spec.nodeName": _node_of}})
        self.store.listeners.append(self._on_write)
        self.service_addresses = 0
        self.node_addresses = 0
        self.silent_nodes: set[str] = set()
        """Nodes whose kubelet has failed: their pods no longer change."""

    def advance(self, now: float) -> None:
        self.now = max(self.now, now)

    def items(self, storage: str, namespace: str = "") -> list[Item]:
        return self.store.collection(storage).in_namespace(namespace)

    def find(self, storage: str, namespace: str, name: str) -> Json | None:
        item = self.store.collection(storage).get(namespace, name)
        return item.object if item else None

    def resource(self, api_version: str, kind: str) -> Resource:
        found = self.registry.of_kind(api_version, kind)
        if found is None:
            raise LookupError(f"{kind} of {api_version} is not served")
        return found

    def next_service_address(self) -> str:
        self.service_addresses += 1
        count = self.service_addresses
        return f"10.{96 + count // 65536 % 16}.{count // 256 % 256}.{count % 256}"

    def _on_write(self, storage: str, event: Event) -> None:
        if storage != CRD:
            return
        crd = event.item.object
        spec = crd["spec"]
        self.registry.remove(spec["group"], spec["names"]["plural"])
        if event.type == "DELETED":
            self.store.drop(f"{spec['names']['plural']}.{spec['group']}")
        elif not is_deleting(crd) or crd["metadata"].get("finalizers"):
            self.registry.add(resources_of(crd))
