"""A leader that was paused does nothing with what it decided before: its lease is judged by its own monotonic time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from services.hub.decision.election import Terms
from services.hub.decision.instructions import PublishDeclaration
from services.hub.effects import Effects, LeaseLostError, RateLimit
from services.hub.leader import Elector
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import CLUSTERS
from shared.events.v1.clusters import ClusterDeclared
from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError, ClusterApi, Object

TERMS = Terms(identity="one", name="lease", namespace="ns", lease_s=15, renew_s=10.0, retry_s=2.0)


class Leases:
    """As much of an API server as a lease needs; `away` answers nothing but errors."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.away = False
        self.gets = 0
        # The next read is followed by a renewal that was under way.
        self.late = False
        self._version = 0

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        del resource, namespace, name
        self.gets += 1
        if self.away or self.lease is None:
            raise ApiError(503 if self.away else 404, "", "")
        read = self.lease
        if self.late:
            self.late = False
            self.take(read["spec"]["holderIdentity"])
        return read

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        del resource, namespace
        return self._store(body)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        del resource, namespace, name
        if self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(404 if self.lease is None else 409, "Conflict", "the lease is another")
        return self._store(body)

    def take(self, holder: str) -> None:
        """Somebody else writes it."""
        assert self.lease is not None
        self._store({**self.lease, "spec": {**self.lease["spec"], "holderIdentity": holder}})

    def _store(self, body: dict[str, Any]) -> Object:
        self._version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        return self.lease


class PausableClock(SystemClock):
    """Monotonic time goes on while a process is paused."""

    def __init__(self) -> None:
        self.slept = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.slept


async def test_a_lease_is_not_held_any_more_after_a_pause_as_long_as_the_renew_deadline() -> None:
    leases, clock = Leases(), PausableClock()
    elector = Elector(cast("ClusterApi", leases), TERMS, clock)
    assert not elector.holds()
    stop, held = asyncio.Event(), asyncio.Event()

    async def lead(lost: asyncio.Event) -> None:
        held.set()
        await lost.wait()

    running = asyncio.create_task(elector.run(stop, lead))
    async with asyncio.timeout(30):
        await held.wait()
    assert elector.holds()
    clock.slept += 9
    assert elector.holds()
    clock.slept += 1.5
    assert not elector.holds()
    stop.set()
    await running


@pytest.mark.parametrize("mishap", ["", "deleted", "touched", "taken"])
async def test_who_leads_renews_without_reading_first_and_reads_when_that_is_refused(mishap: str) -> None:
    leases, stop, held, gone = Leases(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    terms = Terms(identity="one", name="lease", namespace="ns", lease_s=2, renew_s=1.0, retry_s=0.05)
    elector = Elector(cast("ClusterApi", leases), terms, SystemClock())

    async def lead(lost: asyncio.Event) -> None:
        held.set()
        await lost.wait()
        gone.set()

    async def renewals(count: int) -> None:
        seen: set[str] = set()
        while len(seen) < count:
            if leases.lease is not None:
                seen.add(leases.lease["metadata"]["resourceVersion"])
            await asyncio.sleep(0.01)

    running = asyncio.create_task(elector.run(stop, lead))
    async with asyncio.timeout(30):
        await held.wait()
        read = leases.gets
        await renewals(3)
        assert leases.gets == read
        if mishap == "deleted":
            leases.lease = None
        elif mishap:
            leases.take("one" if mishap == "touched" else "two")
        if mishap == "taken":
            await gone.wait()
            assert elector.leader == "two"
        else:
            await renewals(3)
            assert leases.gets == read + bool(mishap)
    stop.set()
    await running


async def test_a_renewal_that_arrives_after_the_end_does_not_keep_the_lease() -> None:
    leases, stop, held = Leases(), asyncio.Event(), asyncio.Event()
    elector = Elector(cast("ClusterApi", leases), TERMS, SystemClock())

    async def lead(lost: asyncio.Event) -> None:
        held.set()
        await lost.wait()

    running = asyncio.create_task(elector.run(stop, lead))
    async with asyncio.timeout(30):
        await held.wait()
        leases.late = True
        stop.set()
        await running
    assert leases.lease is not None
    assert not leases.lease["spec"]["holderIdentity"]
    assert not leases.late


async def test_what_was_decided_before_a_pause_is_not_carried_out() -> None:
    log, clock = MemoryLog(), SystemClock()
    await log.ensure_topics([CLUSTERS])
    publisher = await log.sole_publisher("hub", "hub")
    holding = [True]
    effects = Effects(cast("ClusterApi", Leases()), publisher, RateLimit(100, clock), clock, lambda: holding[0])
    declare = PublishDeclaration(cause="test", name="west", declared=ClusterDeclared(name="west"))
    await effects.carry_out(declare)
    holding[0] = False
    with pytest.raises(LeaseLostError):
        await effects.carry_out(declare)
    assert len(log.records(CLUSTERS.name)) == 1
