"""Cluster API in little: its resources with the fields that are used, and a controller that makes nodes of Machines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from shared.adapters.kubernetes import KubernetesApi
from shared.model.identities import NODE_GROUP_LABEL, Resource
from shared.ports.cluster_api import ApiError, ApplyOptions, Object, Selection
from tests.integration.executor.support import NODES, find, until
from tests.testbed.nodes import NodeShape

CRDS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
GROUP: Final = "cluster.x-k8s.io"
MACHINES: Final = Resource(GROUP, "v1beta1", "machines")
NAMESPACE: Final = "default"
_KINDS: Final = {"machinedeployments": "MachineDeployment", "machinepools": "MachinePool", "machines": "Machine"}
_LABELS: Final = {"machinedeployments": "deployment-name", "machinepools": "pool-name"}
_POLL_S: Final = 0.05


async def install(api: KubernetesApi) -> None:
    for plural, kind in _KINDS.items():
        await api.apply(CRDS, "", f"{plural}.{GROUP}", _crd(plural, kind), ApplyOptions("test"))

    async def served() -> bool:
        resources = [Resource(GROUP, "v1beta1", plural) for plural in _KINDS]
        if not all([await api.discover(resource) is not None for resource in resources]):
            return False
        try:
            for resource in resources:
                await api.list(resource)
        except ApiError as error:
            if error.code != 404:
                raise
            return False
        return True

    await until(served, "Cluster API's resources are served")


async def uninstall(api: KubernetesApi) -> None:
    """Until they are gone: what is applied before that goes with them."""
    for plural in _KINDS:
        await api.delete(CRDS, "", f"{plural}.{GROUP}")

    async def gone() -> bool:
        return not any([await find(api, CRDS, "", f"{plural}.{GROUP}") for plural in _KINDS])

    await until(gone, "Cluster API's resources are gone")


def _crd(plural: str, kind: str) -> Object:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version: dict[str, Any] = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}},
        "subresources": {"status": {}},
    }
    if plural != "machines":
        version["subresources"]["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            **({"labelSelectorPath": ".status.selector"} if plural == "machinedeployments" else {}),
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [version],
        },
    }


class Machinery:
    """The controllers of one MachineDeployment or MachinePool, as far as its number of nodes goes.

    Whom it deletes when fewer are asked for: first the annotated, then those without a node, then the first by name,
    which no caller may count upon. `workload` is the cluster that the nodes join, if that is another one.
    """

    def __init__(
        self, api: KubernetesApi, plural: str, name: str, group: str, *, workload: KubernetesApi | None = None
    ) -> None:
        self.resource = Resource(GROUP, "v1beta1", plural)
        self.name = name
        self.stock: int | None = None
        self.paused = False
        self._api = api
        self._workload = workload or api
        self._group = group
        self._label = f"cluster.x-k8s.io/{_LABELS[plural]}"
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Machinery]:
        kind = _KINDS[self.resource.plural]
        body = {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": kind,
            "metadata": {"name": self.name},
            "spec": {"replicas": 0},
        }
        await self._api.create(self.resource, NAMESPACE, body)
        await self._patch(
            self.resource, self.name, {"status": {"selector": f"{self._label}={self.name}", "replicas": 0}}
        )
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            # What ended it before is why nothing came any more.
            with suppress(asyncio.CancelledError):
                await task
            for machine in await self.machines():
                await self._delete(machine)
            await self._api.delete(self.resource, NAMESPACE, self.name)

    async def machines(self) -> list[Object]:
        selection = Selection(NAMESPACE, labels=f"{self._label}={self.name}")
        return sorted(await self._api.list(MACHINES, selection), key=lambda item: str(item["metadata"]["name"]))

    async def replicas(self) -> int:
        return int((await self._api.get(self.resource, NAMESPACE, self.name))["spec"]["replicas"])

    async def _run(self) -> None:
        while True:
            if not self.paused:
                await self._look()
            await asyncio.sleep(_POLL_S)

    async def _look(self) -> None:
        try:
            await self._reconcile()
        except ApiError as error:
            # Something changed, or went, meanwhile; or the server is busy. The next look begins with what is there.
            if not error.retryable and error.code != 404:
                raise

    async def _reconcile(self) -> None:
        wanted, machines = await self.replicas(), await self.machines()
        for _ in range(wanted - len(machines)):
            await self._create()
        for machine in sorted(machines, key=_priority)[: max(0, len(machines) - wanted)]:
            await self._delete(machine)
        for machine in await self.machines():
            if "nodeRef" not in machine.get("status", {}):
                await self._provide(machine["metadata"]["name"])

    async def _create(self) -> None:
        name = f"{self.name}-{next(self._numbers):03}"
        metadata = {"name": name, "labels": {self._label: self.name}}
        body = {"apiVersion": f"{GROUP}/v1beta1", "kind": "Machine", "metadata": metadata, "spec": {}}
        await self._api.create(MACHINES, NAMESPACE, body)

    async def _provide(self, name: str) -> None:
        """A machine for the Machine, which joins as a node of another name."""
        if self.stock == 0:
            condition = {
                "type": "InfrastructureReady",
                "status": "False",
                "reason": "InstanceProvisionFailed",
                "message": "InsufficientInstanceCapacity: no m7i.large in eu-west-1a",
            }
            await self._patch(MACHINES, name, {"status": {"conditions": [condition]}})
            return
        node, provider_id = f"node-of-{name}", f"test:///{name}"
        manifest = NodeShape(labels={NODE_GROUP_LABEL: self._group}).manifest(node)
        manifest["spec"]["providerID"] = provider_id
        if await find(self._workload, NODES, "", node) is None:
            await self._workload.create(NODES, "", manifest)
        await self._api.merge_patch(MACHINES, NAMESPACE, name, {"spec": {"providerID": provider_id}})
        await self._patch(MACHINES, name, {"status": {"nodeRef": {"kind": "Node", "name": node}}})

    async def _delete(self, machine: Object) -> None:
        ref = machine.get("status", {}).get("nodeRef")
        if ref:
            await self._workload.delete(NODES, "", ref["name"])
        await self._api.delete(MACHINES, NAMESPACE, machine["metadata"]["name"])

    async def _patch(self, resource: Resource, name: str, body: Object) -> None:
        await self._api.merge_patch(resource, NAMESPACE, name, body, subresource="status")


def _priority(machine: Object) -> tuple[bool, bool, str]:
    annotations = machine["metadata"].get("annotations") or {}
    marked = "cluster.x-k8s.io/delete-machine" in annotations
    return not marked, "nodeRef" in machine.get("status", {}), str(machine["metadata"]["name"])
