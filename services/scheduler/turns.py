"""Turns on the one event loop of a leader.

What comes from the broker passes through half a dozen callbacks of its client, and each of them stands in line behind
whatever is ready before it. So nobody works for longer than a slice at once, and whoever has had one lets the loop go
round a few times: what is on its way waits for a slice, and not for a slice at each of its steps.
"""

from __future__ import annotations

import asyncio

from shared.ports.clock import Clock

SLICE_S = 0.001
_ROUNDS = 6


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

    @property
    def over(self) -> bool:
        return self._clock.monotonic() >= self._ends

    async def go_on(self) -> None:
        """To be called between any two steps: rests when the slice is over, and begins another."""
        if self.over:
            await rest()
            self._ends = self._clock.monotonic() + self._seconds
