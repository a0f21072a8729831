"""What the autoscaler says of a workload is among its conditions."""

from __future__ import annotations

from services.status.intake import Intake
from shared.events.topics import SCALING
from shared.events.v1.scaling import ConditionType, PodSetScaled, ScalingCondition, WorkloadScaled
from shared.events.v1.vertical import PodSetRequests
from shared.ports.event_log import Record
from tests.unit.status.world import KEY, World, placement

STALE = ("ScalingActive", False, "FailedGetExternalMetric", "the newest values are older than 90 s, of east")
VALID = ("ScalingActive", True, "ValidMetricFound", "calculated from external metric lag")
LIMITED = ("ScalingLimited", True, "TooManyReplicas", "more than the maximum")


def kinds(world: World) -> list[str]:
    return [item.type for item in world.status().conditions]


def test_conditions_of_scaling_stand_in_the_status_and_change_no_phase() -> None:
    world = World()
    world.run({"east": 2})
    before = world.status()
    world.scaling(VALID, LIMITED)
    world.end()
    assert world.condition("ScalingActive").status == "True"
    assert world.condition("ScalingLimited").reason == "TooManyReplicas"
    since = world.condition("ScalingActive").last_transition_at
    world.scaling(STALE)
    world.end()
    stale = world.condition("ScalingActive")
    assert (stale.status, stale.reason) == ("False", "FailedGetExternalMetric")
    assert stale.message == "the newest values are older than 90 s, of east"
    assert stale.last_transition_at > since
    assert "ScalingLimited" not in kinds(world)
    assert (world.status().phase, world.status().step) == (before.phase, before.step)
    # Who is scaled no more has none.
    world.scaling()
    world.end()
    assert world.status().conditions == before.conditions


def test_what_is_repeated_is_told_once() -> None:
    world = World()
    world.run({"east": 2})
    world.scaling(VALID)
    world.end()
    told = len(world.published)
    world.scaling(VALID)
    world.end()
    assert len(world.published) == told


def test_it_may_come_before_its_placement_and_is_dropped_with_its_tombstone() -> None:
    world = World()
    world.scaling(STALE)
    world.end()
    assert KEY not in world.statuses
    world.run({"east": 1})
    assert world.condition("ScalingActive").status == "False"
    lonely = World()
    lonely.scaling(STALE)
    lonely.scaling()
    lonely.end()
    assert list(lonely.machine._fleet.all()) == []


def test_of_an_earlier_workload_of_that_name_it_says_nothing() -> None:
    world = World()
    world.scaling(STALE, uid="former")
    world.run({"east": 1})
    assert "ScalingActive" not in kinds(world)


def test_a_workload_that_is_deleted_is_not_scaled() -> None:
    world = World()
    world.run({"east": 1})
    world.scaling(VALID)
    world.end()
    world.place(placement(generation=2, workload_generation=2, deleting=True, withdrawn=("east",)))
    world.end()
    assert "ScalingActive" not in kinds(world)


def test_a_restart_says_the_same() -> None:
    world = World()
    world.run({"east": 2})
    world.scaling(VALID)
    world.end()
    again = World(live=False, now_ms=world.now_ms)
    again.restore(world)
    again.beat("east")
    again.place(placement({"east": 2}), restored=True)
    again.scaling(VALID)
    again.report("east")
    for number in range(2):
        again.pod("east", f"web-{number}")
    again.caught_up()
    assert again.published == []


def test_a_record_becomes_conditions_and_a_tombstone_none() -> None:
    condition = ScalingCondition(type=ConditionType.ACTIVE, status=False, reason="R", message="m" * 2000)
    pod_set = PodSetScaled(name="main", replicas=1, before=1, conditions=(condition,))
    body = WorkloadScaled(uid="u1", workload_generation=1, evaluated_at=1, pod_sets=(pod_set,))
    seen = Intake().stimulus(Record(SCALING.name, 0, 0, 5, KEY.encode(), body.to_json()), 9)
    world = World()
    world.run({"east": 1})
    assert seen is not None
    world.feed(seen)
    world.end()
    assert (world.condition("ScalingActive").reason, len(world.condition("ScalingActive").message)) == ("R", 512)
    gone = Intake().stimulus(Record(SCALING.name, 0, 1, 6, KEY.encode(), None), 9)
    assert gone is not None
    world.feed(gone)
    world.end()
    assert "ScalingActive" not in kinds(world)


def test_whether_containers_request_what_is_recommended() -> None:
    world = World()
    world.run({"east": 1})
    fine = PodSetRequests(name="main", state="AsRecommended")
    late = PodSetRequests(name="other", state="TooSoon", message="wait")
    for offset, (said, expected) in enumerate(
        [((fine,), ("True", "AsRecommended", "")), ((fine, late), ("False", "TooSoon", "pod set other: wait"))]
    ):
        body = WorkloadScaled(uid="u1", workload_generation=1, evaluated_at=1, pod_sets=(), requests=said)
        seen = Intake().stimulus(Record(SCALING.name, 0, offset, 5, KEY.encode(), body.to_json()), 9)
        assert seen is not None
        world.feed(seen)
        world.end()
        condition = world.condition("RequestsApplied")
        assert (condition.status, condition.reason, condition.message) == expected
