"""Reminds executors: what they say that they do not hold, though it was decided and published, is published again.

A command that was lost, overwritten or forgotten on its way is found this way by the next inventory, and so is one
that stands behind its own tombstone. The comparison runs beside the decisions of a leader, a slice at a time, and
delays none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from services.scheduler import metrics
from services.scheduler.decision.seen.inventory import HeldCommands
from shared.events.registry import DecodeError, decode
from shared.events.topics import INVENTORIES
from shared.events.v1.inventories import InventoryReported
from shared.events.v1.placements import PlacementPublished
from shared.observability.logs import get_logger
from shared.ports.event_log import START, EventLog, Reader, Record

log = get_logger(__name__)

_READ_S = 5.0
_SLICE = 500


class Reminder:
    """`published` are the placements as the leader has them; `position` is how far the journal has been published.

    `repeat(cluster, workload)` publishes again what is asked there.
    """

    def __init__(
        self,
        events: EventLog,
        published: Mapping[str, PlacementPublished],
        position: Callable[[], int],
        repeat: Callable[[str, str], None],
    ) -> None:
        self._events = events
        self._published = published
        self._position = position
        self._repeat = repeat

    async def run(self) -> None:
        """Until it is cancelled. Raises LogError."""
        # Opened here, so that no takeover waits for it.
        reader = await self._events.reader("scheduler-inventories")
        try:
            await self._follow(reader)
        finally:
            await reader.close()

    async def _follow(self, reader: Reader) -> None:
        await reader.assign(dict.fromkeys(await self._events.partitions(INVENTORIES.name), START))
        while True:
            records = await reader.read(timeout_s=_READ_S)
            # Of each cluster the latest: an inventory is the whole of what is held.
            for record in {record.key: record for record in records}.values():
                await self._compare(record)

    async def _compare(self, record: Record) -> None:
        if record.value is None:
            return
        try:
            inventory = decode(InventoryReported, record.value)
        except DecodeError as error:
            # The status service puts it with the dead letters.
            log.warning("inventory not understood", position=str(record.position), error=str(error))
            return
        held, before = HeldCommands(inventory), self._position()
        missing: list[str] = []
        for start in range(0, len(keys := list(self._published)), _SLICE):
            slice_ = ((key, self._published[key]) for key in keys[start : start + _SLICE] if key in self._published)
            missing += held.missing(slice_, before)
            await asyncio.sleep(0)
        for key in (*missing, *held.carried_out(self._published, before)):
            self._repeat(inventory.cluster, key)
        if missing:
            metrics.REMINDERS.labels(cluster=inventory.cluster).inc(len(missing))
            log.warning(
                "commands are not held and are published again", cluster=inventory.cluster, workloads=missing[:8]
            )
