"""Starts, watches and stops a local fleet in order: broker and Redis, clusters, control plane, agents.

Everything is a child of this process and ends with it. Data and logs stay in one directory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from services.cli.fleet.clusters import ClusterSource
from services.cli.fleet.process import HERE, FleetError, Place, ServiceProcess
from shared.adapters.kafka import KafkaLog
from shared.events.topics import ALL_TOPICS
from shared.runtime.connections import kafka_options
from shared.runtime.embedded import EmbeddedKafka, EmbeddedValkey
from shared.runtime.embedded.progress import Progress, silent
from shared.runtime.settings import CommonSettings

SERVICES = ("scheduler", "status", "hub", "watcher", "executor")

Say = Callable[[str], None]


def _quiet(_: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """`environment` goes to every service; `services` names those that run; `schedulers` counts leader and standbys.

    With `kafka` and `redis` given, those are used instead of the embedded ones. `places` says where a service runs, if
    not in the network of this process, and `own` what is different in the environment of one.
    """

    directory: Path
    clusters: ClusterSource
    services: tuple[str, ...] = SERVICES
    schedulers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    kafka: str = ""
    redis: str = ""
    places: Mapping[str, Place] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    progress: Progress = silent
    say: Say = _quiet


class LocalFleet:
    """Enter it to start the fleet; what it started it stops."""

    def __init__(self, options: FleetOptions) -> None:
        self._options = options
        self._stack = AsyncExitStack()
        self.kafka = options.kafka
        self.redis = options.redis
        self.services: dict[str, ServiceProcess] = {}

    @property
    def directory(self) -> Path:
        return self._options.directory

    @property
    def clusters(self) -> ClusterSource:
        return self._options.clusters

    @property
    def hub_kubeconfig(self) -> Path:
        return self._options.clusters.hub_kubeconfig

    @property
    def kubeconfigs(self) -> Path:
        """The directory from which the agents take their clusters."""
        return self._options.clusters.kubeconfigs

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        options = self._options
        self.directory.mkdir(parents=True, exist_ok=True)
        options.say("starting the broker and Redis")
        await asyncio.gather(self._start_kafka(), self._start_redis())
        await self._create_topics()
        options.say("starting the clusters")
        await self._stack.enter_async_context(options.clusters.running(self.directory, self.common_environment()))
        options.say("starting the services")
        self._stack.push_async_callback(self._stop_services)
        for name in self._names():
            self._start_service(name)
        await asyncio.gather(*(service.wait_ready() for service in self.services.values()))

    def _names(self) -> list[str]:
        names = [name for name in self._options.services if name != "scheduler"]
        standbys = [f"scheduler-{n}" for n in range(2, self._options.schedulers + 1)]
        return (["scheduler", *standbys] if "scheduler" in self._options.services else []) + names

    async def _start_kafka(self) -> None:
        if not self.kafka:
            broker = EmbeddedKafka(self.directory / "kafka", progress=self._options.progress)
            await self._stack.enter_async_context(broker)
            self.kafka = broker.bootstrap

    async def _start_redis(self) -> None:
        if not self.redis:
            server = EmbeddedValkey(self.directory / "valkey")
            await self._stack.enter_async_context(server)
            self.redis = server.url

    async def _create_topics(self) -> None:
        log = await KafkaLog.connect(kafka_options(self.settings()), "fleet")
        try:
            await log.ensure_topics(ALL_TOPICS)
        finally:
            await log.close()

    def settings(self) -> CommonSettings:
        """How its services reach broker and Redis, for whoever wants to look beside them."""
        given = {name.removeprefix("FLOTILLA_").lower(): value for name, value in self.common_environment().items()}
        return CommonSettings.model_validate({key: given[key] for key in given.keys() & CommonSettings.model_fields})

    def common_environment(self) -> dict[str, str]:
        return {
            "FLOTILLA_KAFKA_BOOTSTRAP": self.kafka,
            "FLOTILLA_REDIS_URL": self.redis,
            **self._options.environment,
        }

    def _start_service(self, name: str) -> None:
        own = self._options.own.get(name, {})
        environment = {**self.common_environment(), **self._service_environment(name), **own}
        module = f"services.{name.partition('-')[0]}"
        place = self._options.places.get(name, HERE)
        service = ServiceProcess(name, module, environment, self.directory / "services", place)
        service.start()
        self.services[name] = service

    async def _stop_services(self) -> None:
        """At once: each drains by itself, while broker and clusters are still there."""
        await asyncio.gather(*(service.stop() for service in self.services.values()))

    def _service_environment(self, name: str) -> dict[str, str]:
        match name.partition("-")[0]:
            case "watcher":
                return {"FLOTILLA_WATCHER_KUBECONFIG_DIR": str(self.kubeconfigs)}
            case "executor":
                return {"FLOTILLA_EXECUTOR_KUBECONFIG_DIR": str(self.kubeconfigs)}
            case "hub":
                host = self._options.places.get(name, HERE).host
                environment = {
                    "FLOTILLA_HUB_KUBECONFIG": str(self.hub_kubeconfig),
                    "FLOTILLA_HUB_ADMIT_HOST": host,
                }
                if "FLOTILLA_HUB_KUBECONFIG_SECRET" not in self._options.own.get(name, {}):
                    environment["FLOTILLA_HUB_KUBECONFIG_DIR"] = str(self.kubeconfigs)
                return environment
            case "scheduler":
                return {"FLOTILLA_SCHEDULER_ID": f"{name}-{os.getpid()}"}
        return {}

    def check(self) -> None:
        """Raises FleetError if a service has ended by itself."""
        for service in self.services.values():
            if not service.running:
                raise FleetError(f"{service.name} has ended{service.tail()}")
