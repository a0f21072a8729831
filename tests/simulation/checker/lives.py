"""Whatever breaks around it, no service fails by itself or finds a fault of its own."""

from __future__ import annotations

from tests.simulation.checker.evidence import Evidence, Violation


def check(evidence: Evidence) -> list[Violation]:
    failed = [
        Violation("failed", life.process, life.detail) for life in evidence.history.lives if life.event == "failed"
    ]
    return failed + [Violation("complaint", life.process, life.detail) for life in evidence.history.complaints]
