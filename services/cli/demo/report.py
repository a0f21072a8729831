"""What a run of the demo comes to: the JSON report, and whether it succeeded."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

from services.cli.fleet.tracking import Tracker
from shared.events.v1.status import Phase

_MAX_ERRORS = 50


@dataclass(frozen=True, slots=True)
class Report:
    """`ok` says that every workload that can run is Running, and every other one where it should be."""

    document: dict[str, Any]
    ok: bool


def make_report(tracker: Tracker, *, clusters: str, seconds: float, errors: list[str]) -> Report:
    unmet = tracker.unmet
    expected_running = sum(trace.expected is Phase.RUNNING for trace in tracker.traces.values())
    problems = errors + [
        f"{key}: expected {trace.expected}, is {trace.phase or 'without a status'} {trace.message}".rstrip()
        for key, trace in unmet.items()
    ]
    running = sum(trace.phase is Phase.RUNNING for trace in tracker.traces.values() if trace.expected is Phase.RUNNING)
    ok = not problems and expected_running > 0
    document = {
        "ok": ok,
        "clusters": clusters,
        "seconds": round(seconds, 1),
        "requests": len(tracker.traces),
        "phases": dict(sorted(tracker.phases.items())),
        "phases_reached": dict(sorted(tracker.phases_seen.items())),
        "runnable": expected_running,
        "running": running,
        "latency": tracker.latencies(),
        "scaled": scaled(tracker),
        "errors": problems[:_MAX_ERRORS],
        "errors_total": len(problems),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
    }
    return Report(document, ok)


def scaled(tracker: Tracker) -> dict[str, Any]:
    """By workload: how often it grew and shrank, and between which numbers of replicas."""
    found: dict[str, Any] = {}
    for item in tracker.scalings:
        row = found.setdefault(item.key, {"grew": 0, "shrank": 0, "least": item.before, "most": item.before})
        row["grew" if item.replicas > item.before else "shrank"] += 1
        row["least"], row["most"] = min(row["least"], item.replicas), max(row["most"], item.replicas)
    return found
