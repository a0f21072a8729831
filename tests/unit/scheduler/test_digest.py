"""The state's hash by difference: the same as at once, whatever the order, and another for another state."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.scheduling import World, image, workload


def begin(world: World) -> None:
    world.cluster("east")
    world.cluster("west", {"tier": "gold"})
    for cluster in ("east", "west"):
        for number in range(3):
            world.node(cluster, f"n{number}", labels={"zone": str(number)})


def go_on(world: World) -> None:
    world.apply(workload("web", image(replicas=5)))
    world.pod("east", "p", node="n1", of="web/web")
    world.apply(workload("gone", image(replicas=1)))
    world.delete("gone")
    world.node("east", "n2", labels={"zone": "2"}, nvidia_com_gpu="4")


def test_by_difference_it_is_the_same_as_at_once() -> None:
    one, other = World(), World()
    begin(one)
    begin(other)
    one.state.digest()
    for step in (lambda: go_on(one), one.pending, lambda: one.no_pod("east", "p")):
        step()
        one.state.digest()
    go_on(other)
    other.pending()
    other.no_pod("east", "p")
    assert one.state.digest() == other.state.digest()


def test_the_order_in_which_things_became_known_makes_no_difference() -> None:
    one, other = World(), World()
    begin(one)
    for number in (2, 0, 1):
        for cluster in ("west", "east"):
            other.node(cluster, f"n{number}", labels={"zone": str(number)})
    other.cluster("west", {"tier": "gold"})
    other.cluster("east")
    one.pod("east", "a", node="n0", cpu="1")
    one.pod("east", "b", node="n0", cpu="2")
    other.pod("east", "b", node="n0", cpu="2")
    other.pod("east", "a", node="n0", cpu="1")
    assert one.state.digest() == other.state.digest()


CHANGES: list[tuple[str, int, Callable[[World], object]]] = [
    ("a pod", 0, lambda world: world.pod("west", "q", node="n2", cpu="10m")),
    ("a node that goes", 0, lambda world: world.no_node("west", "n0")),
    ("a node that comes", 0, lambda world: world.node("west", "n9")),
    ("a label", 0, lambda world: world.node("west", "n0", labels={"zone": "9"})),
    ("a node that is not ready", 0, lambda world: world.node("west", "n0", labels={"zone": "0"}, ready=False)),
    ("a workload without pods", 1, lambda world: world.apply(workload("none", image(replicas=0)))),
    ("the same again", 1, lambda world: world.apply(workload("web", image(replicas=5, cpu="1001m")))),
    ("a cluster that is not ready", 2, lambda world: world.cluster("east", ready=False)),
    ("a cluster's label", 2, lambda world: world.cluster("west", {"tier": "tin"})),
]


@pytest.mark.parametrize(("part", "change"), [item[1:] for item in CHANGES], ids=[item[0] for item in CHANGES])
def test_another_state_has_another_and_says_in_which_part(part: int, change: Callable[[World], object]) -> None:
    world = World()
    begin(world)
    go_on(world)
    before = world.state.digest().split("-")
    assert before == world.state.digest().split("-")
    change(world)
    assert world.state.digest().split("-")[part] != before[part]


def test_what_came_and_went_leaves_no_trace() -> None:
    world = World()
    begin(world)
    before = world.state.digest()
    world.pod("west", "q", node="n2")
    world.state.digest()
    world.no_pod("west", "q")
    world.node("west", "n9")
    world.state.digest()
    world.no_node("west", "n9")
    assert world.state.digest() == before
