"""From what an order says of its provider to the adapter for it, and the connections that these share."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.node_groups.api_errors import as_provider_error
from shared.adapters.node_groups.cluster_api import ClusterApiProvider
from shared.adapters.node_groups.kwok import KwokProvider
from shared.adapters.node_groups.webhook import WebhookProvider
from shared.events.v1.clusters import AwsAutoScalingGroup, AwsEksNodeGroup, ClusterApiGroup, KwokGroup, WebhookGroup
from shared.events.v1.commands import NodeGroupOrder
from shared.model.node_groups import FORBIDDEN, REFUSED
from shared.ports.clock import Clock
from shared.ports.cluster_api import ClusterApi
from shared.ports.node_groups import NodeGroupProvider, ProviderError

if TYPE_CHECKING:
    from shared.adapters.node_groups.aws import Aws


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
        self._aws: Aws | None = None
        self._open = AsyncExitStack()

    async def of(self, order: NodeGroupOrder, cluster: str, api: ClusterApi) -> NodeGroupProvider:
        match order.provider:
            case KwokGroup():
                return KwokProvider(api, order.group, order.template)
            case ClusterApiGroup() as group:
                return ClusterApiProvider(await self._management_api(api), group)
            case WebhookGroup() as group:
                return self._webhook(group, cluster, order.group)
            case AwsAutoScalingGroup() | AwsEksNodeGroup() as group:
                return (await self._at_aws()).provider(group)

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

    async def _at_aws(self) -> Aws:
        if self._aws is None:
            try:
                opened = await asyncio.to_thread(_open_aws, self._clock)
            except ImportError as error:
                raise ProviderError(REFUSED, "boto3 is not installed: pip install 'flotilla[aws]'") from error
            # Two groups may have asked at once; what is not used has opened nothing yet.
            if self._aws is None:
                self._aws = opened
                self._open.push_async_callback(opened.close)
        return self._aws

    async def _management_api(self, api: ClusterApi) -> ClusterApi:
        if self._management_kubeconfig is None:
            return api
        if self._management is None:
            with as_provider_error():
                opened = await KubernetesApi.from_kubeconfig(self._management_kubeconfig)
            self._open.push_async_callback(opened.close)
            # Two groups may have asked at once: all ask by the same.
            self._management = self._management or opened
        return self._management


def _open_aws(clock: Clock) -> Aws:
    """In a thread: importing boto3 reads some hundred files, and only who has groups at AWS pays for it."""
    from shared.adapters.node_groups.aws import Aws  # noqa: PLC0415 - see above

    return Aws(clock)
