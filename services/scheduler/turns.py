"""Turns on the one event loop of a leader.

What comes from the broker passes through half a dozen callbacks of its client, and each of them stands in line behind
whatever is ready before it. So nobody works for longer than a slice at once, and whoever has had one lets the loop go
round a few times: what is on its way waits for a slice, and not for a slice at each of its steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf

from shared.ports.clock import Clock

SLICE_S = 0.001
_ROUNDS = 6
# Whoever was served so recently counts as somebody who is about.
_CARE_S = 2.0
_LONGEST_BREAK_S = 0.05
# A flood rests so many times as long as it worked, while others are about.
_REST = 2


async def rest() -> None:
    """Everybody else has turns."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


class Turn:
    """A slice of work, beginning now."""

    def __init__(self, clock: Clock, seconds: float = SLICE_S) -> None:
        self._clock = clock
        self._seconds = seconds
        self._ends = clock.monotonic() + seconds

    def fitting(self, steps: int) -> float:
        """How many fit into a slice, if this one took so many steps until now."""
        worked = self._clock.monotonic() - self._ends + self._seconds
        return steps * self._seconds / worked if worked > 0 else inf

    @property
    def over(self) -> bool:
        return self._clock.monotonic() >= self._ends

    async def go_on(self) -> None:
        """To be called between any two steps: rests when the slice is over, and begins another."""
        if self.over:
            await rest()
            self._ends = self._clock.monotonic() + self._seconds


class Breaks:
    """How long a flood rests between two entries: twice as long as it worked, if somebody else was served lately.

    It would have one core for itself, and what it makes the broker do the other: whoever comes next finds both taken.
    With nobody else about it does not rest at all.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._worked_since = self._careful_until = clock.monotonic()

    def work(self) -> None:
        """A round begins."""
        self._worked_since = self._clock.monotonic()

    def served(self) -> None:
        """Somebody has all his answers, and may come again."""
        self._careful_until = self._clock.monotonic() + _CARE_S

    async def take(self, changed: asyncio.Event, alone: Callable[[], bool]) -> None:
        """Returns when the rest is over, or when the flood is not `alone` any more; `changed` says to look."""
        now = self._clock.monotonic()
        rested_at = min(now + min(_REST * (now - self._worked_since), _LONGEST_BREAK_S), self._careful_until)
        while now < rested_at and alone():
            with suppress(TimeoutError):
                async with asyncio.timeout(rested_at - now):
                    await changed.wait()
            changed.clear()
            now = self._clock.monotonic()
