"""The simulator as a Python object: clusters in this process, served on a port, with a kubeconfig for each.

async with Simulator(kubeconfig_dir=directory) as simulator:
await simulator.add_cluster(ClusterSpec(name="alpha"))
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from services.simulator import telemetry
from services.simulator.asked_metrics import MetricValue
from services.simulator.cluster import DEFAULT_WINDOW, Cluster
from services.simulator.driver import Driver
from services.simulator.faults import NO_FAULTS, Faults, FaultSpec
from services.simulator.http.admin import Admin
from services.simulator.http.api import KubernetesApi, WatchSettings
from services.simulator.http.server import ApiServer, Served
from services.simulator.kubeconfig import kubeconfig, remove_kubeconfig, write_kubeconfig
from services.simulator.load import make_profile, read_series
from services.simulator.spec import ClusterSpec

HUBS = "hubs"

_VERSIONS_PER_SECOND = 10_000
_log = structlog.get_logger(__name__)


class Simulator:
    """`advertise` is the host in the kubeconfigs; the port is chosen by the system unless given."""

    def __init__(
        self,
        *,
        kubeconfig_dir: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        advertise: str | None = None,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        ca_data: str | None = None,
        seed: str = "flotilla",
        window: int = DEFAULT_WINDOW,
        watch: WatchSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kubeconfig_dir = kubeconfig_dir
        self._host = host
        self._wanted_port = port
        self._advertise = advertise or ("127.0.0.1" if host in {"0.0.0.0", "::"} else host)
        self._token = token
        self._tls = tls
        self._ca_data = ca_data
        self._seed = seed
        self._window = window
        self._watch = watch or WatchSettings()
        self._clock = clock
        self._driver = Driver(clock)
        self._server = ApiServer(clock, token, Admin(self).handle)
        self._clusters: dict[str, Cluster] = {}
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self.port = await self._server.start(self._host, self._wanted_port, self._tls)
        self._driver.start()

    async def stop(self) -> None:
        """Closes connections and stops the controllers. Kubeconfigs are removed, as nothing answers there now."""
        await self._driver.stop()
        await self._server.stop()
        for name in tuple(self._clusters):
            await self._remove_file(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._clusters)

    def cluster(self, name: str) -> Cluster:
        """The cluster itself, for tests that look inside or change nodes.

        Raises:
            KeyError: there is no such cluster.
        """
        return self._clusters[name]

    def server_url(self, name: str) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self._advertise}:{self.port}/clusters/{name}"

    async def add_cluster(self, spec: ClusterSpec) -> str:
        """Adds a cluster and writes its kubeconfig; its URL. Adding the same specification again changes nothing.

        Raises:
            ValueError: a different cluster of that name exists, or its load file cannot be read.
        """
        file = spec.load.file
        recording = await asyncio.to_thread(read_series, file) if file is not None else None
        known = self._clusters.get(spec.name)
        if known is not None:
            if known.spec != spec:
                raise ValueError(f"a different cluster {spec.name} exists")
            return self.server_url(spec.name)
        load = make_profile(spec.load, recording)
        now = self._clock()
        cluster = Cluster(
            spec,
            now=now,
            on_work=lambda: self._driver.notify(spec.name),
            seed=f"{self._seed}/{now}",
            window=self._window,
            # Versions of an earlier life of this cluster are in the past, so its watchers get 410 and list again.
            first_version=int(now) * _VERSIONS_PER_SECOND,
        )
        self._clusters[spec.name] = cluster
        telemetry.CLUSTERS.set(len(self._clusters))
        api = KubernetesApi(cluster.state, load, self._watch)
        self._server.clusters[spec.name] = Served(api, Faults(cluster.state.ids.fraction))
        self._driver.add(cluster)
        directory = self._directory(spec)
        if directory is not None:
            document = kubeconfig(spec.name, self.server_url(spec.name), self._token, self._ca_data)
            await asyncio.to_thread(write_kubeconfig, directory, spec.name, document)
        _log.info("cluster added", cluster=spec.name, url=self.server_url(spec.name))
        return self.server_url(spec.name)

    async def remove_cluster(self, name: str) -> None:
        """Removes a cluster, its kubeconfig first; open watches are cut. An unknown name is no error."""
        await self._remove_file(name)
        self._driver.remove(name)
        self._clusters.pop(name, None)
        telemetry.CLUSTERS.set(len(self._clusters))
        served = self._server.clusters.pop(name, None)
        if served is not None:
            self._cut(served)
            _log.info("cluster removed", cluster=name)

    async def _remove_file(self, name: str) -> None:
        known = self._clusters.get(name)
        directory = self._directory(known.spec) if known is not None else None
        if directory is not None:
            await asyncio.to_thread(remove_kubeconfig, directory, name)

    def _directory(self, spec: ClusterSpec) -> Path | None:
        """Where a cluster's kubeconfig goes: hubs are kept from the agents that join what they find."""
        if self._kubeconfig_dir is None or spec.controllers:
            return self._kubeconfig_dir
        return self._kubeconfig_dir / HUBS

    def inject(self, name: str, faults: FaultSpec | None) -> None:
        """Sets the faults of a cluster (None: no more)."""
        served = self._server.clusters[name]
        served.faults.spec = faults or NO_FAULTS
        served.api.stale_version = served.api.state.store.version if faults and faults.stale_lists else None

    def faults(self, name: str) -> FaultSpec:
        return self._server.clusters[name].faults.spec

    def measure(self, name: str, values: tuple[MetricValue, ...]) -> None:
        """What the custom and external metrics APIs of a cluster say from now on; nothing: they are not served."""
        self._server.clusters[name].api.metric_values = values

    def drop_watches(self, name: str) -> int:
        """Cuts every open watch of a cluster; how many there were."""
        return self._cut(self._server.clusters[name])

    def _cut(self, served: Served) -> int:
        sessions = tuple(served.api.sessions)
        for session in sessions:
            session.abort()
        return len(sessions)

    def compact(self, name: str) -> None:
        """Forgets the event window of a cluster, so that every earlier version is too old (410)."""
        store = self._clusters[name].state.store
        for collection in store.collections():
            collection.forget_events(store.version)
