"""Whether a history kept its promises: pure, over recorded data, for simulations and for the real test bed.

`settled` is about how things ended, and may be asked again until they have; `always` is about every moment on the way.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.checker import capacity, clusters, deletions, fencing, lives, replicas, requests, status, topics
from tests.simulation.checker.evidence import Evidence, Violation

Rule = Callable[[Evidence], list[Violation]]

_SETTLED: tuple[Rule, ...] = (requests.check, topics.check, clusters.check, status.check)
_ALWAYS: tuple[Rule, ...] = (fencing.check, capacity.check, replicas.check, deletions.check, lives.check)


def settled(evidence: Evidence) -> list[Violation]:
    """What is not, or not yet, as the last requests want it."""
    return [violation for rule in _SETTLED for violation in rule(evidence)]


def always(evidence: Evidence) -> list[Violation]:
    """What must never have been so."""
    return [violation for rule in _ALWAYS for violation in rule(evidence)]


__all__ = ["Evidence", "Violation", "always", "settled"]
