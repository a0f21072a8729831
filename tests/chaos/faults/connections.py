"""Half-open connections, partitions and loss in one direction, between network namespaces.

A target is `service/peer`: the peer is `brokers` (all of them, as for a site that is cut off), one broker, Redis, or
a cluster. Losses of two faults may overlap, so a rule that exists twice is removed once by each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

from tests.chaos.bed import HUB, Bed
from tests.chaos.faults.base import QUORUM, Fault
from tests.chaos.faults.processes import brokers_complete, service_ready
from tests.chaos.network import Connection, Host, Loss, NetworkError, connections

BROKERS: Final = "brokers"


def _peers(bed: Bed, name: str) -> list[Host]:
    return bed.broker_hosts if name == BROKERS else [bed.host(name)]


class _OfLink(Fault):
    """Packets between a service and whom it talks to."""

    hold = (4.0, 20.0)
    weight = 4

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        links = [f"{name}/{peer}" for name in bed.options.services for peer in (BROKERS, bed.broker_hosts[0].name)]
        links += [f"{agent}/{cluster}" for agent, clusters in bed.options.agents.items() for cluster in clusters]
        links += [f"status/{bed.redis_host.name}"]
        if bed.options.hub:
            links += [f"{HUB}/{HUB}", f"{HUB}/{bed.redis_host.name}"]
        return links

    @property
    def claims(self) -> frozenset[str]:
        """The service's name too: one that is killed has no connections that could be half open."""
        return frozenset({f"link {self.target}", self._service})

    @property
    def _service(self) -> str:
        return self.target.partition("/")[0]

    def losses(self) -> Iterable[Loss]:
        raise NotImplementedError

    async def inject(self) -> None:
        self._lost = list(self.losses())
        for loss in self._lost:
            loss.begin()
        self.journalist.lived(self._service, "cut off", f"{self.name}: {self.target}, {len(self._lost)} rules")

    async def heal(self) -> None:
        for loss in self._lost:
            with contextlib.suppress(NetworkError):  # never made: `inject` failed before it
                loss.end()
        await service_ready(self.bed.services[self._service])


class Partitioned(_OfLink):
    name = "partition"

    def losses(self) -> Iterable[Loss]:
        here = self.bed.service_hosts[self._service]
        for peer in _peers(self.bed, self.target.partition("/")[2]):
            yield Loss(here, peer)
            yield Loss(peer, here)


class OneWayLoss(_OfLink):
    """What is sent in one direction is lost: requests, or answers and acknowledgements."""

    name = "one-way loss"

    def losses(self) -> Iterable[Loss]:
        here = self.bed.service_hosts[self._service]
        outwards = self.rng.random() < 0.5
        for peer in _peers(self.bed, self.target.partition("/")[2]):
            yield Loss(here, peer) if outwards else Loss(peer, here)


class HalfOpen(_OfLink):
    """The connections of this moment are dead and nobody says so; new ones can be made."""

    name = "half-open connections"
    hold = (8.0, 30.0)

    def losses(self) -> Iterable[Loss]:
        here = self.bed.service_hosts[self._service]
        pid = self.bed.services[self._service].pid
        for peer in _peers(self.bed, self.target.partition("/")[2]):
            for connection in connections(pid, peer):
                yield Loss(peer, here, connection)
                yield Loss(here, peer, Connection(connection.remote, connection.local))


class BrokersApart(Fault):
    """A broker that its clients reach and the other brokers do not; one way only, at times."""

    name = "partition between brokers"
    hold = (4.0, 20.0)

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return [host.name for host in bed.broker_hosts]

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({QUORUM})

    async def inject(self) -> None:
        here = self.bed.host(self.target)
        others = [host for host in self.bed.broker_hosts if host != here]
        directions = self.rng.choice(("both", "in", "out"))
        self._lost = [Loss(here, other) for other in others if directions != "in"]
        self._lost += [Loss(other, here) for other in others if directions != "out"]
        for loss in self._lost:
            loss.begin()
        self.journalist.lived(self.target, "cut off", f"{self.name}: {directions}")

    async def heal(self) -> None:
        for loss in self._lost:
            with contextlib.suppress(NetworkError):  # never made: `inject` failed before it
                loss.end()
        await brokers_complete(self.bed)
