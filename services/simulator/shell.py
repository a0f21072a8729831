"""The simulator as a service: its clusters served until it is stopped, more of them as the fleet declares them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.simulator.provisioning import Provisioner
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from shared.runtime.service import Readiness


class SimulatorService:
    def __init__(
        self, simulator: Simulator, specs: Sequence[ClusterSpec], provisioner: Provisioner | None = None
    ) -> None:
        self._simulator = simulator
        self._specs = specs
        self._provisioner = provisioner
        self._readiness = Readiness(ready=False, reason="the clusters are being made")

    def readiness(self) -> Readiness:
        return self._readiness

    async def run(self, stop: asyncio.Event) -> None:
        async with self._simulator as simulator:
            for spec in self._specs:
                await simulator.add_cluster(spec)
            self._readiness = Readiness(ready=True)
            if self._provisioner is None:
                await stop.wait()
            else:
                await self._provisioner.run(stop)
