"""What a pod would rather have of a node, and what a node would rather not have on it."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import SchedulerConfig, Weights
from services.scheduler.decision.seen.observed import NODES
from services.scheduler.decision.table.images import ImageTable, normalized
from shared.model.identities import ObjectKey
from tests.scheduling import World, node_json, nodes_of, placed, workload

SPOT = {"key": "spot", "value": "", "effect": "PreferNoSchedule"}


def bound(name: str, image: str = "i", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, "resources": {"requests": {"cpu": "100m"}}}
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


MIB = 1024 * 1024


class TestImages:
    def node(self, world: World, name: str, **images: int) -> None:
        document = node_json(labels={"flotilla.dev/price-per-hour": "9" if images else "0"})
        listed = [{"names": [f"registry/{image}:latest"], "sizeBytes": size * MIB} for image, size in images.items()]
        document["status"]["images"] = listed
        world.observe(ObjectKey("north", NODES, "", name), document)

    def place(self, world: World, name: str, image: str) -> str:
        ((node,),) = nodes_of(placed(world.apply(bound(name, image=image)))).values()
        return node

    @pytest.fixture
    def world(self) -> World:
        world = World(SchedulerConfig(weights=Weights(images=10)))
        world.cluster("north")
        return world

    def test_pods_go_where_their_image_is(self, world: World) -> None:
        self.node(world, "a", model=4000)
        self.node(world, "b")
        assert self.place(world, "one", "registry/model") == "a"
        assert self.place(world, "two", "registry/other:latest") == "b"

    def test_what_is_small_makes_no_difference(self, world: World) -> None:
        self.node(world, "a", model=22)
        self.node(world, "b")
        assert self.place(world, "one", "registry/model") == "b"

    def test_it_is_noticed_when_an_image_comes_and_goes(self, world: World) -> None:
        self.node(world, "a")
        self.node(world, "b")
        self.place(world, "one", "registry/model")
        self.node(world, "b", model=4000)
        assert self.place(world, "two", "registry/model") == "b"
        self.node(world, "b")
        self.node(world, "a", model=4000)
        assert self.place(world, "three", "registry/model") == "a"

    def test_the_cost_is_kube_schedulers_score_upside_down(self) -> None:
        table = ImageTable()
        for row in range(4):
            table.put(row, 0, {"m:latest": 1000 * MIB, "n:1": 800 * MIB} if row < 2 else {})
        table.put(4, 1, {"m:latest": 1000 * MIB})
        cost = table.cost([normalized("m"), normalized("n:1")], 2, 5)
        # Half of the first cluster's nodes have them: half of what they are in size counts.
        assert cost[0] == pytest.approx(1 - (900 - 23) / (2000 - 23))
        assert cost[2] == 1
        assert cost[4] == pytest.approx(1 - (1000 - 23) / (2000 - 23))


def test_unless_it_is_asked_for_images_make_no_shape(world: World) -> None:
    world.node("north", "a")
    for number in range(3):
        placed(world.apply(bound(f"w{number}", image=f"registry/i{number}")))
    assert len({plan.demand for record in world.state._workloads for plan in record.plans}) == 1


def test_a_weight_out_of_range_is_refused(world: World) -> None:
    (rejected,) = world.apply(bound("one", affinity=preferring((101, "disk", "ssd"))))
    assert rejected.errors[0].field.endswith(  # type: ignore[union-attr]
        "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.0.weight"
    )
