"""A compacted topic that tells agents something, read from its start and followed.

A record that makes no sense goes to the dead-letter topic and changes nothing. When the log fails the topic is read
again; what was known stays until then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from services.watcher import metrics
from shared.events.registry import DecodeError, decode
from shared.events.topics import Topic
from shared.model.base import Value
from shared.observability.logs import get_logger
from shared.ports.event_log import START, EventLog, LogError, Publisher, Reader, Record
from shared.runtime.dead_letters import dead_letter

log = get_logger(__name__)

RETRY_S: Final = 2.0
# Records end a wait at once.
_FOLLOW_S: Final = 5.0

Told = TypeVar("Told", bound=Value)


class Followed(Generic[Told]):
    """`run` follows the topic; `loaded` is set once its end was reached for the first time."""

    def __init__(self, log: EventLog, topic: Topic, model: type[Told], name: str, retry_s: float = RETRY_S) -> None:
        self._log = log
        self._topic = topic
        self._model = model
        self.name = name
        self._retry_s = retry_s
        self._known: dict[str, Told] = {}
        self._changed = asyncio.Event()
        self.version = 0
        self.loaded = asyncio.Event()

    @property
    def known(self) -> Mapping[str, Told]:
        """By the record's key."""
        return self._known

    async def newer(self, version: int) -> None:
        """Returns as soon as what is told is newer than `version`."""
        while self.version <= version:
            await self._changed.wait()

    async def run(self) -> None:
        """Follows the topic until cancelled."""
        while True:
            try:
                await self._follow()
            except LogError as error:
                log.warning("reading again", what=self.name, error=str(error))
                await asyncio.sleep(self._retry_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _follow(self) -> None:
        partitions = await self._log.partitions(self._topic.name)
        if not partitions:
            raise LogError(f"{self._topic.name}: no such topic")
        reader = await self._log.reader(f"watcher-{self.name}")
        publisher = await self._log.publisher("watcher-dead-letters")
        try:
            await reader.assign(dict.fromkeys(partitions, START))
            ends = await reader.end_offsets(partitions)
            found: dict[str, Told] = {}
            while any(reader.positions()[partition] < end for partition, end in ends.items()):
                await self._read(reader, publisher, found)
            # Only now: a reading that begins again must not forget for a moment what is told.
            self._known = found
            self.loaded.set()
            self._notify()
            while True:
                if await self._read(reader, publisher, self._known, within_s=_FOLLOW_S):
                    self._notify()
        finally:
            await publisher.close()
            await reader.close()

    async def _read(self, reader: Reader, publisher: Publisher, into: dict[str, Told], within_s: float = 1.0) -> bool:
        records = await reader.read(timeout_s=within_s)
        for record in records:
            try:
                self._take(record, into)
            except DecodeError as error:
                metrics.DEAD_LETTERS.labels(record.topic).inc()
                log.warning("record refused", position=str(record.position), error=str(error))
                await publisher.send(dead_letter(record, error.errors))
        return bool(records)

    def _take(self, record: Record, into: dict[str, Told]) -> None:
        """Raises DecodeError."""
        key = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            into.pop(key, None)
        else:
            into[key] = decode(self._model, record.value)

    def _notify(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
