"""Looks at the nodes of a group, and the steps of a plan as requests: to the API server, and to the provider."""

from __future__ import annotations

import asyncio
from typing import Final

from services.executor import metrics
from services.executor.decision.backoff import CallFailed
from services.executor.decision.draining import Pod, pod_of
from services.executor.decision.node_groups import (
    DeleteNode,
    Evict,
    Node,
    PatchNode,
    RemoveNodes,
    Resize,
    Step,
    node_of,
)
from services.executor.wakefulness import Wakefulness
from shared.model.identities import NODE_GROUP_LABEL, Resource
from shared.ports.cluster_api import ApiError, ClusterApi, Object, Selection
from shared.ports.node_groups import NodeGroupProvider, ProviderError

_NODES: Final = Resource("", "v1", "nodes")
_PODS: Final = Resource("", "v1", "pods")
_NOT_FOUND: Final = 404
# Without an answer, or without the right to ask: what is true of one eviction is true of all.
_OF_THE_SERVER: Final = frozenset({0, 401, 403})


class NodeCaller:
    """On one cluster. Every call raises ApiError, ProviderError or SuspendedError, and is idempotent."""

    def __init__(self, cluster: str, api: ClusterApi, slots: asyncio.Semaphore, awake: Wakefulness) -> None:
        self._cluster = cluster
        self._api = api
        self._slots = slots
        self._awake = awake

    async def nodes(self, group: str) -> dict[str, Node]:
        async with self._slots:
            found = await self._api.list(_NODES, Selection(labels=f"{NODE_GROUP_LABEL}={group}"))
        nodes = (node_of(document) for document in found)
        return {node.name: node for node in nodes}

    async def pods(self, node: str) -> tuple[Pod, ...]:
        async with self._slots:
            found = await self._api.list(_PODS, Selection(fields=f"spec.nodeName={node}"))
        return tuple(pod_of(document) for document in found)

    async def take(self, step: Step, provider: NodeGroupProvider | None) -> CallFailed | None:
        """Takes one step. Returns why a pod was not evicted, if only that pod has to wait."""
        if isinstance(step, Resize | RemoveNodes):
            # A provider that is slow must not hold what all clusters' requests share.
            self._awake.check()
            assert provider is not None, "a release leaves machines alone"
            await self._ask(provider, step)
            return None
        async with self._slots:
            self._awake.check()
            match step:
                case PatchNode():
                    await self._patch(step)
                case DeleteNode():
                    await self._api.delete(_NODES, "", step.node.name, uid=step.node.uid)
                case Evict():
                    return await self._evict(step.pod)
        return None

    async def _patch(self, step: PatchNode) -> None:
        body: Object = {"metadata": {"uid": step.node.uid, "annotations": dict(step.annotations)}}
        if step.unschedulable is not None:
            body["spec"] = {"unschedulable": step.unschedulable}
        try:
            await self._api.merge_patch(_NODES, "", step.node.name, body)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise

    async def _evict(self, pod: Pod) -> CallFailed | None:
        said, refusal = "ok", None
        try:
            await self._api.create(_PODS, pod.namespace, _eviction(pod), subresource="eviction", name=pod.name)
        except ApiError as error:
            said = error.reason
            if error.code in _OF_THE_SERVER:
                raise
            if error.code != _NOT_FOUND:
                refusal = CallFailed(error.code, error.reason, error.message, error.retry_after_s)
        finally:
            metrics.EVICTIONS.labels(self._cluster, said).inc()
        return refusal

    async def _ask(self, provider: NodeGroupProvider, step: Resize | RemoveNodes) -> None:
        said = "ok"
        try:
            if isinstance(step, Resize):
                await provider.resize(step.size)
            else:
                await provider.remove(step.nodes)
        except ProviderError as error:
            said = error.reason
            raise
        finally:
            metrics.PROVIDER_CALLS.labels(self._cluster, type(step).__name__, said).inc()


def _eviction(pod: Pod) -> Object:
    """Of this very pod: a StatefulSet's next one has the same name."""
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }
