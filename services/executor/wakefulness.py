"""Noticing that this process did not run for a while: it was paused, or its machine was.

What it knew then may be history: another executor may have gone on, with newer commands. So nothing is asked of an API
server out of that knowledge; the cluster's executor begins anew, with all commands and all objects read again.
"""

from __future__ import annotations

from typing import Final

from shared.ports.clock import Clock

# A busy machine may keep an event loop waiting for seconds; beyond this somebody may have taken our place.
LONGEST_GAP_S: Final = 10.0
_TICKS: Final = 4


class SuspendedError(Exception):
    """The process was suspended; the message says for how long."""


class Wakefulness:
    """`check` before every effect, and `watch` beside the work: whichever comes first after a pause notices it."""

    def __init__(self, clock: Clock, longest_gap_s: float = LONGEST_GAP_S) -> None:
        self._clock = clock
        self._longest_gap_s = longest_gap_s
        self._seen_at = clock.monotonic()

    def check(self) -> None:
        """Raises SuspendedError."""
        gap = self._clock.monotonic() - self._seen_at
        if gap > self._longest_gap_s:
            raise SuspendedError(f"not running for {gap:.0f} s")

    async def watch(self) -> None:
        """Until cancelled. Raises SuspendedError."""
        while True:
            self.check()
            self._seen_at = self._clock.monotonic()
            await self._clock.sleep(self._longest_gap_s / _TICKS)


def was_suspended(error: BaseException) -> bool:
    """Whether that is what the error, or one in the group that it is, says."""
    if isinstance(error, BaseExceptionGroup):
        return any(was_suspended(inner) for inner in error.exceptions)
    return isinstance(error, SuspendedError)
