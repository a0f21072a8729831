"""What a pod would rather have of a node, and what a node would rather not have on it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scheduling import World, nodes_of, placed, workload

SPOT = {"key": "spot", "value": "", "effect": "PreferNoSchedule"}


def bound(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "100m"}}}
    template = {"spec": {"containers": [container], **spec}}
    return workload(name, {"name": "main", "template": template}, placement={"binding": "node"})


def preferring(*terms: tuple[int, str, str]) -> dict[str, Any]:
    preferred = [
        {"weight": weight, "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}}
        for weight, key, value in terms
    ]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


@pytest.fixture
def world() -> World:
    world = World()
    world.cluster("north")
    return world


def test_preferred_terms_are_added_up(world: World) -> None:
    world.node("north", "a", labels={"disk": "ssd"})
    world.node("north", "b", labels={"arch": "arm64"})
    terms = ((60, "disk", "ssd"), (50, "arch", "arm64"), (20, "size", "large"))
    assert nodes_of(placed(world.apply(bound("one", affinity=preferring(*terms))))) == {"north": ("a",)}
    world.node("north", "b", labels={"arch": "arm64", "size": "large"})
    assert nodes_of(placed(world.apply(bound("two", affinity=preferring(*terms))))) == {"north": ("b",)}


def test_what_is_preferred_is_not_required(world: World) -> None:
    world.node("north", "a")
    assert placed(world.apply(bound("one", affinity=preferring((100, "disk", "ssd"))))).pod_sets[0].placed == 1


def test_softly_tainted_nodes_are_avoided_as_long_as_others_have_room(world: World) -> None:
    world.node("north", "a", cpu="4", taints=[SPOT])
    world.node("north", "b", cpu="100m")
    assert nodes_of(placed(world.apply(bound("one")))) == {"north": ("b",)}
    assert nodes_of(placed(world.apply(bound("two")))) == {"north": ("a",)}


def test_a_soft_taint_that_is_tolerated_does_not_count(world: World) -> None:
    world.node("north", "a", labels={"flotilla.dev/price-per-hour": "0"}, taints=[SPOT])
    world.node("north", "b", labels={"flotilla.dev/price-per-hour": "5"})
    assert nodes_of(placed(world.apply(bound("one")))) == {"north": ("b",)}
    tolerant = bound("two", tolerations=[{"key": "spot", "operator": "Exists"}])
    assert nodes_of(placed(world.apply(tolerant))) == {"north": ("a",)}


def test_a_weight_out_of_range_is_refused(world: World) -> None:
    (rejected,) = world.apply(bound("one", affinity=preferring((101, "disk", "ssd"))))
    assert rejected.errors[0].field.endswith(  # type: ignore[union-attr]
        "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.0.weight"
    )
