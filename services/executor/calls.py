"""The reconciler's calls as requests to the API server: one request each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from services.executor.decision.backoff import CallFailed
from services.executor.decision.identity import GroupKind, ServedKind
from services.executor.decision.instructions import Annotate, Apply, Bind, Call, CreateNamespace, Delete, Stamp
from services.executor.wakefulness import Wakefulness
from shared.model.identities import FIELD_MANAGER, Resource
from shared.ports.cluster_api import ApiError, ApplyOptions, ClusterApi, Object

_OPTIONS = ApplyOptions(manager=FIELD_MANAGER, force=True)
_NAMESPACES = Resource("", "v1", "namespaces")
_PODS = Resource("", "v1", "pods")


class Caller:
    """Carries out calls on one cluster. `kinds` are the versions in which kinds are listed.

    `is_allowed` is asked right before a call is made: what it was decided by may be over.
    `slots` is shared by the clusters of a process: beyond it, requests only wait in queues while their deadlines pass.
    """

    def __init__(
        self,
        api: ClusterApi,
        kinds: dict[GroupKind, ServedKind],
        slots: asyncio.Semaphore,
        awake: Wakefulness,
        is_allowed: Callable[[Call], bool],
    ) -> None:
        self._api = api
        self._kinds = kinds
        self._slots = slots
        self._awake = awake
        self._is_allowed = is_allowed

    async def carry_out(self, call: Call) -> Object | CallFailed:
        """The object that the server answered with (empty where it answers with none), or why it refused.

        Raises SuspendedError: the process was, and the call was decided before that; it was not made.
        """
        try:
            async with self._slots:
                self._awake.check()
                if not self._is_allowed(call):
                    return CallFailed(0, "LeaseOver", "the lease was over before its turn came", None)
                return await self._request(call)
        except ApiError as error:
            return CallFailed(error.code, error.reason, error.message, error.retry_after_s)

    async def _request(self, call: Call) -> Object:
        target, api = call.target, self._api
        match call:
            case Apply():
                info = await api.resource_info(call.api_version, target.kind.kind)
                return await api.apply(info.resource, target.namespace, target.name, call.body, _OPTIONS)
            case CreateNamespace():
                body: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": target.name}}
                return await api.apply(_NAMESPACES, "", target.name, body, _OPTIONS)
            case Annotate():
                return await api.merge_patch(_NAMESPACES, "", target.name, _annotated(call.annotations))
            case Stamp():
                resource = await self._resource(target.kind)
                return await api.merge_patch(resource, target.namespace, target.name, _annotated(call.annotations))
            case Bind():
                await api.create(_PODS, target.namespace, _binding(call), subresource="binding", name=target.name)
                return {}
            case Delete():
                resource = await self._resource(target.kind)
                grace = 0 if call.at_once else None
                # Until its pods are gone as well: only then is a workload withdrawn.
                propagation = "Background" if resource.plural == "pods" else "Foreground"
                await api.delete(
                    resource,
                    target.namespace,
                    target.name,
                    uid=call.uid,
                    propagation=propagation,
                    grace_period_s=grace,
                )
                return {}
        raise TypeError(f"{type(call).__name__} is no call")

    async def _resource(self, kind: GroupKind) -> Resource:
        served = self._kinds[kind]
        return (await self._api.resource_info(served.api_version, served.kind)).resource


def _annotated(annotations: Mapping[str, str | None]) -> Object:
    return {"metadata": {"annotations": annotations}}


def _binding(call: Bind) -> Object:
    target = call.target
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": target.name, "namespace": target.namespace, "uid": call.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": call.node},
    }
