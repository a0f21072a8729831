"""What of a Cluster's status is worth a write: not every heartbeat."""

from __future__ import annotations

from services.hub.decision.conditions import parse_seconds
from services.hub.decision.views import Json

# Measured use may drift this much of what is allocatable before it is written ahead of its time.
_DRIFT = 0.05


def is_worth_writing(present: Json, wanted: Json, now_ms: int, refresh_ms: int) -> bool:
    """Measured values and the time of the last heartbeat alone are written at intervals, or when use moved far."""
    if _lasting(present) != _lasting(wanted):
        return True
    written_ms = parse_seconds(str(present.get("lastHeartbeat", "")))
    if wanted.get("lastHeartbeat") and now_ms - written_ms >= refresh_ms:
        return present != wanted
    return _moved(present, wanted)


def _lasting(status: Json) -> Json:
    """Without what changes with every heartbeat."""
    summary = {name: text for name, text in (status.get("summary") or {}).items() if name not in {"cpu", "memory"}}
    kept = {name: value for name, value in status.items() if name not in {"usage", "lastHeartbeat", "summary"}}
    return {**kept, "summary": summary}


def _moved(present: Json, wanted: Json) -> bool:
    before, after = _shares(present), _shares(wanted)
    if before.keys() != after.keys():
        return True
    return any(abs(after[name] - before[name]) >= _DRIFT for name in after)


def _shares(status: Json) -> dict[str, float]:
    """Used share by resource, from the percentages of the summary."""
    summary = status.get("summary") or {}
    texts = {name: str(summary[name]).rstrip("%") for name in ("cpu", "memory") if name in summary}
    return {name: int(text) / 100 for name, text in texts.items() if text.isdigit()}
