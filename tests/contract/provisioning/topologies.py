"""Cluster API in little: its own definition of Clusters, and a controller that plays the others.

It makes nothing: the cluster that "comes" is one that runs already, whose kubeconfig it hands out in the Secret of the
contract. What it does by the rules is what is seen from outside: finalizer, phase, `initialization` and
`observedGeneration`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.node_groups.cluster_api import GROUP
from shared.adapters.provisioning.cluster_api import CLUSTER_LABEL, SECRETS
from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError, ApplyOptions, Object, Selection
from tests.integration.executor.support import find, until
from tests.testbed.cluster_api import served_as

CRDS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
FINALIZER: Final = "cluster.cluster.x-k8s.io"
NAMESPACE: Final = "default"
_POLL_S: Final = 0.05


def clusters(version: str = "v1beta2") -> Resource:
    return Resource(GROUP, version, "clusters")


@asynccontextmanager
async def installed(api: KubernetesApi, *versions: str) -> AsyncIterator[None]:
    """The definition, as long as this is entered; what is left of Clusters goes with it."""
    resource, name = clusters(versions[0]), f"clusters.{GROUP}"
    await api.apply(CRDS, "", name, served_as(*versions), ApplyOptions("test"))

    async def served() -> bool:
        try:
            return await api.discover(resource) is not None and await api.list(resource) is not None
        except ApiError as error:
            if error.code != 404:
                raise
            return False

    async def gone() -> bool:
        return await find(api, CRDS, "", name) is None

    await until(served, "Cluster API's resources are served")
    try:
        yield
    finally:
        for item in await api.list(resource):
            meta = item["metadata"]
            await api.merge_patch(resource, meta["namespace"], meta["name"], {"metadata": {"finalizers": None}})
        await api.delete(CRDS, "", name)
        await until(gone, "Cluster API's resources are gone")


class Topologies:
    """The controllers of all Clusters of one namespace. `kubeconfigs` are those that are handed out, by name."""

    def __init__(self, api: KubernetesApi, version: str = "v1beta2", namespace: str = NAMESPACE) -> None:
        self.resource = clusters(version)
        self._namespace = namespace
        self.kubeconfigs: dict[str, bytes] = {}
        self.paused = False
        self._api = api

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Topologies]:
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            # What ended it before is why nothing came any more.
            with suppress(asyncio.CancelledError):
                await task
            for secret in await self._api.list(SECRETS, Selection(self._namespace, labels=CLUSTER_LABEL)):
                await self._api.delete(SECRETS, self._namespace, secret["metadata"]["name"])

    async def find(self, name: str) -> Object | None:
        return await find(self._api, self.resource, self._namespace, name)

    async def topology(self, name: str) -> Object:
        found: Object = (await self._api.get(self.resource, self._namespace, name))["spec"]["topology"]
        return found

    async def _run(self) -> None:
        while True:
            if not self.paused:
                await self._look()
            await asyncio.sleep(_POLL_S)

    async def _look(self) -> None:
        try:
            for item in await self._api.list(self.resource, Selection(self._namespace)):
                await self._reconcile(item)
        except ApiError as error:
            # One changed, or went, meanwhile; or the server is busy. The next look begins with what is there.
            if not error.retryable and error.code != 404:
                raise

    async def _reconcile(self, item: Object) -> None:
        meta, name = item["metadata"], item["metadata"]["name"]
        if "deletionTimestamp" in meta:
            await self._api.delete(SECRETS, self._namespace, f"{name}-kubeconfig")
            rest = [entry for entry in meta.get("finalizers") or () if entry != FINALIZER]
            await self._api.merge_patch(self.resource, self._namespace, name, {"metadata": {"finalizers": rest}})
        elif FINALIZER not in (meta.get("finalizers") or ()):
            await self._api.merge_patch(self.resource, self._namespace, name, {"metadata": {"finalizers": [FINALIZER]}})
            await self.report(name, {"phase": "Provisioning"})
        elif name in self.kubeconfigs:
            await self._hand_out(name)
            if item.get("status", {}).get("observedGeneration") != meta["generation"]:
                await self.report(name, self._there(int(meta["generation"])))

    def _there(self, generation: int) -> Object:
        status: Object = {"phase": "Provisioned", "observedGeneration": generation}
        if self.resource.version == "v1beta1":
            return {**status, "infrastructureReady": True, "controlPlaneReady": True}
        return {**status, "initialization": {"infrastructureProvisioned": True, "controlPlaneInitialized": True}}

    async def report(self, name: str, status: Object) -> None:
        await self._api.merge_patch(self.resource, self._namespace, name, {"status": status}, subresource="status")

    async def _hand_out(self, name: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{name}-kubeconfig", "labels": {CLUSTER_LABEL: name}},
            "data": {"value": base64.b64encode(self.kubeconfigs[name]).decode()},
        }
        await self._api.apply(SECRETS, self._namespace, f"{name}-kubeconfig", body, ApplyOptions("test"))
