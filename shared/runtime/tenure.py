"""Which instance of a service works: the newest, and none other until that one is silent.

An instance claims the tenure by an epoch above the last one, stored as a committed position that it then moves on as a
sign of life. Whoever finds a higher epoch there has been replaced. This is for liveness: that a replaced instance tells
nothing twice is the broker's doing (the publisher is the sole one of its name).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson

from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import Committed, EventLog, LogError, Partition, WriterReplacedError
from shared.runtime.ids import new_id
from shared.runtime.pauses import pause

log = get_logger(__name__)

_POLL_S = 1.0
# Longest time between two looks that counts as silence: what is longer was our own.
_AWAKE_S = 3.0


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """Of two with one epoch, made at the same moment, the larger instance counts."""

    epoch: int = 0
    instance: str = ""

    def to_committed(self, beat: int) -> Committed:
        return Committed(beat, orjson.dumps({"epoch": self.epoch, "instance": self.instance}).decode())

    @classmethod
    def from_committed(cls, committed: Committed) -> Claim:
        document = orjson.loads(committed.metadata)
        return cls(document["epoch"], document["instance"])


class Tenure:
    """One instance's claim. It shows a sign of life five times in `silent_s`, after which others take it for gone.

    The claim is stored under `group`, at any partition that exists: `place`.
    """

    def __init__(self, events: EventLog, clock: Clock, silent_s: float, group: str, place: Partition) -> None:
        self._log = events
        self._group = group
        self._place = place
        self._clock = clock
        self._beat_s = silent_s / 5
        self._silent_s = silent_s
        self._instance = new_id()
        self._claim = Claim()
        self._beat = 0

    async def claim(self) -> None:
        """Replaces whoever had it. Raises LogError."""
        stored, self._beat = await self._read()
        self._claim = Claim(stored.epoch + 1, self._instance)
        await self._show()

    async def keep(self) -> None:
        """Shows that this instance lives, until cancelled. Raises WriterReplacedError, LogError."""
        while True:
            await self._clock.sleep(self._beat_s)
            stored, _ = await self._read()
            if stored > self._claim:
                raise WriterReplacedError(f"instance {stored.instance} works instead")
            await self._show()

    async def until_silent(self, stop: asyncio.Event) -> None:
        """Returns when nobody has shown a sign of life for a while, or `stop` is set."""
        seen: tuple[Claim, int] | None = None
        silent, looked_at = 0.0, self._clock.monotonic()
        while silent < self._silent_s and not stop.is_set():
            try:
                found = await self._read()
            except LogError as error:
                log.warning("standing by: the log cannot be read", error=str(error))
                found = None
            now = self._clock.monotonic()
            quiet = found is not None and found == seen
            silent = silent + min(now - looked_at, _AWAKE_S) if quiet else 0.0
            seen, looked_at = found, now
            await pause(stop, min(_POLL_S, self._beat_s))

    async def _read(self) -> tuple[Claim, int]:
        stored = (await self._log.committed(self._group, [self._place])).get(self._place)
        return (Claim(), 0) if stored is None else (Claim.from_committed(stored), stored.offset)

    async def _show(self) -> None:
        self._beat += 1
        await self._log.commit(self._group, {self._place: self._claim.to_committed(self._beat)})
