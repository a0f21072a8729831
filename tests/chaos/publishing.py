"""Publishes the stream as a stubborn user does: each request until it is acknowledged, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from shared.adapters.kafka import KafkaLog
from shared.ports.event_log import LogError, NewRecord, Publisher
from tests.chaos.journalist import Journalist
from tests.chaos.requests import Asked

_RETRY_S: Final = 0.5


class User:
    """`asked` counts requests, `repeated` those that were sent again because no answer came."""

    def __init__(self, journalist: Journalist, every_s: float) -> None:
        self._journalist = journalist
        self._every_s = every_s
        self._publisher: Publisher | None = None
        self.asked = 0
        self.repeated = 0

    async def publish(self, log: KafkaLog, stream: Iterator[Asked], until: asyncio.Event) -> None:
        try:
            while not until.is_set():
                asked = next(stream)
                self._journalist.note("asked", what=asked.what, key=asked.wish.key)
                await self._until_acknowledged(log, asked.record)
                self.asked += 1
                await asyncio.sleep(self._every_s)
        finally:
            await self._close()

    async def _until_acknowledged(self, log: KafkaLog, record: NewRecord) -> None:
        while True:
            try:
                if self._publisher is None:
                    self._publisher = await log.publisher("chaos-user")
                await (await self._publisher.send(record))
            except LogError as error:
                self._journalist.note("asking again", error=str(error))
                self.repeated += 1
                await self._close()
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()
