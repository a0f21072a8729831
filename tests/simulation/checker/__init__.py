"""Whether a history kept its promises: pure, over recorded data, for simulations and for the real test bed.

`settled` is about how things ended, and may be asked again until they have; `always` is about every moment on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.simulation.checker import (
    backlog,
    capacity,
    clusters,
    costs,
    deletions,
    fencing,
    gangs,
    guarantees,
    hub,
    leaders,
    limits,
    lives,
    once,
    order,
    preemption,
    read_model,
    rebalancing,
    replay,
    replicas,
    requests,
    returns,
    silence,
    status,
    told,
    topics,
    wishes,
    withdrawals,
)
from tests.simulation.checker.evidence import Evidence, Violation

Rule = Callable[[Evidence], Iterable[Violation]]

_SETTLED: tuple[Rule, ...] = (
    requests.check,
    topics.check,
    clusters.check,
    status.check,
    read_model.check,
    hub.check,
    returns.settled,
    guarantees.settled,
)
_ALWAYS: tuple[Rule, ...] = (
    fencing.check,
    order.check,
    leaders.check,
    capacity.check,
    replicas.check,
    deletions.check,
    withdrawals.check,
    wishes.check,
    told.check,
    silence.check,
    gangs.check,
    backlog.check,
    lives.check,
    replay.check,
    preemption.check,
    once.check,
    limits.check,
    returns.check,
    rebalancing.check,
    costs.check,
)


def settled(evidence: Evidence) -> list[Violation]:
    """What is not, or not yet, as the last requests want it."""
    return [violation for rule in _SETTLED for violation in rule(evidence)]


def always(evidence: Evidence) -> list[Violation]:
    """What must never have been so."""
    return [violation for rule in _ALWAYS for violation in rule(evidence)]


__all__ = ["Evidence", "Violation", "always", "settled"]
