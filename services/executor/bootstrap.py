"""The only place where the executor's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.executor.settings import ExecutorSettings
from services.executor.shell import ExecutorService
from shared.adapters.clock import SystemClock
from shared.runtime.clusters import KubeconfigDirectory, OneCluster
from shared.runtime.connections import open_log


async def build(settings: ExecutorSettings, stack: AsyncExitStack) -> ExecutorService:
    """Topics are not created here: an executor's credentials may not, and it waits for what is missing."""
    events = await open_log(settings, "executor", stack)
    deadline_s = settings.executor_call_timeout_s
    source = (
        KubeconfigDirectory(settings.executor_kubeconfig_dir, deadline_s=deadline_s)
        if settings.executor_kubeconfig_dir is not None
        else OneCluster(settings.executor_cluster, settings.executor_kubeconfig, deadline_s=deadline_s)
    )
    return ExecutorService(events, source, SystemClock(), settings)
