"""The services of the fleet as simulated processes: their real shells, on simulated ports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Final, Protocol

import orjson

from services.executor.settings import ExecutorSettings
from services.executor.shell import ExecutorService
from services.hub.management import ManagementClusters
from services.hub.provisioning import Making
from services.hub.settings import HubSettings
from services.hub.shell import HubService
from services.scheduler.bootstrap import assemble as assemble_scheduler
from services.scheduler.bootstrap import configuration as scheduler_configuration
from services.scheduler.replay.engine import Replay, Source
from services.scheduler.settings import SchedulerSettings
from services.status.settings import StatusSettings
from services.status.shell import StatusService
from services.watcher.bootstrap import POLICY
from services.watcher.bootstrap import assemble as assemble_watcher
from services.watcher.settings import WatcherSettings
from shared.adapters.kubernetes import KubernetesApi, ListWatchPolicy
from shared.adapters.node_groups import Providers
from shared.adapters.provisioning import ClusterApiProvisioner
from shared.ports.cluster_api import ClusterApi
from shared.runtime.service import Service
from tests.simulation.api_client import SimTransport
from tests.simulation.api_server import ApiServer
from tests.simulation.broker import Broker
from tests.simulation.links import Link
from tests.simulation.log_client import SimLog
from tests.simulation.plan import Plan
from tests.simulation.process import Process
from tests.simulation.slots import HUB
from tests.simulation.store import SimKeyValue, Store

# How often an agent looks whether its clusters are still the same: here they are.
_SCAN_S: Final = 60.0
_CALL_S: Final = 10.0
_LEASE_MARGIN_S: Final = 5.0
# Few, so that more than these would show in a minute or two.
REBALANCES_PER_MINUTE: Final = 6.0


class Surroundings(Protocol):
    """What processes are connected to."""

    broker: Broker
    servers: dict[str, ApiServer]
    store: Store
    plan: Plan

    def link(self, process: Process, server: str) -> Link:
        """The way from a process to `log`, `store` or a cluster."""


class Clusters:
    """The clusters of an agent, as the port `ClusterSource`."""

    def __init__(self, connectors: Mapping[str, Callable[[], Awaitable[ClusterApi]]]) -> None:
        self._connectors = connectors

    async def scan(self) -> Mapping[str, Callable[[], Awaitable[ClusterApi]]]:
        return self._connectors


def clusters(
    process: Process, around: Surroundings, names: tuple[str, ...], policy: ListWatchPolicy | None
) -> Clusters:
    def connector(name: str) -> Callable[[], Awaitable[ClusterApi]]:
        async def connect() -> ClusterApi:
            process.effect(f"connect to {name}")
            transport = SimTransport(process, around.servers[name], around.link(process, name))
            return KubernetesApi(transport, deadline_s=_CALL_S, policy=policy)

        return connect

    return Clusters({name: connector(name) for name in names})


def build(kind: str, process: Process, around: Surroundings, names: tuple[str, ...]) -> Service:
    """A service as its bootstrap would wire it; `names` are the clusters of an agent."""
    log = SimLog(process, around.broker, around.link(process, "log"))
    match kind:
        case "watcher":
            source = clusters(process, around, names, POLICY)
            return assemble_watcher(_watcher(names[0]), log, clock=process.clock, source=source)
        case "executor":
            source, providers = clusters(process, around, names, None), Providers(process.clock)
            return ExecutorService(log, source, providers, process.clock, _executor(names[0]))
        case "scheduler":
            return assemble_scheduler(_scheduler(str(process), around.plan), log, process.clock)
        case "status":
            store = SimKeyValue(process, around.store, around.link(process, "store"))
            return StatusService(log, store, process.clock, _status())
        case "hub":
            transport = SimTransport(process, around.servers[HUB], around.link(process, HUB))
            store = SimKeyValue(process, around.store, around.link(process, "store"))
            api = KubernetesApi(transport, deadline_s=_CALL_S)
            provisioner = ClusterApiProvisioner(ManagementClusters(api, None, _CALL_S).connect)
            making = Making(provisioner, None, deadline_s=_CALL_S)
            return HubService(_hub(str(process)), api, log, store, making, process.clock)
    raise ValueError(f"no service {kind!r}")


@lru_cache
def _watcher(cluster: str) -> WatcherSettings:
    return WatcherSettings(watcher_cluster=cluster, watcher_scan_s=_SCAN_S)


@lru_cache
def _executor(cluster: str) -> ExecutorSettings:
    return ExecutorSettings(executor_cluster=cluster, executor_scan_s=_SCAN_S, executor_call_timeout_s=_CALL_S)


# Reading settings costs as much as two simulated seconds: each life has its own name alone.


def _scheduler(name: str, plan: Plan) -> SchedulerSettings:
    return _any_scheduler(orjson.dumps(plan.queues)).model_copy(update={"scheduler_id": name})


@lru_cache
def _any_scheduler(queues: bytes) -> SchedulerSettings:
    # Small batches, so that a queue which has no bound shows with few requests.
    # The margin is that of a cluster without kubelets: what is to end has ended soon.
    return SchedulerSettings(
        scheduler_batch=16,
        scheduler_lease_margin_s=_LEASE_MARGIN_S,
        scheduler_rebalances_per_minute=REBALANCES_PER_MINUTE,
        scheduler_queues=orjson.loads(queues),
    )


def replaying(plan: Plan) -> Callable[[Source], Replay]:
    """Of the decisions of any of the fleet's schedulers."""
    settings = _any_scheduler(orjson.dumps(plan.queues))
    return lambda source: Replay(source, scheduler_configuration(settings), settings.scheduler_max_request_bytes)


def _hub(name: str) -> HubSettings:
    return _any_hub().model_copy(update={"hub_id": name})


@lru_cache
def _any_hub() -> HubSettings:
    # `/admit` needs a socket.
    return HubSettings(hub_admit_port=-1)


@lru_cache
def _status() -> StatusSettings:
    return StatusSettings()
