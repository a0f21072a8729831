"""What has to start together gets its room in the end, and smaller ones use what it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import QueueConfig, SchedulerConfig
from tests.scheduling import Json, World, image, workload

# A request of these tests is published some milliseconds later.
PATIENCE_MS = SchedulerConfig().gang_patience_ms + 100
BOUND = {"binding": "node"}
GANG = {"binding": "node", "gang": {}}


def world_of(nodes: int, *queues: QueueConfig) -> World:
    world = World(SchedulerConfig(queues=queues))
    world.cluster("east")
    for number in range(nodes):
        world.node("east", f"n{number}")
    return world


def one(name: str, cpu: str = "1", **more: Any) -> Json:
    return workload(name, image(cpu=cpu), **{"placement": BOUND, **more})


def gang(name: str, replicas: int, cpu: str = "1", **more: Any) -> Json:
    return workload(name, image(replicas=replicas, cpu=cpu), **{"placement": GANG, **more})


def settle(world: World) -> None:
    while world.pending() or world.state.has_work:
        pass


def later(world: World, ms: int = PATIENCE_MS) -> None:
    world.now += ms
    world.cluster("east")
    settle(world)


def ends(world: World, name: str) -> None:
    """It is deleted, and its cluster confirms that."""
    world.delete(name)
    world.withdrawn("east", name)


def placed(world: World) -> set[str]:
    return {
        key.removeprefix("default/")
        for key, item in world.placements.items()
        if item.pod_sets and item.pod_sets[0].placed
    }


@pytest.fixture(params=["plain", "queues"])
def busy(request: pytest.FixtureRequest) -> World:
    """Two nodes of four cores, full of workloads of one; a gang that wants both nodes waits."""
    world = world_of(2, *((QueueConfig("a"),) if request.param == "queues" else ()))
    for number in range(8):
        world.apply(one(f"w{number}"))
    world.apply(gang("gang", 8))
    settle(world)
    assert placed(world) == {f"w{number}" for number in range(8)}
    return world


class TestWhatWaitsLongEnough:
    def test_has_all_that_becomes_free_kept(self, busy: World) -> None:
        later(busy)
        for number in range(8):
            busy.apply(one(f"late{number}"))
            ends(busy, f"w{number}")
            settle(busy)
        assert placed(busy) == {"gang"}
        (item,) = busy.placements["default/late0"].pod_sets
        assert item.reason == "Unschedulable"

    def test_before_that_others_use_it(self, busy: World) -> None:
        busy.apply(one("late"))
        ends(busy, "w0")
        settle(busy)
        assert "late" in placed(busy)

    def test_the_more_important_takes_what_it_finds(self, busy: World) -> None:
        later(busy)
        ends(busy, "w0")
        busy.apply(one("urgent", priority=5))
        settle(busy)
        assert "urgent" in placed(busy)

    def test_what_was_lost_is_replaced(self, busy: World) -> None:
        later(busy)
        ends(busy, "w0")
        ends(busy, "w1")
        busy.apply(workload("w2", image(replicas=1, cpu="1"), placement=BOUND, labels={"a": "b"}))
        settle(busy)
        assert "w2" in placed(busy)

    def test_when_it_is_gone_others_have_the_room(self, busy: World) -> None:
        later(busy)
        busy.apply(one("late"))
        ends(busy, "w0")
        settle(busy)
        assert "late" not in placed(busy)
        ends(busy, "gang")
        settle(busy)
        assert "late" in placed(busy)

    def test_who_waits_learns_for_whom(self) -> None:
        world = world_of(1)
        world.apply(one("w", "2"))
        world.apply(gang("gang", 3, "1"))
        later(world)
        world.apply(one("late"))
        settle(world)
        (item,) = world.placements["default/late"].pod_sets
        assert item.message.endswith("Room is kept for default/gang.")

    def test_nothing_is_held_between_calls(self, busy: World) -> None:
        later(busy)
        ends(busy, "w0")
        busy.apply(one("late"))
        settle(busy)
        standby = world_of(2, *busy.state.config.queues)
        for decision in busy.journal:
            standby.state.apply(decision)
        assert standby.state.hash() == busy.state.hash()


class TestHowMuch:
    def test_what_it_cannot_use_others_have(self) -> None:
        """It starts on the node that is the idlest; what is more there than it takes is everybody's."""
        world = world_of(3)
        world.apply(one("w0", "3"))
        world.apply(one("w1", "4"))
        world.apply(one("w2", "4"))
        world.apply(gang("gang", 3, "1"))
        later(world)
        ends(world, "w1")
        for number in range(4):
            world.apply(one(f"late{number}"))
        settle(world)
        assert "gang" in placed(world)
        assert len(placed(world)) == 5

    def test_on_nodes_where_it_cannot_start_nothing_is_kept(self) -> None:
        world = world_of(1)
        world.node("east", "large", cpu="8")
        world.apply(one("w0", "6"))
        world.apply(one("w1", "4"))
        world.apply(gang("gang", 2, "4"))
        assert world.placements["default/gang"].pod_sets[0].placed == 0
        ends(world, "w1")
        later(world)
        world.apply(one("late"))
        settle(world)
        assert "late" not in placed(world)
        ends(world, "w0")
        settle(world)
        assert {"gang", "late"} <= placed(world)

    def test_its_nodes_stay_these_when_others_become_idler(self) -> None:
        """Else what comes meanwhile would have the one and then the other, for ever."""
        world = world_of(2)
        for number in range(3):
            world.apply(one(f"w{number}", "3"))
        settle(world)
        world.apply(gang("gang", 4))
        later(world)
        for late, cpu, gone in (("late0", "500m", "w1"), ("late1", "500m", "w0"), ("late2", "3", "w2")):
            world.apply(one(late, cpu))
            ends(world, gone)
            settle(world)
        assert "gang" in placed(world)

    def test_what_would_fit_nowhere_keeps_nothing(self) -> None:
        world = world_of(2)
        world.apply(gang("gang", 9))
        later(world)
        world.apply(one("late"))
        settle(world)
        assert placed(world) == {"late"}

    def test_of_two_the_first_has_it(self) -> None:
        world = world_of(2)
        for number in range(8):
            world.apply(one(f"w{number}"))
        world.apply(gang("first", 6))
        world.apply(gang("second", 4))
        later(world)
        for number in range(4):
            ends(world, f"w{number}")
        settle(world)
        assert not placed(world) & {"first", "second"}
        for number in range(4, 8):
            ends(world, f"w{number}")
        settle(world)
        assert placed(world) & {"first", "second"} == {"first"}

    def test_a_job_of_several_pods_as_well(self) -> None:
        world = world_of(1)
        world.apply(one("w", "4"))
        container = {"name": "main", "image": "j", "resources": {"requests": {"cpu": "1"}}}
        spec = {"parallelism": 3, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
        manifest = {"apiVersion": "batch/v1", "kind": "Job", "spec": spec}
        world.apply(workload("job", {"name": "job", "manifest": manifest}))
        later(world)
        world.node("east", "n1", cpu="2")
        world.apply(one("late"))
        settle(world)
        ends(world, "w")
        settle(world)
        assert "job" in placed(world)


class TestBetweenQueues:
    def test_a_queue_that_has_less_goes_first(self) -> None:
        world = world_of(2, QueueConfig("a"), QueueConfig("b"))
        for number in range(6):
            world.apply(one(f"a{number}", queue="a"))
        world.apply(one("b0", "2", queue="b"))
        world.apply(gang("gang", 6, queue="a"))
        settle(world)
        later(world)
        ends(world, "a0")
        world.apply(one("b1", queue="b"))
        settle(world)
        assert "b1" in placed(world)

    def test_a_queue_that_has_more_waits(self) -> None:
        world = world_of(2, QueueConfig("a"), QueueConfig("b"))
        for number in range(8):
            world.apply(one(f"b{number}", queue="b"))
        world.apply(gang("gang", 8, queue="a"))
        settle(world)
        later(world)
        for number in range(8):
            world.apply(one(f"late{number}", queue="b"))
            ends(world, f"b{number}")
            settle(world)
        assert placed(world) == {"gang"}
