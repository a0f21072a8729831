"""Time as a port, so that a shell can run in virtual time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Unix time in milliseconds: for what is written down."""

    def monotonic(self) -> float:
        """Seconds that never go back: for leases, deadlines and intervals."""

    async def sleep(self, seconds: float) -> None: ...
