"""What people declared of the clusters: `fleet.clusters`, read from its start and followed.

A record that makes no sense goes to the dead-letter topic and changes nothing. When the log fails the topic is read
again; what was known stays until then.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from services.watcher import metrics
from shared.events.registry import DecodeError, decode
from shared.events.topics import CLUSTERS
from shared.events.v1.clusters import ClusterDeclared
from shared.model.identities import Resource
from shared.observability.logs import get_logger
from shared.ports.event_log import START, EventLog, LogError, Publisher, Reader, Record
from shared.runtime.dead_letters import dead_letter

log = get_logger(__name__)

RETRY_S: Final = 2.0
# Records end a wait at once.
_FOLLOW_S: Final = 5.0
_NOTHING: Final = ClusterDeclared(name="-")


class Declarations:
    """`run` follows the topic; `loaded` is set once its end was reached for the first time."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._declared: dict[str, ClusterDeclared] = {}
        self._changed = asyncio.Event()
        self.version = 0
        self.loaded = asyncio.Event()

    def labels(self, cluster: str) -> dict[str, str]:
        return dict(self._declared.get(cluster, _NOTHING).labels)

    def resources(self, cluster: str) -> frozenset[Resource]:
        """What is to be watched beside the settings' resources. What does not parse is left out, with a warning."""
        found = set()
        for text in self._declared.get(cluster, _NOTHING).watched_resources:
            try:
                found.add(Resource.parse(text))
            except ValueError as error:
                log.warning("declared resource left out", cluster=cluster, error=str(error))
        return frozenset(found)

    async def newer(self, version: int) -> None:
        """Returns as soon as the declarations are newer than `version`."""
        while self.version <= version:
            await self._changed.wait()

    async def run(self) -> None:
        """Follows the topic until cancelled."""
        while True:
            try:
                await self._follow()
            except LogError as error:
                log.warning("declarations: reading again", error=str(error))
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _follow(self) -> None:
        partitions = await self._log.partitions(CLUSTERS.name)
        if not partitions:
            raise LogError(f"{CLUSTERS.name}: no such topic")
        reader = await self._log.reader("watcher-declarations")
        publisher = await self._log.publisher("watcher-dead-letters")
        try:
            await reader.assign(dict.fromkeys(partitions, START))
            ends = await reader.end_offsets(partitions)
            found: dict[str, ClusterDeclared] = {}
            while any(reader.positions()[partition] < end for partition, end in ends.items()):
                await self._read(reader, publisher, found)
            # Only now: a reading that begins again must not forget for a moment what is declared.
            self._declared = found
            self.loaded.set()
            self._notify()
            while True:
                if await self._read(reader, publisher, self._declared, within_s=_FOLLOW_S):
                    self._notify()
        finally:
            await publisher.close()
            await reader.close()

    async def _read(
        self, reader: Reader, publisher: Publisher, into: dict[str, ClusterDeclared], within_s: float = 1.0
    ) -> bool:
        records = await reader.read(timeout_s=within_s)
        for record in records:
            try:
                _take(record, into)
            except DecodeError as error:
                await self._refuse(record, error, publisher)
        return bool(records)

    async def _refuse(self, record: Record, error: DecodeError, publisher: Publisher) -> None:
        metrics.DEAD_LETTERS.labels(record.topic).inc()
        log.warning("declaration refused", position=str(record.position), error=str(error))
        await publisher.send(dead_letter(record, error.errors))

    def _notify(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


def _take(record: Record, into: dict[str, ClusterDeclared]) -> None:
    """Raises DecodeError."""
    cluster = (record.key or b"").decode("utf-8", "replace")
    if record.value is None:
        into.pop(cluster, None)
    else:
        into[cluster] = decode(ClusterDeclared, record.value)
