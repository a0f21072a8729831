"""What would let a workload run that waits."""

from __future__ import annotations

from services.scheduler.decision.remedies import remedies
from tests.scheduling import World, image, workload


def test_the_largest_request_a_taint_and_a_restriction_are_found() -> None:
    world = World()
    world.cluster("east")
    world.cluster("west")
    world.node("east", "e1", cpu="1500m", memory="4Gi")
    world.node("east", "e2", cpu="8", taints=[{"key": "team", "value": "x", "effect": "NoSchedule"}])
    world.node("west", "w1", cpu="8")
    world.apply(workload("web", image(cpu="2", memory="1Gi"), placement={"clusters": ["east"]}))
    found = {item.text for item in remedies(world.state, "default/web", world.now)}
    assert found == {
        "request cpu of 1500m or less for a pod",
        "tolerate the taint team=x:NoSchedule",
        "give up placement.clusters",
    }


def test_fewer_replicas_are_as_many_as_have_a_place() -> None:
    world = World()
    world.cluster("east")
    world.node("east", "e1", cpu="4")
    world.apply(workload("web", image(replicas=3, cpu="2", memory="1Gi")))
    found = {item.text for item in remedies(world.state, "default/web", world.now)}
    assert found == {"ask for 2 replicas"}


def test_what_runs_needs_nothing() -> None:
    world = World()
    world.cluster("east")
    world.node("east", "e1")
    world.apply(workload("web"))
    assert not list(remedies(world.state, "default/web", world.now))
