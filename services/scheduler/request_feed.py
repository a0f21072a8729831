"""Fills the intake: one reader goes on through `fleet.requests`, another looks again for what had no room.

Neither reads while the intake is full: what is not read waits in the log.
"""

from __future__ import annotations

import asyncio

from services.scheduler.intake import LOOK_RECORDS, Intake, Look
from shared.events.topics import REQUESTS
from shared.ports.event_log import Partition, Reader

# Records end a wait at once. A look may find that there are none any more.
_READ_S = 5.0
_LOOK_S = 0.5
# About a slice. While there is much to read, several of these are read for each slice of decisions: behind a flood
# stands whoever waits for nothing else, and reading costs a fiftieth of deciding.
_READ_AHEAD = 150


class RequestFeed:
    """`changed` is set when there is something to decide."""

    def __init__(self, intake: Intake, changed: asyncio.Event) -> None:
        self._intake = intake
        self._changed = changed
        self._taken = asyncio.Event()

    def taken(self) -> None:
        """Something left the intake: there may be room."""
        self._taken.set()
        self._taken = asyncio.Event()

    async def read(self, reader: Reader) -> None:
        """Until cancelled. `reader` stands where the intake begins. Raises LogError."""
        while True:
            if self._intake.full:
                await self._taken.wait()
                continue
            records = await reader.read(max_records=_READ_AHEAD, timeout_s=_READ_S)
            for record in records:
                self._intake.offer(record)
            if records:
                self._changed.set()
                # Also where reading never has to wait, deciding gets its turn.
                await asyncio.sleep(0)

    async def read_again(self, reader: Reader) -> None:
        """Until cancelled. Raises LogError."""
        while True:
            look = self._intake.begin_look()
            if look is None:
                await self._taken.wait()
            else:
                await self._look(reader, look)

    async def _look(self, reader: Reader, look: Look) -> None:
        partition = Partition(REQUESTS.name, look.partition)
        if reader.positions() != {partition: look.offset}:
            await reader.assign({partition: look.offset})
        more = True
        while more:
            for record in await reader.read(max_records=LOOK_RECORDS, timeout_s=_LOOK_S):
                self._intake.offer_again(look, record)
            more = self._intake.go_on(look, reader.positions()[partition])
            self._changed.set()
            await asyncio.sleep(0)
