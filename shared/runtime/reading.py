"""One partition from its start, up to where it ends now: for whoever looks back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from shared.ports.clock import Clock
from shared.ports.event_log import START, LogError, Partition, Reader, Record

_BATCH = 2_000
_READ_S = 0.5


async def all_of(
    reader: Reader, partition: Partition, clock: Clock, timeout_s: float, last: int | None = None
) -> AsyncIterator[Record]:
    """Its records, those up to the offset `last` if that is given. The reader is assigned to it alone.

    Raises LogError, also where nothing more comes for `timeout_s`.
    """
    await reader.assign({partition: START})
    end = (await reader.end_offsets([partition]))[partition]
    end = end if last is None else min(end, last + 1)
    deadline = clock.monotonic() + timeout_s
    while (position := reader.positions()[partition]) < end:
        records = await reader.read(max_records=_BATCH, timeout_s=_READ_S)
        if reader.positions()[partition] > position:
            deadline = clock.monotonic() + timeout_s
        elif clock.monotonic() > deadline:
            raise LogError(f"{partition.topic}/{partition.partition}: no answer in time for offset {position}")
        for record in records:
            if record.offset < end:
                yield record
