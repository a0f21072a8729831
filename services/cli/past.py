"""Which moment of the past is asked for: `--at`."""

from __future__ import annotations

from datetime import UTC, datetime

# The last generation, or the last time in Unix milliseconds.
Until = tuple[int | None, int | None]


def parse_at(text: str) -> Until:
    """Raises ValueError."""
    if text.isascii() and text.isdigit():
        return int(text), None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"--at: {text!r} is neither a generation nor a time such as 2026-11-28T12:00:00Z") from error
    return None, int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def is_until(generation: int, at_ms: int, until: Until) -> bool:
    """Whether what stands at an offset of the journal, and was decided then, is not later."""
    last, time = until
    return (last is None or generation <= last) and (time is None or at_ms <= time)
