"""Queues are bounded: however much is asked at once, no process holds more of it than a few batches."""

from __future__ import annotations

from tests.simulation.checker.evidence import Evidence, Violation

# Records in one queue of one process: three batches of what a leader decides at once are under way at most.
MOST_QUEUED = 64


def check(evidence: Evidence) -> list[Violation]:
    return [
        Violation("backlog", process, f"held {records} records in one queue")
        for process, records in sorted(evidence.history.backlogs.items())
        if records > MOST_QUEUED
    ]
