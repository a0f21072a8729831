"""Waiting while another watcher of the same cluster publishes.

The newest watcher of a cluster is its only publisher: the log refuses every older one. Whoever is refused waits here
until the other is silent, by this process' own monotonic time, and by no more of it than it was awake itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

from shared.ports.clock import Clock
from shared.ports.event_log import END, EventLog, Partition

_READ_S: Final = 0.5
# Longest time between two reads that counts as silence: what is longer was our own.
_AWAKE_S: Final = 2.0


async def until_silent(
    log: EventLog, partition: Partition, cluster: str, silence_s: float, clock: Clock, stop: asyncio.Event
) -> None:
    """Returns when nothing of the cluster came for `silence_s`, or `stop` is set. Raises LogError."""
    prefix = f"{cluster}/".encode()
    reader = await log.reader(f"watcher-standby-{cluster}")
    try:
        await reader.assign({partition: END})
        silent, looked_at = 0.0, clock.monotonic()
        while silent < silence_s and not stop.is_set():
            records = await reader.read(timeout_s=_READ_S)
            now = clock.monotonic()
            heard = any(record.key is not None and record.key.startswith(prefix) for record in records)
            silent = 0.0 if heard else silent + min(now - looked_at, _AWAKE_S)
            looked_at = now
    finally:
        await reader.close()
