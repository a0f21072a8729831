"""Where a local fleet's clusters come from: simulated, the real test bed, or kubeconfigs of the user's own.

Each source runs its clusters while its context is entered, with a kubeconfig for each member in one directory, from
which the agents join them, and one for the hub elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from services.cli.fleet.process import ROOT, FleetError, ServiceProcess
from shared.runtime.embedded.process import ServerProcess
from shared.runtime.embedded.waiting import until

HUB = "hub"
_START_S = 180.0


class ClusterSource(Protocol):
    @property
    def kubeconfigs(self) -> Path: ...

    @property
    def hub_kubeconfig(self) -> Path: ...

    def running(self, directory: Path, environment: Mapping[str, str]) -> AbstractAsyncContextManager[None]: ...


class RealClusters:
    """Clusters of the test bed: real etcd, kube-apiserver, controllers, scheduler and kwok. `directory` is theirs."""

    def __init__(self, directory: Path, *, clusters: int = 3, nodes: int = 3) -> None:
        self._directory = directory
        self._clusters, self._nodes = clusters, nodes

    @property
    def kubeconfigs(self) -> Path:
        return self._directory / "members"

    @property
    def hub_kubeconfig(self) -> Path:
        return self._directory / f"{HUB}.kubeconfig"

    @asynccontextmanager
    async def running(self, directory: Path, environment: Mapping[str, str]) -> AsyncIterator[None]:
        """The test bed writes all kubeconfigs into one directory; the members' are linked into theirs."""
        del environment
        self.kubeconfigs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.testbed", "up", "--hub", "--metrics", "--prefix", "real"]
        command += ["--clusters", str(self._clusters), "--nodes", str(self._nodes), "--dir", str(self._directory)]
        process = ServerProcess.spawn(
            command,
            data_dir=directory / "testbed",
            console=directory / "testbed.log",
            detached=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            names = [f"real-{number}" for number in range(1, self._clusters + 1)]
            wanted = [self.hub_kubeconfig, *(self._directory / f"{name}.kubeconfig" for name in names)]

            async def written() -> bool:
                if not process.running:
                    raise FleetError(f"the test bed has ended{process.tail()}")
                return all(path.exists() for path in wanted)

            if not await until(written, within_s=_START_S):
                raise FleetError(f"the test bed was not ready after {_START_S:.0f} s{process.tail()}")
            for name in names:
                link = self.kubeconfigs / f"{name}.kubeconfig"
                link.unlink(missing_ok=True)
                link.symlink_to(self._directory / f"{name}.kubeconfig")
            yield
        finally:
            await process.stop(grace_s=30)


class SimulatedClusters:
    """Clusters of `services/simulator`, from a file of specifications in which `hub` is one without controllers.

    With `provision`, a Cluster that nobody has joined is simulated too. `simulator` is there while it runs.
    """

    def __init__(self, directory: Path, specification: Path, *, provision: bool = True) -> None:
        self._directory = directory
        self._specification = specification
        self._provision = provision
        self.simulator: ServiceProcess | None = None

    @property
    def kubeconfigs(self) -> Path:
        return self._directory

    @property
    def hub_kubeconfig(self) -> Path:
        return self._directory / "hubs" / f"{HUB}.kubeconfig"

    @asynccontextmanager
    async def running(self, directory: Path, environment: Mapping[str, str]) -> AsyncIterator[None]:
        settings = {
            **environment,
            "FLOTILLA_SIMULATOR_CLUSTERS": str(self._specification),
            "FLOTILLA_SIMULATOR_KUBECONFIG_DIR": str(self._directory),
            "FLOTILLA_SIMULATOR_PROVISION": str(self._provision).lower(),
        }
        simulator = ServiceProcess("simulator", "services.simulator", settings, directory / "services")
        simulator.start()
        self.simulator = simulator
        try:
            await simulator.wait_ready()
            yield
        finally:
            await simulator.stop()
