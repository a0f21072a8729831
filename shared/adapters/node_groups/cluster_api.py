"""Node groups of Cluster API: a MachineDeployment or a MachinePool, and the Machines that are its nodes.

The size is changed through the scale subresource. Who goes is said by an annotation of its Machine, which the
controllers prefer when fewer are asked for; a Machine without a node goes before one with a node. Source: Cluster API,
`api/core/*/machine_types.go` (DeleteMachineAnnotation), `internal/controllers/machineset/machineset_delete_policy.go`,
and cluster-autoscaler's provider `clusterapi`, which does the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from shared.adapters.node_groups.api_errors import as_provider_error
from shared.events.v1.clusters import ClusterApiGroup
from shared.model.identities import Resource
from shared.model.node_groups import NOT_FOUND, OUT_OF_STOCK, REFUSED, GroupState, NodeRef, is_out_of_stock
from shared.ports.cluster_api import ClusterApi, Object, Selection
from shared.ports.node_groups import ProviderError

GROUP: Final = "cluster.x-k8s.io"
# The newest one that the server has.
VERSIONS: Final = ("v1beta2", "v1beta1")
DELETE_ANNOTATION: Final = "cluster.x-k8s.io/delete-machine"
# Whose mark it is: those of others (cluster-autoscaler writes a time) are left alone.
_OURS: Final = "flotilla"
_OWNER_LABELS: Final = {
    "machinedeployments": "cluster.x-k8s.io/deployment-name",
    "machinepools": "cluster.x-k8s.io/pool-name",
}


class ClusterApiProvider:
    """`api` is that of the management cluster, which may be the cluster itself."""

    def __init__(self, api: ClusterApi, group: ClusterApiGroup) -> None:
        self._api = api
        self._group = group

    async def state(self, nodes: Sequence[NodeRef]) -> GroupState:
        with as_provider_error():
            version = await self._version()
            scale = await self._api.read(self._scale_path(version), {})
            machines = await self._machines(version, scale)
            there = {}
            for node in nodes:
                machine = machines.of(node)
                if machine is not None:
                    there[node.name] = _is_leaving(machine)
            if self._group.resource == "machinepools" and not machines.all:
                # One whose infrastructure has no Machines: its nodes are known and cannot be told to go.
                there = await self._pool_nodes(version)
        reason, message = _problem(machines.all)
        return GroupState(int(scale["spec"].get("replicas", 0)), there, 0, reason, message)

    async def resize(self, size: int) -> None:
        with as_provider_error():
            resource, group = self._resource(await self._version(), self._group.resource), self._group
            await self._api.merge_patch(
                resource, group.namespace, group.name, {"spec": {"replicas": size}}, subresource="scale"
            )

    async def remove(self, nodes: Sequence[NodeRef]) -> None:
        with as_provider_error():
            version = await self._version()
            machines = await self._machines(version, await self._api.read(self._scale_path(version), {}))
            if nodes and self._group.resource == "machinepools" and not machines.all:
                message = f"MachinePool {self._group.name} has no Machines: which of its nodes go cannot be said"
                raise ProviderError(REFUSED, message)
            wanted = {found["metadata"]["name"] for node in nodes if (found := machines.of(node)) is not None}
            for machine in machines.all:
                name, mark = machine["metadata"]["name"], _annotations(machine).get(DELETE_ANNOTATION)
                if name in wanted and mark is None:
                    await self._mark(version, name, _OURS)
                elif name not in wanted and mark == _OURS:
                    await self._mark(version, name, None)

    async def _mark(self, version: str, machine: str, mark: str | None) -> None:
        body = {"metadata": {"annotations": {DELETE_ANNOTATION: mark}}}
        await self._api.merge_patch(self._resource(version, "machines"), self._group.namespace, machine, body)

    async def _version(self) -> str:
        for version in VERSIONS:
            if await self._api.discover(self._resource(version, self._group.resource)) is not None:
                return version
        raise ProviderError(NOT_FOUND, f"the API server has no {self._group.resource}.{GROUP}")

    async def _machines(self, version: str, scale: Mapping[str, Any]) -> _Machines:
        group = self._group
        # A name that is too long for a label stands there as a hash, which the selector knows.
        selector = scale.get("status", {}).get("selector") or f"{_OWNER_LABELS[group.resource]}={group.name}"
        found = await self._api.list(self._resource(version, "machines"), Selection(group.namespace, labels=selector))
        return _Machines(found)

    async def _pool_nodes(self, version: str) -> dict[str, bool]:
        pool = await self._api.get(
            self._resource(version, self._group.resource), self._group.namespace, self._group.name
        )
        return {ref["name"]: False for ref in pool.get("status", {}).get("nodeRefs") or () if ref.get("name")}

    def _scale_path(self, version: str) -> str:
        group = self._group
        return f"/apis/{GROUP}/{version}/namespaces/{group.namespace}/{group.resource}/{group.name}/scale"

    @staticmethod
    def _resource(version: str, plural: str) -> Resource:
        return Resource(GROUP, version, plural)


class _Machines:
    """Machines by the nodes that they are."""

    def __init__(self, machines: Sequence[Object]) -> None:
        self.all = machines
        self._by_name = {ref["name"]: machine for machine in machines if (ref := _node_ref(machine))}
        self._by_id = {text: machine for machine in machines if (text := machine["spec"].get("providerID"))}

    def of(self, node: NodeRef) -> Object | None:
        found = self._by_id.get(node.provider_id) if node.provider_id else None
        return found if found is not None else self._by_name.get(node.name)


def _node_ref(machine: Object) -> Object | None:
    ref = machine.get("status", {}).get("nodeRef")
    return ref if ref and ref.get("name") else None


def _annotations(machine: Object) -> Mapping[str, str]:
    return machine["metadata"].get("annotations") or {}


def _is_leaving(machine: Object) -> bool:
    return "deletionTimestamp" in machine["metadata"] or DELETE_ANNOTATION in _annotations(machine)


def _problem(machines: Sequence[Object]) -> tuple[str, str]:
    """Why a machine that has no node does not come, if that is for want of one."""
    for machine in machines:
        if _node_ref(machine) is not None or _is_leaving(machine):
            continue
        for text in _complaints(machine):
            if is_out_of_stock(text):
                return OUT_OF_STOCK, f"Machine {machine['metadata']['name']}: {text}"[:512]
    return "", ""


def _complaints(machine: Object) -> Iterator[str]:
    status = machine.get("status", {})
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False":
            yield f"{condition.get('reason', '')}: {condition.get('message', '')}"
    if "failureMessage" in status:
        yield f"{status.get('failureReason', '')}: {status['failureMessage']}"
