"""When executors were last heard to ask for their leases: what they had is over so long after that.

Whoever leads now knows nothing of what was asked before, and takes it that every cluster asked when this term began:
what an earlier leader answered stands in the journal before that, and was asked for before that. So it waits for the
whole time again, by its own clock, which never jumps. Since an executor counts from when it asked, and an answer is
given to what was read alone, its lease ends before that whatever was on its way (`shared/events/v1/leases.py`).
"""

from __future__ import annotations

from shared.events.v1.leases import LEASE_MS


class Leases:
    def __init__(self, margin_ms: int) -> None:
        self._margin_ms = margin_ms
        self._asked_at: dict[str, int] = {}
        self._began_ms: int | None = None

    def begin(self, now_ms: int) -> None:
        """The term began, if this is the first time that it is said."""
        if self._began_ms is None:
            self._began_ms = now_ms

    def asked(self, cluster: str, now_ms: int) -> None:
        self._asked_at[cluster] = now_ms

    def is_over(self, cluster: str, now_ms: int, grace_ms: int) -> bool:
        """Whether nothing runs by a lease of the cluster any more, which takes its pods so long to end."""
        if self._began_ms is None:
            return False
        last = max(self._asked_at.get(cluster, self._began_ms), self._began_ms)
        return now_ms - last >= LEASE_MS + grace_ms + self._margin_ms
