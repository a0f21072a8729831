"""Conditions as metav1 has them: a transition time moves only when the status does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from services.hub.decision.resources import ConditionView

Truth = Literal["True", "False", "Unknown"]

_MAX_MESSAGE = 4096


class ConditionWriter:
    """Makes the conditions of one object, given those that it has."""

    def __init__(self, present: Iterable[Mapping[str, Any]], generation: int, now_ms: int) -> None:
        self._present = {item.get("type", ""): item for item in present}
        self._generation = generation
        self._now_ms = now_ms

    def make(self, kind: str, status: Truth, reason: str, message: str = "") -> ConditionView:
        """A condition of the hub's own: it changed when it is first seen to have changed."""
        before = self._present.get(kind)
        since = format_seconds(self._now_ms)
        if before is not None and before.get("status") == status:
            since = str(before.get("lastTransitionTime") or since)
        return ConditionView(
            type=kind,
            status=status,
            reason=reason,
            message=message[:_MAX_MESSAGE],
            last_transition_time=since,
            observed_generation=self._generation,
        )


def format_seconds(time_ms: int) -> str:
    """RFC 3339 in UTC with whole seconds, as metav1.Time is written."""
    return _format_second(time_ms // 1000)


@lru_cache(maxsize=1024)
def _format_second(seconds: int) -> str:
    """Conditions of one moment, and those that have long been so, say the same times again and again."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_seconds(text: str) -> int:
    """The inverse of `format_seconds`, in Unix milliseconds; 0 for what is not such a time."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0
