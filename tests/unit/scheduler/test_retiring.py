"""Whoever derives the journal anew ends with the same commands, wherever the last one stopped.

A successor reads placements as of some later point and derives from the checkpoint on: what the decisions in between
ended, it can know from the journal alone.
"""

from __future__ import annotations

import pytest

from services.scheduler.decision.derivation import CommandRecord, PlacementRecord, derive, fold_published
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import Decision, DecisionsMade
from shared.events.v1.placements import PlacementPublished
from tests.scheduling import World, image, workload

Commands = dict[tuple[str, str], CommandIssued]
Placements = dict[str, PlacementPublished]


def batch(decisions: list[Decision]) -> DecisionsMade:
    return DecisionsMade(cell="0", epoch=1, leader="a", decided_at=1, decisions=tuple(decisions))


def publish(
    commands: Commands, placements: Placements, published: Placements, journal: list[DecisionsMade], at: int
) -> None:
    """One entry of the journal, derived on the basis of `published`, into topics that are compacted at once."""
    for derived in derive(published, journal[at], at):
        match derived:
            case CommandRecord(cluster, subject, None):
                commands.pop((cluster, subject), None)
            case CommandRecord(cluster, subject, CommandIssued() as command):
                commands[cluster, subject] = command
            case PlacementRecord(key, None):
                placements.pop(key, None)
            case PlacementRecord(key, PlacementPublished() as placement):
                placements[key] = placement


def journal_of(world: World) -> list[DecisionsMade]:
    """Placed in both clusters, moved out of one, changed, deleted, ended; and another one that comes again."""
    entries: list[list[Decision]] = []
    east = {"placement": {"clusters": ["east"]}}

    def note(decisions: list[Decision]) -> None:
        entries.append(decisions)

    note(world.apply(workload("shop", image(replicas=4))))
    note(world.apply(workload("shop", image(replicas=4), **east)))
    world.withdrawn("west", "shop")
    note(world.pending())
    note(world.apply(workload("shop", image(replicas=2), **east)))
    note(world.apply(workload("again", image(replicas=2))))
    note(world.delete("again"))
    for cluster in ("east", "west"):
        world.withdrawn(cluster, "again")
    note(world.pending())
    note(world.apply(workload("again", image(replicas=2), **east)))
    note(world.delete("shop"))
    world.withdrawn("east", "shop")
    note(world.pending())
    assert all(entries)
    return [batch(decisions) for decisions in entries]


@pytest.mark.parametrize("folded_to", range(11))
@pytest.mark.parametrize("checkpoint", range(11))
def test_a_successor_publishes_what_its_predecessor_would_have(world: World, checkpoint: int, folded_to: int) -> None:
    journal = journal_of(world)
    assert len(journal) == 10
    whole: Commands = {}
    told: Placements = {}
    published: Placements = {}
    for at in range(len(journal)):
        publish(whole, told, published, journal, at)
    assert {(cluster, subject) for cluster, subject in whole} == {("east", "workload/default/again")}

    commands: Commands = {}
    placements: Placements = {}
    published = {}
    for at in range(checkpoint):
        publish(commands, placements, published, journal, at)
    # The successor's basis: its predecessor's placements, and the journal up to some point behind the checkpoint.
    known = dict(placements)
    for at in range(checkpoint, max(checkpoint, folded_to)):
        fold_published(known, journal[at], at)
    for at in range(checkpoint, len(journal)):
        publish(commands, placements, known, journal, at)
    assert commands == whole
    assert placements == told
