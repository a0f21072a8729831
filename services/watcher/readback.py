"""What the log has of one resource, and who says that it is not what was published.

The partition is read back from its start, which is much for a large fleet: so only when a reader of `fleet.objects`
found by the digest that it holds something else, and said so in `fleet.discrepancies`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.watcher.published import read_until
from shared.events.registry import DecodeError, decode
from shared.events.states import split_key, state_of
from shared.events.topics import DISCREPANCIES
from shared.events.v1.discrepancies import DiscrepancyFound
from shared.model.identities import Resource
from shared.observability.logs import get_logger
from shared.ports.event_log import END, START, EventLog, LogError, Partition, Record

log = get_logger(__name__)

_FOLLOW_S = 5.0
_RETRY_S = 5.0


async def read_states(events: EventLog, partition: Partition, cluster: str, resource: Resource) -> dict[str, str]:
    """The objects of a resource that a reader from the start ends with: states by name. Raises LogError."""
    states: dict[str, str] = {}
    prefix = f"{cluster}/".encode()

    def note(record: Record) -> None:
        if record.key is None or not record.key.startswith(prefix):
            return
        parts = split_key(record.key)
        if parts is None or parts[1] != resource:
            return
        if record.value is None:
            states.pop(parts[2], None)
        else:
            states[parts[2]] = state_of(record.value)

    reader = await events.reader("watcher-readback")
    try:
        end = (await reader.end_offsets([partition]))[partition]
        await reader.assign({partition: START})
        await read_until(reader, partition, end, note)
    finally:
        await reader.close()
    return states


class Discrepancies:
    """`run` follows the topic from now on, for all clusters of this process: a session publishes all anew anyway."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._listeners: dict[str, Callable[[DiscrepancyFound], None]] = {}

    def listen(self, cluster: str, listener: Callable[[DiscrepancyFound], None]) -> None:
        """From now on `listener` is told what is said about a cluster, and nobody else."""
        self._listeners[cluster] = listener

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except LogError as error:
                log.warning("discrepancies: following again", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        partitions = await self._events.partitions(DISCREPANCIES.name)
        if not partitions:
            raise LogError(f"{DISCREPANCIES.name}: no such topic")
        reader = await self._events.reader("watcher-discrepancies")
        try:
            await reader.assign(dict.fromkeys(partitions, END))
            while True:
                for record in await reader.read(timeout_s=_FOLLOW_S):
                    self._tell(record)
        finally:
            await reader.close()

    def _tell(self, record: Record) -> None:
        try:
            found = decode(DiscrepancyFound, record.value)
        except DecodeError as error:
            log.warning("discrepancy not understood", position=str(record.position), error=str(error))
            return
        listener = self._listeners.get(found.cluster)
        if listener is not None:
            listener(found)
