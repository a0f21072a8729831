"""The only place where the executor's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.executor.settings import ExecutorSettings
from services.executor.shell import ExecutorService
from shared.adapters.clock import SystemClock
from shared.adapters.node_groups import Providers
from shared.runtime.clusters import cluster_source
from shared.runtime.connections import open_log


async def build(settings: ExecutorSettings, stack: AsyncExitStack) -> ExecutorService:
    """Topics are not created here: an executor's credentials may not, and it waits for what is missing."""
    events = await open_log(settings, "executor", stack)
    source = cluster_source(
        settings.executor_cluster,
        settings.executor_kubeconfig,
        settings.executor_kubeconfig_dir,
        deadline_s=settings.executor_call_timeout_s,
    )
    clock = SystemClock()
    providers = Providers(
        clock,
        management_kubeconfig=settings.executor_management_kubeconfig,
        secrets_dir=settings.executor_secrets_dir,
    )
    stack.push_async_callback(providers.close)
    return ExecutorService(events, source, providers, clock, settings)
