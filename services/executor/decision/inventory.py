"""All that the executor holds, for whoever knows what was asked: commands, and objects that have none any more.

An object without a command is left alone (its absence from the topic means nothing); that it is there has to be said.
"""

from __future__ import annotations

from services.executor.decision.fence import OPEN
from services.executor.decision.identity import BASE_GROUP_KINDS
from services.executor.decision.state import State
from services.executor.decision.subject import Subject
from shared.events.v1.inventories import HeldSubject, InventoryReported
from shared.model.digests import digest_of


def take_inventory(state: State, at_ms: int, interval_ms: int) -> InventoryReported | None:
    """What is held at `at_ms`; None as long as the commands, or the objects in the cluster, are not all known."""
    if not state.caught_up or any(state.world.kind_problem(kind) for kind in BASE_GROUP_KINDS):
        return None
    counts = state.world.live.counts()
    held = [_commanded(subject, counts.pop(name, 0)) for name, subject in sorted(state.subjects.items())]
    held += [_left_over(state, name, number) for name, number in sorted(counts.items())]
    states = ((item.subject, f"{item.generation}/{item.digest}/{item.outcome}") for item in held)
    return InventoryReported(
        cluster=state.cluster,
        reported_at=at_ms,
        interval_ms=interval_ms,
        digest=digest_of(states).text,
        subjects=tuple(held),
    )


def _commanded(subject: Subject, objects: int) -> HeldSubject:
    command, reported = subject.command, subject.reported
    current = reported is not None and reported.generation == command.generation
    return HeldSubject(
        subject=subject.name,
        generation=command.generation,
        digest=command.digest,
        outcome=reported.outcome if reported is not None and current else "",
        objects=objects,
    )


def _left_over(state: State, name: str, objects: int) -> HeldSubject:
    fence = max((live.fence for live in state.world.live.of(name)), default=OPEN)
    return HeldSubject(subject=name, generation=max(fence.generation, 0), commanded=False, objects=objects)
