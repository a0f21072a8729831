"""The only place where the hub's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.hub.management import ManagementClusters
from services.hub.provisioning import Making
from services.hub.settings import HubSettings
from services.hub.shell import HubService
from shared.adapters.clock import SystemClock
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.provisioning import ClusterApiProvisioner, KubeconfigFolder, KubeconfigSecret
from shared.events.topics import ALL_TOPICS
from shared.ports.cluster_api import ClusterApi
from shared.ports.provisioning import KubeconfigStore
from shared.runtime.connections import open_log
from shared.runtime.read_model import open_store


async def build(settings: HubSettings, stack: AsyncExitStack) -> HubService:
    """Raises LogError without a broker, CredentialsError without a usable kubeconfig."""
    events = await open_log(settings, "hub", stack)
    await events.ensure_topics(ALL_TOPICS)
    if settings.hub_kubeconfig is not None:
        api = await KubernetesApi.from_kubeconfig(settings.hub_kubeconfig, settings.hub_context or None)
    else:
        api = await KubernetesApi.in_cluster()
    stack.push_async_callback(api.close)
    management = ManagementClusters(api, settings.hub_management_dir, settings.hub_management_deadline_s)
    stack.push_async_callback(management.close)
    making = Making(
        ClusterApiProvisioner(management.connect), _kubeconfigs(settings, api), settings.hub_management_deadline_s
    )
    store = open_store(settings, stack)
    return HubService(settings, api, events, store, making, SystemClock())


def _kubeconfigs(settings: HubSettings, api: ClusterApi) -> KubeconfigStore | None:
    if settings.hub_kubeconfig_secret:
        return KubeconfigSecret(api, settings.hub_lease_namespace, settings.hub_kubeconfig_secret)
    directory = settings.hub_kubeconfig_dir
    return KubeconfigFolder(directory) if directory is not None else None
