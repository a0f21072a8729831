"""Defects of how the log is written and read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from unittest.mock import patch

from shared.ports.event_log import LogError, Position
from tests.simulation.broker import Broker
from tests.simulation.futures import resolve
from tests.simulation.log_client import SimPublisher
from tests.simulation.mutants.mutant import mutant


@mutant(
    "lost",
    "unanswered",
    "not ended",
    "fleet.commands",
    "fleet.placements",
    "fleet.objects",
    "fleet.status",
    faults=("lose_broker",),
)
def one_replica_acknowledges() -> Iterator[None]:
    """`acks=1`: a broker that is cut off acknowledges what its followers never get, and its successor lacks it."""
    with patch.object(Broker, "acks_all", False):
        yield


@mutant(
    "fleet.placements",
    "fleet.commands",
    "fleet.objects",
    "fleet.status",
    "unanswered",
    "untold",
    "not ended",
    faults=("lossy_log",),
)
def failed_appends_are_swallowed() -> Iterator[None]:
    """A producer whose delivery errors nobody looks at: what was not appended is taken as appended, and all goes on."""

    def hide(self: SimPublisher, error: LogError, also: Iterable[asyncio.Future[Position]] = ()) -> None:
        del error
        for future in also:
            resolve(future, Position("", 0, 0))
        for partition, channel in self._channels.items():
            if channel.timer is not None:
                channel.timer.cancel()
                channel.timer = None
            for _, future in (*channel.waiting, *channel.held):
                resolve(future, Position(partition.topic, partition.partition, 0))
            channel.waiting.clear()
            channel.held.clear()
        self._unanswered = 0
        self._release(None)

    with patch.object(SimPublisher, "_break", hide):
        yield
