"""From what an order says of its provider to the adapter for it, and the connections that these share."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.node_groups.api_errors import as_provider_error
from shared.adapters.node_groups.cluster_api import ClusterApiProvider
from shared.adapters.node_groups.kwok import KwokProvider
from shared.adapters.node_groups.webhook import WebhookProvider
from shared.events.v1.clusters import ClusterApiGroup, KwokGroup, WebhookGroup
from shared.events.v1.commands import NodeGroupOrder
from shared.model.node_groups import FORBIDDEN, REFUSED
from shared.ports.clock import Clock
from shared.ports.cluster_api import ClusterApi
from shared.ports.node_groups import NodeGroupProvider, ProviderError


class Providers:
    """`management_kubeconfig` is that of the cluster which has Cluster API's objects; without it, each its own.

    `secrets_dir` holds the keys of webhooks; without it none is called, whoever names one.
    """

    def __init__(
        self, clock: Clock, *, management_kubeconfig: Path | None = None, secrets_dir: Path | None = None
    ) -> None:
        self._clock = clock
        self._secrets_dir = secrets_dir
        self._management_kubeconfig = management_kubeconfig
        self._management: ClusterApi | None = None
        self._session: aiohttp.ClientSession | None = None
        self._open = AsyncExitStack()

    async def of(self, order: NodeGroupOrder, cluster: str, api: ClusterApi) -> NodeGroupProvider:
        match order.provider:
            case KwokGroup():
                return KwokProvider(api, order.group, order.template)
            case ClusterApiGroup() as group:
                return ClusterApiProvider(await self._management_api(api), group)
            case WebhookGroup() as group:
                return self._webhook(group, cluster, order.group)
            case other:
                raise ProviderError(REFUSED, f"this executor has no provider of kind {other.kind}")

    async def close(self) -> None:
        await self._open.aclose()

    def _webhook(self, provider: WebhookGroup, cluster: str, group: str) -> WebhookProvider:
        if self._secrets_dir is None:
            raise ProviderError(FORBIDDEN, "webhooks are not called: FLOTILLA_EXECUTOR_SECRETS_DIR is not set")
        if self._session is None:
            self._session = aiohttp.ClientSession()
            self._open.push_async_callback(self._session.close)
        key_file = self._secrets_dir / provider.secret
        return WebhookProvider(self._session, self._clock, provider, key_file, cluster=cluster, group=group)

    async def _management_api(self, api: ClusterApi) -> ClusterApi:
        if self._management_kubeconfig is None:
            return api
        if self._management is None:
            with as_provider_error():
                self._management = await KubernetesApi.from_kubeconfig(self._management_kubeconfig)
            self._open.push_async_callback(self._management.close)
        return self._management
