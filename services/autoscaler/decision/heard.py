"""The newest value of a series, and when we first heard of it: that, and no cluster's clock, says how old it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Heard(Generic[T]):
    """`at_ms` is by the clock of whoever measured it, `heard_ms` by ours; `behind_ms` is of the last that was older."""

    value: T
    at_ms: int
    heard_ms: int
    behind_ms: int | None = None

    def is_stale(self, now_ms: int, stale_ms: int) -> bool:
        # Also where our own clock was set back: then nobody knows how old it is.
        return not 0 <= now_ms - self.heard_ms <= stale_ms

    def gives_way(self, at_ms: int, now_ms: int, stale_ms: int) -> bool:
        """Whether what was measured at that moment is newer.

        A clock that was set back may be behind what is stale by now. What says the same older moment again is no clock
        that was set back, and old.
        """
        if at_ms >= self.at_ms:
            return at_ms > self.at_ms
        moves = self.behind_ms is None or at_ms > self.behind_ms
        self.behind_ms = at_ms
        return moves and self.is_stale(now_ms, stale_ms)
