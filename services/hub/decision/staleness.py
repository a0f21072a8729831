"""What the read model still says of clusters that are not heard any more, put right as it is read.

The status service marks a silent cluster within three heartbeats, and its workloads with it. If it is away itself, the
read model stays as it was, and a cluster would look healthy for ever: so whoever shows it looks at its age. The age is
by two clocks, of the status service and of the hub, and so one heartbeat more is allowed for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from shared.events.v1.status import Phase

Json = dict[str, Any]

LATE_HEARTBEATS: Final = 4
REASON: Final = "ClusterSilent"
_NO_PODS: Final = {"ready": 0, "running": 0}


def is_overdue(view: Mapping[str, Any], now_ms: int) -> bool:
    """Whether a cluster's heartbeats are missing, though the read model does not say so yet."""
    interval_ms = (view.get("observed") or {}).get("intervalMs", 0)
    return not view.get("silent") and now_ms - view.get("heardAt", 0) > LATE_HEARTBEATS * interval_ms


def shown_cluster(view: Json, now_ms: int) -> Json:
    """A `ClusterView` as it may be shown now."""
    if not is_overdue(view, now_ms):
        return view
    message = "the watcher's heartbeats are missing, or the status service is away"
    conditions = [
        {**item, "status": "Unknown", "reason": REASON, "message": message} for item in view.get("conditions") or ()
    ]
    return {**view, "silent": True, "ready": False, "reason": REASON, "message": message, "conditions": conditions}


def shown_workload(status: Json, overdue: Iterable[str]) -> Json:
    """A `WorkloadStatus` as it may be shown while nothing is heard of the clusters that are `overdue`."""
    unheard = {part["cluster"] for part in status.get("clusters") or ()}.intersection(overdue)
    if not unheard:
        return status
    parts = [_unheard_part(part) if part["cluster"] in unheard else part for part in status["clusters"]]
    message = f"no heartbeat of {', '.join(sorted(unheard))}: the state there is unknown"
    shown = {**status, "clusters": parts}
    if status.get("phase") != Phase.RUNNING:
        return shown
    conditions = [
        {**item, "status": "Unknown", "reason": REASON, "message": message}
        if item.get("type") in {"Ready", "ClustersReady"}
        else item
        for item in status.get("conditions") or ()
    ]
    ready = sum((part.get("counts") or {}).get("ready", 0) for part in parts)
    return {
        **shown,
        "phase": Phase.DEGRADED.value,
        "reason": REASON,
        "message": message,
        "ready": ready,
        "conditions": conditions,
    }


def _unheard_part(part: Json) -> Json:
    return {
        **part,
        "stale": True,
        "reason": part.get("reason") or REASON,
        "counts": {**(part.get("counts") or {}), **_NO_PODS},
    }
