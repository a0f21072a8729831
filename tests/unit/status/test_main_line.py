"""Accepted → Scheduled → Applied → Running: complete, in order, whatever is seen first and in however few batches."""

from __future__ import annotations

from itertools import permutations

import pytest

from services.status.decision.messages import Hop, HopMeasured, RunningReached
from tests.unit.status.world import KEY, START_MS, World, placement

MAIN_LINE = ["Accepted", "Scheduled", "Applied", "Running"]


def test_each_step_is_told_as_it_happens() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 2}))
    world.end()
    assert world.phases == ["Accepted", "Scheduled"]
    world.report("a")
    world.end()
    assert world.phases == ["Accepted", "Scheduled", "Applied"]
    world.pod("a", "web-0")
    world.pod("a", "web-1", ready=False)
    world.end()
    assert world.phases[-1] == "Applied"
    assert world.condition("Ready").message == "1 of 2 replicas ready"
    world.pod("a", "web-1")
    world.end()
    assert world.phases == MAIN_LINE
    assert [event.step for event in world.events] == [1, 2, 3, 4]
    assert [event.previous for event in world.events] == [None, "Accepted", "Scheduled", "Applied"]
    assert world.status().step == 4


@pytest.mark.parametrize("order", list(permutations(["place", "report", "pods", "beat"])))
@pytest.mark.parametrize("batches", ["one", "many"])
def test_whatever_comes_first_nothing_is_skipped(order: tuple[str, ...], batches: str) -> None:
    world = World()
    for what in order:
        match what:
            case "place":
                world.place(placement({"a": 1}))
            case "report":
                world.report("a")
            case "pods":
                world.pod("a", "web-0")
            case "beat":
                world.beat("a")
        if batches == "many":
            world.end()
    world.end()
    assert world.phases == MAIN_LINE


def test_a_running_that_lasted_less_than_a_batch_is_told() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}))
    world.report("a")
    world.pod("a", "web-0")
    world.pod("a", "web-0", ready=False)
    world.end()
    assert world.phases == [*MAIN_LINE, "Degraded"]


def test_a_replaced_specification_was_accepted_even_within_one_batch() -> None:
    world = World()
    world.place(placement({"a": 1}))
    world.place(placement({"a": 1}, generation=2, workload_generation=2, request="r2"))
    world.end()
    assert world.phases == ["Accepted", "Scheduled", "Accepted", "Scheduled"]
    assert [event.request_id for event in world.events] == ["r1", "r1", "r2", "r2"]
    assert world.events[2].reason == "SpecificationChanged"


def test_running_waits_for_every_cluster_and_surplus_in_one_does_not_make_up_for_another() -> None:
    world = World()
    world.beat("a", "b")
    world.place(placement({"a": 1, "b": 1}))
    world.report("a")
    world.end()
    assert world.phases == ["Accepted", "Scheduled"]
    assert world.condition("Applied").message == "b: no report yet"
    world.report("b")
    world.pod("a", "web-0")
    world.pod("a", "web-1")
    world.end()
    assert world.phases[-1] == "Applied"
    assert world.status().ready == 1
    world.pod("b", "web-0")
    world.end()
    assert world.phases == MAIN_LINE


def test_a_change_begins_the_line_anew_and_waits_for_the_new_generation() -> None:
    world = World()
    world.run({"a": 2})
    world.place(placement({"a": 3}, generation=5, workload_generation=2, request="r2"))
    world.end()
    world.report("a", 5)
    world.owned("a", "Deployment", generation=5, current=True, wanted=3, updated=3)
    world.end()
    world.pod("a", "web-2")
    world.end()
    assert world.phases == MAIN_LINE * 2
    assert world.status().milestones.running_at == world.events[-1].changed_at
    assert world.status().request_id == "r2"


def test_an_older_report_does_not_count_for_a_newer_specification() -> None:
    world = World()
    world.run({"a": 1})
    world.place(placement({"a": 1}, generation=5, workload_generation=2))
    world.report("a", 1)
    world.end()
    assert world.phases[-1] == "Scheduled"


def test_a_report_of_an_older_generation_never_replaces_a_newer_one() -> None:
    world = World()
    world.run({"a": 1}, generation=5)
    world.report("a", 3, "failed", reason="Invalid")
    world.end()
    assert world.phases == MAIN_LINE
    assert world.condition("Applied").status == "True"


def test_clusters_whose_part_did_not_change_need_not_report_again() -> None:
    world = World()
    world.run({"a": 1}, desired=1)
    world.beat("b")
    world.place(placement({"a": 1, "b": 1}, generation=7))
    world.end()
    assert [(part.cluster, part.applied) for part in world.status().clusters] == [("a", True), ("b", False)]
    # It ran, and one of two replicas is missing now.
    assert world.phases[-1] == "Degraded"
    world.report("b", 7)
    world.pod("b", "web-0")
    world.end()
    assert world.phases[-1] == "Running"


def test_a_repeated_or_older_placement_changes_nothing() -> None:
    world = World()
    world.run({"a": 1}, generation=5)
    before = len(world.published)
    world.place(placement({"a": 1}, generation=5))
    world.place(placement({"a": 9}, generation=3))
    world.end()
    assert len(world.published) == before
    assert world.phases == MAIN_LINE


def test_milestones_and_hops_are_measured_once() -> None:
    world = World()
    world.run({"a": 1})
    world.pod("a", "web-0", ready=False)
    world.end()
    world.pod("a", "web-0")
    world.end()
    milestones = world.status().milestones
    assert (milestones.requested_at, milestones.decided_at) == (START_MS - 20, START_MS - 10)
    assert milestones.applied_at is not None
    assert milestones.running_at is not None
    hops = {item.hop: item.milliseconds for item in world.instructions if isinstance(item, HopMeasured)}
    assert hops == {
        Hop.DECIDED: 10,
        Hop.APPLIED: milestones.applied_at - START_MS + 10,
        Hop.RUNNING: milestones.running_at - milestones.applied_at,
    }
    assert sum(isinstance(item, RunningReached) for item in world.instructions) == 1


def test_what_is_not_new_is_not_published() -> None:
    world = World()
    world.run({"a": 1})
    before = len(world.published)
    world.pod("a", "web-0")
    world.report("a")
    world.beat("a")
    world.end()
    assert len(world.published) == before


def test_times_never_run_backwards_in_a_history() -> None:
    world = World()
    world.run({"a": 1}, at_ms=START_MS + 3_000)
    times = [event.changed_at for event in world.events]
    assert times == sorted(times)


def test_objects_that_carry_the_generation_stand_for_a_lost_report() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, generation=4))
    world.owned("a", "Deployment", generation=4, current=True, wanted=1, updated=1)
    world.pod("a", "web-0")
    world.end()
    assert world.phases == MAIN_LINE


def test_zero_replicas_run_once_applied() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 0}))
    world.report("a")
    world.end()
    assert world.phases == MAIN_LINE
    assert (world.status().desired, world.status().ready) == (0, 0)


def test_the_key_of_the_status_is_the_workload() -> None:
    world = World()
    world.run({"a": 1})
    assert list(world.statuses) == [KEY]
    assert (world.status().namespace, world.status().name, world.status().uid) == ("shop", "cart", "u1")


def test_an_applied_that_lasted_less_than_a_batch_is_told() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}))
    world.report("a")
    world.report("a", 1, "failed", reason="Conflict")
    world.end()
    assert world.phases == ["Accepted", "Scheduled", "Applied", "Scheduled"]
    assert world.events[-1].reason == "Conflict"


def test_a_report_on_a_later_placement_says_nothing_of_this_one() -> None:
    world = World()
    world.beat("a")
    world.report("a", 9)
    world.place(placement({"a": 1}, generation=5))
    world.end()
    assert world.phases == ["Accepted", "Scheduled"]
    assert world.machine.held_offsets() == {0: 0}
