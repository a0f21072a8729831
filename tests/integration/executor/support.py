"""An executor at work on a cluster, and what a test asks of it: commands in, reports out, objects as they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from services.executor.settings import ExecutorSettings
from services.executor.shell import ExecutorService
from shared.adapters.clock import SystemClock
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.memory.event_log import MemoryLog
from shared.adapters.node_groups import Providers
from shared.events.registry import decode
from shared.events.topics import RESULTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.results import CommandReported
from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError, Object
from shared.ports.event_log import NewRecord
from shared.runtime.clusters import ClusterSource

DEPLOYMENTS = Resource("apps", "v1", "deployments")
CONFIG_MAPS = Resource("", "v1", "configmaps")
PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")
NAMESPACES = Resource("", "v1", "namespaces")

QUICK = {"executor_backoff_s": 0.2, "executor_backoff_max_s": 3.0, "executor_repair_s": 0.2, "http_port": -1}


class Running:
    """An executor in this process, on a log in memory: for what is about the cluster, not about the broker."""

    def __init__(self, source: ClusterSource, cluster: str, log: MemoryLog | None = None, **settings: Any) -> None:
        self.cluster = cluster
        self.log = log or MemoryLog()
        self._source = source
        self._settings = ExecutorSettings(executor_cluster=cluster, **{**QUICK, **settings})
        self._stop = asyncio.Event()
        self._providers = Providers(
            SystemClock(),
            management_kubeconfig=self._settings.executor_management_kubeconfig,
            secrets_dir=self._settings.executor_secrets_dir,
        )
        self.service = ExecutorService(self.log, source, self._providers, SystemClock(), self._settings)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.log.ensure_topics([RESULTS, commands_topic(self.cluster)])
        self._task = asyncio.create_task(self.service.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert self._task is not None
        async with asyncio.timeout(30):
            await self._task
        await self._providers.close()

    async def crash(self) -> None:
        """Ends it between two instructions, wherever it is, as kill -9 does as far as the cluster can tell."""
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def issue(self, *commands: CommandIssued) -> None:
        for item in commands:
            self.put(item.subject, item.to_json())

    def put(self, subject: str, value: bytes | None) -> None:
        self.log.append(NewRecord(commands_topic(self.cluster).name, subject.encode(), value))

    def reports(self, subject: str) -> list[CommandReported]:
        key = f"{self.cluster}/{subject}".encode()
        return [decode(CommandReported, r.value) for r in self.log.records(RESULTS.name) if r.key == key]

    async def until_reported(
        self, subject: str, outcome: str, generation: int | None = None, *, within: float = 30.0
    ) -> CommandReported:
        """The newest report, once it is this one."""

        async def reported() -> bool:
            found = self.reports(subject)[-1:]
            return any(r.outcome == outcome and generation in {None, r.generation} for r in found)

        await until(reported, f"{outcome} {generation}", within=within, state=lambda: self.reports(subject))
        return self.reports(subject)[-1]


async def until(
    condition: Callable[[], Awaitable[bool]],
    what: str,
    *,
    within: float = 30.0,
    state: Callable[[], object] = lambda: "",
) -> None:
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}; {state()}"
        await asyncio.sleep(0.05)


async def find(api: KubernetesApi, resource: Resource, namespace: str, name: str) -> Object | None:
    try:
        return await api.get(resource, namespace, name)
    except ApiError as error:
        if error.code != 404:
            raise
        return None
