"""Workloads that others requested through the topic: shown, kept as the fleet has them, and deletable."""

from __future__ import annotations

from typing import Any

from services.hub.decision.resources import FINALIZER, ORIGIN_LABEL, ORIGIN_TOPIC
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.events.v1.workloads import PodSet, Workload
from shared.model.identities import WorkloadKey
from tests.unit.hub.world import START_MS, World, placed_by, status_of, workload

KEY = WorkloadKey("team", "batch")
BATCH = Workload(
    namespace="team",
    name="batch",
    labels={"app": "batch"},
    priority=5,
    pod_sets=(PodSet(name="app", image="busybox", replicas=2),),
)


def placement(wanted: Workload = BATCH, uid: str = "fleet-uid", generation: int = 3) -> PlacementPublished:
    placed = placed_by(wanted, "from-the-topic", uid=uid)
    return PlacementPublished(epoch=1, generation=generation, decided_at=START_MS, placement=placed)


def mirrored() -> World:
    world = World()
    world.place(KEY, placement())
    return world


def show(world: World) -> dict[str, Any]:
    return world.hub.get("workloads", "batch", "team")


def test_a_workload_of_the_topic_appears_with_its_specification() -> None:
    world = mirrored()
    assert show(world)["metadata"]["labels"] == {"app": "batch", ORIGIN_LABEL: ORIGIN_TOPIC}
    assert show(world)["metadata"]["finalizers"] == [FINALIZER]
    assert show(world)["spec"] == {
        "priority": 5,
        "podSets": [{"name": "app", "image": "busybox", "replicas": 2}],
    }
    assert world.requests == []


def test_its_status_is_shown() -> None:
    world = mirrored()
    world.wait(2)
    world.report(KEY, status_of(KEY, Phase.RUNNING, ready=2, desired=2))
    assert show(world)["status"]["ready"] == "2/2"


def test_it_follows_what_the_fleet_has() -> None:
    world = mirrored()
    changed = BATCH.model_copy(update={"pod_sets": (PodSet(name="app", image="busybox:2", replicas=9),)})
    world.place(KEY, placement(changed))
    assert show(world)["spec"]["podSets"] == [{"name": "app", "image": "busybox:2", "replicas": 9}]
    assert world.requests == []


def test_a_users_change_of_it_is_undone() -> None:
    world = mirrored()
    world.hub.update("workloads", "batch", "team", spec={"podSets": [{"name": "app", "image": "mine"}]})
    world.settle()
    assert show(world)["spec"]["podSets"][0]["image"] == "busybox"
    assert world.requests == []


def test_it_keeps_its_finalizer_and_those_of_others() -> None:
    world = mirrored()
    world.hub.update("workloads", "batch", "team", finalizers=["example.org/keep"])
    world.settle()
    assert show(world)["metadata"]["finalizers"] == ["example.org/keep", FINALIZER]


def test_without_the_label_it_is_the_users_own() -> None:
    world = mirrored()
    world.hub.update("workloads", "batch", "team", labels={})
    world.settle()
    (request,) = world.requests
    assert WorkloadRequested.model_validate_json(request.body).root.operation == "apply"
    world.hub.update("workloads", "batch", "team", spec={"podSets": [{"name": "app", "image": "mine"}]})
    world.settle()
    assert len(world.requests) == 2


def test_it_goes_with_the_workload_and_asks_for_nothing() -> None:
    world = mirrored()
    world.delete_in_fleet(KEY, "by-the-topic")
    assert world.hub.objects == {}
    assert world.requests == []


def test_it_goes_after_a_restart_too() -> None:
    world = mirrored()
    world.placements.clear()
    world.start()
    world.settle()
    assert world.hub.objects == {}
    assert world.requests == []


def test_deleting_it_deletes_the_workload() -> None:
    world = mirrored()
    world.hub.delete("workloads", "batch", "team")
    world.settle()
    (request,) = world.requests
    assert WorkloadRequested.model_validate_json(request.body).root.operation == "delete"
    assert show(world)
    world.delete_in_fleet(KEY, request.request_id)
    assert world.hub.objects == {}
    assert len(world.requests) == 1


def test_deleting_it_does_not_hit_a_later_workload_of_its_name() -> None:
    world = mirrored()
    # While the hub was away the user deleted the object, and the workload went and came again through the topic.
    world.hub.delete("workloads", "batch", "team")
    world.placements[KEY] = placement(uid="another")
    world.start()
    world.settle()
    assert world.requests == []
    annotations = show(world)["metadata"]["annotations"]
    assert annotations["flotilla.dev/workload-uid"] == "another"


def test_a_refused_request_for_what_never_was_shows_nothing() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.settle()
    world.refuse(world.requests[0])
    world.hub.delete("workloads", "web", "team")
    world.settle()
    world.place(WorkloadKey("team", "web"), None)
    world.wait(60)
    assert world.hub.objects == {}


def test_one_that_is_being_deleted_is_not_shown_anew() -> None:
    world = World()
    placed = placed_by(BATCH, "x").model_copy(update={"deleting": True})
    world.place(KEY, PlacementPublished(epoch=1, generation=3, decided_at=START_MS, placement=placed))
    assert world.hub.objects == {}
