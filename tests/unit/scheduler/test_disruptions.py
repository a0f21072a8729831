"""PodDisruptionBudgets of the clusters are kept, by what their own controllers say."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import QueueConfig, SchedulerConfig
from services.scheduler.decision.seen.observed import BUDGETS
from shared.events.registry import DecodeError
from shared.model.identities import WORKLOAD_LABEL, ObjectKey
from tests.scheduling import Json, World, image, workload

BOUND = {"binding": "node"}


def budget(world: World, name: str, selector: Json | None, allowed: int, **more: Any) -> None:
    """As its controller wrote it: of so many healthy pods as are wanted, and `allowed` beyond."""
    metadata = {"name": name, "namespace": "default", "generation": more.get("generation", 1)}
    healthy = {"currentHealthy": more.get("healthy", 2 + allowed), "desiredHealthy": 2}
    status = {"observedGeneration": 1, "disruptionsAllowed": allowed, **healthy}
    world.observe(
        ObjectKey("east", BUDGETS, "default", name),
        {"metadata": metadata, "spec": {"selector": selector} if selector is not None else {}, "status": status},
    )


def selects(name: str) -> Json:
    return {"matchLabels": {WORKLOAD_LABEL: name}}


def settle(world: World) -> None:
    while world.pending() or world.state.has_work:
        pass


def later(world: World) -> None:
    """What was tried in vain is tried again."""
    world.now += 10_000
    world.cluster("east")
    settle(world)


def tries_within(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.now += 1_000
        world.cluster("east")
        settle(world)


def placed(world: World, name: str) -> int:
    return world.placements[f"default/{name}"].pod_sets[0].placed


@pytest.fixture
def world() -> World:
    """A node of four cores, with four ready pods of `low`."""
    world = World()
    world.cluster("east")
    world.node("east", "n0")
    fill(world)
    return world


def fill(world: World) -> None:
    world.apply(workload("low", image("main", 4), placement=BOUND))
    for ordinal in range(4):
        world.pod("east", f"low-{ordinal}", node="n0", of="low/main", ready=True)


def high(cpu: str = "1", replicas: int = 4) -> Json:
    return workload("high", image("main", replicas, cpu), priority=9, placement=BOUND)


class TestHowManyMayGo:
    @pytest.mark.parametrize("allowed", [0, 1, 3])
    def test_as_many_as_are_allowed(self, world: World, allowed: int) -> None:
        budget(world, "b", selects("low"), allowed)
        world.apply(high())
        settle(world)
        assert (placed(world, "low"), placed(world, "high")) == (4 - allowed, allowed)

    def test_the_least_of_all_budgets(self, world: World) -> None:
        budget(world, "a", selects("low"), 3)
        budget(world, "b", {}, 1)
        world.apply(high())
        settle(world)
        assert placed(world, "high") == 1

    def test_those_that_are_about_to_go_are_counted(self, world: World) -> None:
        """Until its pods are gone the controller says what it said before."""
        budget(world, "b", selects("low"), 1)
        world.apply(high(replicas=1))
        settle(world)
        assert placed(world, "high") == 1
        world.apply(high(replicas=2))
        settle(world)
        later(world)
        assert placed(world, "high") == 1
        gone = {0, 1, 2, 3}.difference(
            *(share.ordinals for share in world.placements["default/low"].pod_sets[0].shares)
        )
        world.no_pod("east", f"low-{gone.pop()}")
        later(world)
        assert placed(world, "high") == 2

    def test_one_that_its_controller_has_not_seen_allows_none(self, world: World) -> None:
        budget(world, "b", selects("low"), 4, generation=2)
        world.apply(high())
        settle(world)
        assert placed(world, "high") == 0

    def test_what_is_not_ready_goes_only_while_there_are_enough(self, world: World) -> None:
        for ordinal in range(4):
            world.pod("east", f"low-{ordinal}", node="n0", of="low/main", ready=False)
        budget(world, "b", selects("low"), 0, healthy=1)
        world.apply(high())
        settle(world)
        assert placed(world, "high") == 0
        budget(world, "b", selects("low"), 0, healthy=2)
        later(world)
        assert placed(world, "high") == 4

    def test_whoever_waits_in_vain_tries_again_when_more_may_go(self, world: World) -> None:
        budget(world, "b", selects("low"), 0)
        world.apply(high(replicas=1))
        tries_within(world, 60)
        assert placed(world, "high") == 0
        budget(world, "b", selects("low"), 1)
        tries_within(world, 2)
        assert placed(world, "high") == 1


class TestAboutWhom:
    @pytest.mark.parametrize("selector", [selects("other"), None], ids=["another", "nobody"])
    def test_not_about_them(self, world: World, selector: Json | None) -> None:
        budget(world, "b", selector, 0)
        world.apply(high())
        settle(world)
        assert placed(world, "high") == 4

    def test_not_in_another_namespace_or_cluster(self, world: World) -> None:
        status = {"disruptionsAllowed": 0, "desiredHealthy": 4, "currentHealthy": 4}
        for where in (("east", "other"), ("west", "default")):
            world.observe(ObjectKey(where[0], BUDGETS, where[1], "b"), {"spec": {"selector": {}}, "status": status})
        world.apply(high())
        settle(world)
        assert placed(world, "high") == 4

    def test_one_that_is_gone_keeps_nobody(self, world: World) -> None:
        budget(world, "b", selects("low"), 0)
        world.apply(high())
        settle(world)
        world.observe(ObjectKey("east", BUDGETS, "default", "b"), None)
        later(world)
        assert placed(world, "high") == 4

    def test_where_it_would_be_broken_another_node_is_taken(self, world: World) -> None:
        budget(world, "b", selects("low"), 0)
        world.node("east", "n1")
        world.apply(workload("mid", image("main", 4), priority=5, placement=BOUND))
        for ordinal in range(4):
            world.pod("east", f"mid-{ordinal}", node="n1", of="mid/main", ready=True)
        world.apply(high(replicas=2))
        settle(world)
        assert (placed(world, "low"), placed(world, "mid"), placed(world, "high")) == (4, 2, 2)

    def test_what_a_queue_takes_back(self) -> None:
        queues = QueueConfig("a", guarantee=(("cpu", 4_000),)), QueueConfig("b")
        world = World(SchedulerConfig(queues=queues))
        world.cluster("east")
        world.node("east", "n0")
        fill(world)
        budget(world, "b", selects("low"), 1)
        world.apply({**high(), "queue": "a"})
        settle(world)
        assert placed(world, "high") == 1


def test_a_selector_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(DecodeError):
        budget(world, "b", {"matchExpressions": [{"key": "a", "operator": "Like"}]}, 0)
