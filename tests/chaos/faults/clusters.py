"""Clusters that the fleet has to do without: not heard for long, heard now and then, drained, tainted.

What is cut off from the log is the cluster whose watcher and executor are its own, and both of them with it, as when a
site loses its line: the cluster itself, and the executor's way to it, go on. They are nobody else's target meanwhile,
since what a lease promises assumes that they work.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Final

import aiohttp

from tests.chaos.bed import HUB, Bed
from tests.chaos.faults.base import FLEET, QUORUM, RECOVERY_S, Fault
from tests.chaos.faults.processes import service_ready
from tests.chaos.journalist import SERVES, Journalist
from tests.chaos.network import Loss
from tests.chaos.policies import FLAPS, SILENT, STEADY
from tests.testbed.api import MERGE_PATCH, ApiError

_RETRY_S: Final = 0.5
# Less than a cluster may be silent without being left (9 s and 5 s more), also where it is on too shortly to be heard.
_FLAP_S: Final = (3.0, 5.0)
_CLUSTERS: Final = "/apis/cluster.k8s.io/v1alpha1/clusters"


class _OfSite(Fault):
    """The target is the cluster that has agents of its own."""

    def __init__(self, bed: Bed, journalist: Journalist, target: str, rng: random.Random) -> None:
        super().__init__(bed, journalist, target, rng)
        self._lost: list[Loss] = []

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return [bed.options.site] if bed.options.site else []

    @property
    def _agents(self) -> list[str]:
        return [name for name, clusters in self.bed.options.agents.items() if clusters == (self.target,)]

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({FLEET, self.target, *self._agents})

    def _cut(self) -> None:
        for agent in self._agents:
            here = self.bed.service_hosts[agent]
            for broker in self.bed.broker_hosts:
                for loss in (Loss(here, broker), Loss(broker, here)):
                    loss.begin()
                    self._lost.append(loss)

    def _join(self) -> None:
        while self._lost:
            self._lost.pop().end()

    async def _ready(self) -> None:
        for agent in self._agents:
            await service_ready(self.bed.services[agent])


class Silent(_OfSite):
    """Longer than any patience: what may leave it leaves, and what runs by its lease is stopped there before."""

    name = "cluster cut off for long"
    hold = (55.0, 75.0)

    async def inject(self) -> None:
        self._cut()
        self.journalist.lived(self.target, "cut off", SILENT)

    async def heal(self) -> None:
        self._join()
        self.journalist.lived(self.target, SERVES)
        await self._ready()


class Flapping(_OfSite):
    """Never silent for as long as is tolerated. Who listens, and the log, work meanwhile: what is on is heard."""

    name = "flapping cluster"
    hold = (25.0, 40.0)
    weight = 1

    @property
    def claims(self) -> frozenset[str]:
        schedulers = (name for name in self.bed.options.services if name.startswith("scheduler"))
        return super().claims | {QUORUM, *schedulers}

    async def inject(self) -> None:
        self.journalist.lived(self.target, FLAPS)
        self._flapping = asyncio.create_task(self._flap(), name="flapping")

    async def heal(self) -> None:
        self._flapping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._flapping
        self._join()
        self.journalist.lived(self.target, STEADY)
        await self._ready()

    async def _flap(self) -> None:
        while True:
            self._cut()
            await asyncio.sleep(self.rng.uniform(*_FLAP_S))
            self._join()
            await asyncio.sleep(self.rng.uniform(*_FLAP_S))


class Drained(Fault):
    """Somebody declares the cluster with a taint, by kubectl in the hub, and takes it back."""

    name = "drained cluster"
    hold = (15.0, 30.0)
    weight = 1
    key = "flotilla.dev/draining"

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        """Not the one that is cut off: what prefers that stays there until it is."""
        return [name for name in bed.clusters if name != bed.options.site] if bed.options.hub else []

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({FLEET, HUB, self.target})

    async def inject(self) -> None:
        await self._declare([{"key": self.key, "effect": "NoExecute"}])
        self.journalist.lived(self.target, "declared", self.key)

    async def heal(self) -> None:
        await self._declare([])
        self.journalist.lived(self.target, "declared", "well")

    async def _declare(self, taints: list[dict[str, str]]) -> None:
        """As a person would, again and again. Raises TimeoutError."""
        assert self.bed.hub is not None
        ends = time.monotonic() + RECOVERY_S
        while True:
            try:
                patch = {"spec": {"taints": taints}}
                await self.bed.hub.api.call("PATCH", f"{_CLUSTERS}/{self.target}", patch, content=MERGE_PATCH)
            except (ApiError, aiohttp.ClientError, OSError) as error:
                if time.monotonic() > ends:
                    raise TimeoutError(f"the hub takes no declaration: {error}") from error
                await asyncio.sleep(_RETRY_S)
            else:
                return


class Tainted(Drained):
    """By a taint of the user's own."""

    name = "tainted cluster"
    key = "chaos.example/maintenance"
