"""Ages as kubectl shows them. Source: k8s.io/apimachinery/pkg/util/duration `HumanDuration`."""

from __future__ import annotations

from collections.abc import Callable

from services.simulator.core.meta import parse_timestamp

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_YEAR = 365 * _DAY
UNKNOWN = "<unknown>"


def _two(seconds: int, big: int, big_unit: str, small: int, small_unit: str) -> str:
    rest = seconds % big // small
    return f"{seconds // big}{big_unit}" + (f"{rest}{small_unit}" if rest else "")


_STEPS: tuple[tuple[int, Callable[[int], str]], ...] = (
    (2 * _MINUTE, lambda s: f"{s}s"),
    (10 * _MINUTE, lambda s: _two(s, _MINUTE, "m", 1, "s")),
    (3 * _HOUR, lambda s: f"{s // _MINUTE}m"),
    (8 * _HOUR, lambda s: _two(s, _HOUR, "h", _MINUTE, "m")),
    (2 * _DAY, lambda s: f"{s // _HOUR}h"),
    (8 * _DAY, lambda s: _two(s, _DAY, "d", _HOUR, "h")),
    (2 * _YEAR, lambda s: f"{s // _DAY}d"),
    (8 * _YEAR, lambda s: _two(s, _YEAR, "y", _DAY, "d")),
)


def human_duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole >= -1 else "<invalid>"
    for bound, show in _STEPS:
        if whole < bound:
            return show(whole)
    return f"{whole // _YEAR}y"


def age(created: str | None, now: float) -> str:
    if not created:
        return UNKNOWN
    try:
        return human_duration(now - parse_timestamp(created))
    except ValueError:
        return UNKNOWN
