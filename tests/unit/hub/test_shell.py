"""What a life of the bridge is given: time that nobody sets while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast
from unittest.mock import patch

from services.hub import shell
from services.hub.provisioning import Making
from services.hub.settings import HubSettings
from services.hub.shell import HubService
from shared.adapters.memory.event_log import MemoryLog
from shared.ports.clock import Clock
from shared.ports.cluster_api import ClusterApi
from shared.ports.event_log import EventLog
from shared.ports.key_value import KeyValue
from shared.testing.clock import FakeClock
from tests.unit.hub.test_leader import Leases

_HOUR_MS = 3_600_000


class SetClock(FakeClock):
    """A wall clock that somebody sets."""

    set_by_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.set_by_ms


class Term:
    """Instead of the bridge: looks at its clock before and after somebody set it."""

    clock: SetClock
    stop: asyncio.Event
    seen: tuple[int, int]

    def __init__(
        self,
        api: ClusterApi,
        events: EventLog,
        making: Making,
        settings: HubSettings,
        clock: Clock,
        holds: Callable[[], bool],
    ) -> None:
        del api, events, making, settings, holds
        self._given = clock

    async def run(self, lost: asyncio.Event) -> None:
        before = self._given.now_ms()
        Term.clock.set_by_ms = -_HOUR_MS
        Term.seen = (before, self._given.now_ms())
        Term.stop.set()
        await lost.wait()


async def test_a_wall_clock_that_is_set_back_delays_nothing() -> None:
    """By an hour: statuses would not be due before it has passed, and deletions would be held as long."""
    Term.clock, Term.stop = SetClock(), asyncio.Event()
    settings = HubSettings(hub_admit_port=-1, hub_install_crds=False)
    nobody = cast("Making", None)
    service = HubService(
        settings, cast("ClusterApi", Leases()), MemoryLog(), cast("KeyValue", None), nobody, cast("Clock", Term.clock)
    )
    with patch.object(shell, "BridgeTerm", Term):
        async with asyncio.timeout(30):
            await service.run(Term.stop)
    before, after = Term.seen
    assert after == before
