"""Whether nodes come for a workload that waits for room is among its conditions, for as long as it waits."""

from __future__ import annotations

import pytest

from services.status.decision.facts import PodPhase
from services.status.intake import Intake
from shared.events.registry import DecodeError
from shared.events.topics import WAITING
from shared.events.v1.waiting import LIMIT_REACHED, ORDERED, NodesAwaited
from shared.ports.event_log import Record
from tests.unit.status.world import KEY, World, placement

KIND = "NodesComing"
COMING = (True, ORDERED, "nodes that were ordered have room")
LACKING = (False, LIMIT_REACHED, "the node groups are at their limits")


def kinds(world: World) -> list[str]:
    return [item.type for item in world.status().conditions]


def waiting() -> World:
    """One of two replicas has a place."""
    world = World()
    world.beat("east")
    world.place(placement({"east": 1}, desired=2, reason="Unschedulable", message="Insufficient cpu"))
    world.report("east")
    world.pod("east", "web-0")
    world.end()
    return world


def test_it_stands_in_the_status_of_a_workload_that_waits_and_changes_no_phase() -> None:
    world = waiting()
    before = world.status()
    world.nodes(*COMING)
    world.end()
    condition = world.condition(KIND)
    assert (condition.status, condition.reason, condition.message) == ("True", ORDERED, COMING[2])
    world.nodes(*LACKING)
    world.end()
    lacking = world.condition(KIND)
    assert (lacking.status, lacking.reason) == ("False", LIMIT_REACHED)
    assert lacking.last_transition_at > condition.last_transition_at
    assert (world.status().phase, world.status().step) == (before.phase, before.step)
    # What is repeated is told once.
    told = len(world.published)
    world.nodes(*LACKING)
    world.end()
    assert len(world.published) == told
    world.nodes()
    world.end()
    assert world.status().conditions == before.conditions


def test_who_has_a_place_has_no_such_condition_whatever_the_autoscaler_still_says() -> None:
    world = waiting()
    world.nodes(*LACKING)
    world.end()
    world.place(placement({"east": 2}, generation=2))
    world.end()
    assert KIND not in kinds(world)
    # That it is taken back later is no news.
    told = len(world.published)
    world.nodes()
    world.end()
    assert len(world.published) == told


def test_pods_for_which_their_cluster_finds_no_node_wait_as_well() -> None:
    world = World()
    world.beat("east")
    world.place(placement({"east": 2}))
    world.report("east")
    world.pod("east", "web-0", phase=PodPhase.PENDING, ready=False, trouble="ImagePullBackOff")
    world.pod("east", "web-1", phase=PodPhase.PENDING, ready=False, trouble="Unschedulable")
    world.nodes(*LACKING)
    world.end()
    assert world.condition(KIND).reason == LIMIT_REACHED
    world.pod("east", "web-1")
    world.end()
    assert KIND not in kinds(world)


def test_it_may_come_before_its_placement_and_goes_with_its_tombstone() -> None:
    world = World()
    world.nodes(*LACKING)
    world.end()
    assert KEY not in world.statuses
    world.nodes()
    world.end()
    assert list(world.machine._fleet.all()) == []


@pytest.mark.parametrize("deleting", [True, False])
def test_of_an_earlier_workload_of_that_name_and_of_one_that_goes_it_says_nothing(*, deleting: bool) -> None:
    world = waiting()
    world.nodes(*LACKING, uid="u1" if deleting else "former")
    if deleting:
        world.place(placement(generation=2, workload_generation=2, deleting=True, withdrawn=("east",)))
    world.end()
    assert KIND not in kinds(world)


def test_a_restart_says_the_same() -> None:
    world = waiting()
    world.nodes(*LACKING)
    world.end()
    again = World(live=False, now_ms=world.now_ms)
    again.restore(world)
    again.beat("east")
    again.place(placement({"east": 1}, desired=2, reason="Unschedulable", message="Insufficient cpu"), restored=True)
    again.nodes(*LACKING)
    again.report("east")
    again.pod("east", "web-0")
    again.caught_up()
    assert again.published == []


def test_a_record_becomes_the_condition_and_one_that_cannot_be_read_is_refused() -> None:
    body = NodesAwaited(uid="u1", coming=False, reason=LIMIT_REACHED, message="m" * 2000, planned_at=1)
    seen = Intake().stimulus(Record(WAITING.name, 0, 0, 5, KEY.encode(), body.to_json()), 9)
    world = waiting()
    assert seen is not None
    world.feed(seen)
    world.end()
    assert (world.condition(KIND).reason, len(world.condition(KIND).message)) == (LIMIT_REACHED, 512)
    gone = Intake().stimulus(Record(WAITING.name, 0, 1, 6, KEY.encode(), None), 9)
    assert gone is not None
    world.feed(gone)
    world.end()
    assert KIND not in kinds(world)
    with pytest.raises(DecodeError):
        Intake().stimulus(Record(WAITING.name, 0, 2, 7, KEY.encode(), b"{}"), 9)
