"""The executor's lease: what runs at most once, and may start elsewhere in time, runs here no longer than it lasts.

A process that begins has none, whatever its predecessor had. It leaves alone what it finds for as long as an answer to
its first request may take, and stops it if none comes. Nothing is started without a lease.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.events.v1.leases import LEASE_MS, RENEW_MS, LeaseAsked, LeaseGranted

# How long the first answer is waited for.
FIRST_ANSWER_MS = 5_000
# Answers to earlier requests count no more.
_MOST_ASKED = 64


class Lease:
    """Times are of one clock that never jumps, and goes on while the machine is suspended."""

    def __init__(self, life: str) -> None:
        self._life = life
        self._number = 0
        self._asked_at: dict[int, int] = {}
        # Of each subject the first request that names it, and when that was.
        self._first: dict[str, tuple[int, int]] = {}
        self._last_ms: int | None = None
        self._until_ms = 0
        self._granted_at = 0
        self._subjects: frozenset[str] = frozenset()

    def ask(self, subjects: Iterable[str], now_ms: int) -> LeaseAsked:
        self._number += 1
        self._asked_at[self._number] = now_ms
        self._asked_at.pop(self._number - _MOST_ASKED, None)
        self._last_ms = now_ms
        asked = tuple(sorted(subjects))
        self._first = {subject: self._first.get(subject, (self._number, now_ms)) for subject in asked}
        return LeaseAsked(life=self._life, number=self._number, subjects=asked)

    def take(self, granted: LeaseGranted) -> None:
        """An answer, which may be late, repeated, or another life's."""
        asked_at = self._asked_at.get(granted.number)
        if granted.life != self._life or asked_at is None or granted.number < self._granted_at:
            return
        self._granted_at = granted.number
        self._until_ms, self._subjects = asked_at + LEASE_MS, frozenset(granted.subjects)

    def is_due(self, now_ms: int) -> bool:
        return self._last_ms is None or now_ms - self._last_ms >= RENEW_MS

    def allows(self, subject: str, now_ms: int) -> bool:
        """Whether a subject may be started."""
        return subject in self._subjects and now_ms < self._until_ms

    def tolerated_until(self, subject: str) -> int | None:
        """Until when what is there of a subject is left alone; None as long as nothing was asked for it."""
        number, first_ms = self._first.get(subject, (0, 0))
        if subject in self._subjects:
            return self._until_ms
        if not number:
            return None
        # An answer that does not name it says that it is to run here no more.
        return 0 if self._granted_at >= number else first_ms + FIRST_ANSWER_MS
