"""Queues are bounded: however much is asked at once, no process holds more of it than a few batches."""

from __future__ import annotations

from tests.simulation.checker.evidence import Evidence, Violation

# A lane of requests, made small, and what one more look at the log may bring into it.
MOST_QUEUED = 96


def check(evidence: Evidence) -> list[Violation]:
    return [
        Violation("backlog", process, f"held {records} records in one queue")
        for process, records in sorted(evidence.history.backlogs.items())
        if records > MOST_QUEUED
    ]
