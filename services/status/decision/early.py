"""Reports that came before the placement that they are about.

Topics are not ordered among one another. A report is held until its placement is seen; until then its position must not
be committed, or a crash would lose it. A placement is published before its command, so a report whose placement is not
there long after everything was read is about a workload that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from services.status.decision.facts import ReportFacts


class Held(Struct, frozen=True, gc=False):
    cluster: str
    report: ReportFacts
    partition: int
    offset: int
    seen_at: int


class EarlyReports:
    """At most `limit` reports, each for `patience_ms` at most; `dropped` counts what went over either."""

    def __init__(self, limit: int, patience_ms: int) -> None:
        self._limit = limit
        self._patience_ms = patience_ms
        self._held: dict[str, list[Held]] = {}
        self._number = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._number

    def hold(self, key: str, held: Held) -> None:
        self._held.setdefault(key, []).append(held)
        self._number += 1
        while self._number > self._limit:
            oldest = next(iter(self._held))
            self._drop(oldest, self._held[oldest][1:])

    def take(self, key: str, generation: int) -> Iterator[Held]:
        """Removes and yields, in order, what is about `generation` or an older one."""
        waiting = self._held.get(key)
        if not waiting:
            return
        due = [held for held in waiting if held.report.generation <= generation]
        self._keep(key, [held for held in waiting if held.report.generation > generation])
        yield from due

    def expire(self, now_ms: int) -> None:
        for key, waiting in list(self._held.items()):
            kept = [held for held in waiting if held.seen_at + self._patience_ms >= now_ms]
            if len(kept) < len(waiting):
                self._drop(key, kept)

    def offsets(self) -> Mapping[int, int]:
        """The lowest offset that is still held, by partition."""
        lowest: dict[int, int] = {}
        for waiting in self._held.values():
            for held in waiting:
                lowest[held.partition] = min(held.offset, lowest.get(held.partition, held.offset))
        return lowest

    def _drop(self, key: str, kept: list[Held]) -> None:
        self.dropped += len(self._held[key]) - len(kept)
        self._keep(key, kept)

    def _keep(self, key: str, kept: list[Held]) -> None:
        self._number -= len(self._held[key]) - len(kept)
        if kept:
            self._held[key] = kept
        else:
            del self._held[key]
