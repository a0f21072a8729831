"""A Workload and the fleet: requested once, shown as it is, deleted in order, and nobody fought with."""

from __future__ import annotations

from typing import Any

import pytest

from services.hub.decision.instructions import PublishAudit, PublishRequest
from services.hub.decision.resources import FINALIZER
from services.hub.decision.state import Policy
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.events.v1.workloads import DeleteWorkload, PodSet, Workload
from shared.kernel.machine import Instruction
from shared.model.identities import WorkloadKey
from tests.unit.hub.world import START_MS, DiedError, World, placed_by, status_of, workload

KEY = WorkloadKey("team", "web")


def show(world: World) -> dict[str, Any]:
    return world.hub.get("workloads", "web", "team")


def synced(world: World) -> tuple[str, str]:
    conditions = show(world)["status"]["conditions"]
    found = next(item for item in conditions if item["type"] == "Synced")
    return found["status"], found["reason"]


def running(world: World) -> World:
    """A world in which the user's workload runs."""
    world.hub.create("workloads", workload(), "team")
    world.settle()
    request = world.requests[-1]
    world.accept(request)
    world.report(KEY, status_of(KEY, Phase.RUNNING, request_id=request.request_id, ready=3, clusters=["west"]))
    return world


def test_a_new_workload_is_requested_once() -> None:
    world = World()
    world.hub.create("workloads", workload(labels={"app": "web"}), "team")
    world.settle()
    (request,) = world.requests
    body = WorkloadRequested.model_validate_json(request.body).root
    assert body.operation == "apply"
    assert body.workload.key == KEY
    assert body.workload.labels == {"app": "web"}
    assert body.workload.pod_sets == (PodSet(name="app", image="nginx", replicas=3),)
    assert request.request_id.startswith(f"{show(world)['metadata']['uid']}.1.")


def test_the_finalizer_is_there_before_anything_is_requested() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.settle()
    assert show(world)["metadata"]["finalizers"] == [FINALIZER]
    assert world.hub.writes[0] == "SetFinalizers"


def test_the_status_says_what_the_fleet_says() -> None:
    world = running(World())
    status = show(world)["status"]
    assert (status["phase"], status["ready"], status["replicas"]) == ("Running", "3/3", 3)
    assert status["summary"] == {"clusters": "west"}
    assert status["observedGeneration"] == 1
    assert synced(world) == ("True", "Accepted")


def test_many_clusters_are_shortened_in_the_column() -> None:
    world = running(World())
    world.wait(2)
    world.report(KEY, status_of(KEY, Phase.RUNNING, ready=3, clusters=["d", "b", "a", "c", "e"]))
    assert show(world)["status"]["summary"] == {"clusters": "a,b,c,+2"}


def test_a_status_is_not_written_more_often_than_the_interval() -> None:
    world = running(World())
    written = world.hub.writes.count("WriteStatus")
    for ready in (2, 1, 2):
        world.report(KEY, status_of(KEY, Phase.DEGRADED, ready=ready, clusters=["west"]))
    assert world.hub.writes.count("WriteStatus") == written
    world.wait(1)
    assert world.hub.writes.count("WriteStatus") == written + 1
    assert show(world)["status"]["ready"] == "2/3"


def test_a_change_of_the_specification_is_requested_with_another_id() -> None:
    world = running(World())
    world.hub.update("workloads", "web", "team", spec={"podSets": [{"name": "app", "image": "nginx:2"}]})
    world.settle()
    first, second = world.requests
    assert first.request_id != second.request_id
    assert [action.verb for action in world.audits] == ["create", "change"]


@pytest.mark.parametrize("dies_behind", [PublishAudit, PublishRequest])
def test_what_is_asked_is_audited_wherever_the_hub_dies(dies_behind: type[Instruction]) -> None:
    """The record of a request that was answered before the next hub looked was never written."""
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.dies_behind = dies_behind
    with pytest.raises(DiedError):
        world.settle()
    if world.requests:
        wanted = Workload(namespace="team", name="web", pod_sets=(PodSet(name="app", image="nginx"),))
        placed = placed_by(wanted, world.requests[-1].request_id)
        world.placements[KEY] = PlacementPublished(epoch=1, generation=7, decided_at=START_MS, placement=placed)
    world.start()
    world.wait(10)
    assert len(world.requests) == 1
    assert {action.request_id for action in world.audits} == {world.requests[0].request_id}


def test_a_change_of_a_label_is_requested_though_the_generation_is_the_same() -> None:
    world = running(World())
    world.hub.update("workloads", "web", "team", labels={"tier": "front"})
    world.settle()
    assert len(world.requests) == 2


def test_annotations_of_kubectl_and_of_the_hub_are_not_the_workloads() -> None:
    world = running(World())
    world.hub.update(
        "workloads",
        "web",
        "team",
        annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}", "flotilla.dev/x": "y"},
    )
    world.settle()
    assert len(world.requests) == 1


def test_nothing_is_requested_again_after_a_restart() -> None:
    world = running(World())
    world.start()
    world.wait(120)
    assert len(world.requests) == 1


def test_what_was_not_answered_is_requested_again_after_a_restart_with_the_same_id() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.settle()
    world.start()
    world.settle()
    first, second = world.requests
    assert first.request_id == second.request_id
    assert first.body == second.body


def test_an_answer_that_does_not_come_is_shown() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.wait(4)
    assert "status" not in show(world)
    world.wait(2)
    assert synced(world) == ("Unknown", "Requested")


def test_a_fleet_that_forgot_everything_is_told_again() -> None:
    world = running(World())
    world.placements.clear()
    world.statuses.clear()
    world.start()
    world.settle()
    assert len(world.requests) == 2


# Refusals


def test_a_refused_workload_says_why() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.settle()
    request = world.requests[0]
    world.refuse(request, "image is not allowed")
    world.place(KEY, None)
    world.wait(120)
    status = show(world)["status"]
    assert status["phase"] == "Rejected"
    assert synced(world) == ("False", "Rejected")
    assert "image is not allowed" in status["message"]
    world.start()
    world.wait(120)
    assert len(world.requests) == 1


def test_a_refused_change_leaves_the_workload_running() -> None:
    world = running(World())
    world.hub.update("workloads", "web", "team", spec={"podSets": [{"name": "app", "image": "bad"}]})
    world.settle()
    world.refuse(world.requests[-1])
    world.wait(5)
    status = show(world)["status"]
    assert status["phase"] == "Running"
    assert status["observedGeneration"] == 2
    assert synced(world) == ("False", "Rejected")
    # The next record of the workload, say for a moved replica, speaks of the refusal no more.
    placed = world.placements[KEY].placement
    world.place(KEY, PlacementPublished(epoch=1, generation=12, decided_at=START_MS, placement=placed))
    world.start()
    world.wait(120)
    assert synced(world) == ("False", "Rejected")
    assert len(world.requests) == 2


def test_what_the_models_refuse_is_never_requested() -> None:
    world = World()
    world.hub.create("workloads", workload(spec={"podSets": [{"name": "app"}]}), "team")
    world.wait(60)
    assert world.requests == []
    assert "finalizers" not in show(world)["metadata"], "nothing holds what the fleet was not asked for"
    status = show(world)["status"]
    assert synced(world) == ("False", "Invalid")
    assert "exactly one of image, template and manifest" in status["message"]
    world.hub.update("workloads", "web", "team", spec={"podSets": [{"name": "app", "image": "nginx"}]})
    world.wait(5)
    assert len(world.requests) == 1


# Other writers


def test_a_change_from_elsewhere_is_shown_and_not_fought() -> None:
    world = running(World())
    other = Workload(namespace="team", name="web", pod_sets=(PodSet(name="app", image="other"),))
    placed = placed_by(other, "somebody-else")
    world.place(KEY, PlacementPublished(epoch=1, generation=7, decided_at=START_MS, placement=placed))
    world.wait(120)
    world.start()
    world.wait(120)
    assert synced(world) == ("False", "ChangedElsewhere")
    assert len(world.requests) == 1
    assert show(world)["spec"]["podSets"][0]["image"] == "nginx"
    # The user's next change counts again.
    world.hub.update("workloads", "web", "team", spec={"podSets": [{"name": "app", "image": "nginx:3"}]})
    world.settle()
    world.accept(world.requests[-1])
    world.wait(10)
    assert synced(world) == ("True", "Accepted")


def test_a_deletion_from_elsewhere_is_shown_and_not_undone() -> None:
    world = running(World())
    world.delete_in_fleet(KEY, "somebody-else")
    world.wait(120)
    assert show(world)["status"]["phase"] == "Deleted"
    assert synced(world) == ("False", "DeletedElsewhere")
    # The status goes some day, and the hub may restart after that.
    world.report(KEY, None)
    world.start()
    world.wait(120)
    assert len(world.requests) == 1


def test_a_deletion_of_an_earlier_workload_is_not_shown_on_a_new_one() -> None:
    world = World()
    world.report(KEY, status_of(KEY, Phase.DELETED, request_id="long-ago"))
    world.hub.create("workloads", workload(), "team")
    world.settle()
    assert "phase" not in show(world).get("status", {})


# Deletion


def test_a_deleted_workload_stays_until_the_fleet_let_go_of_it() -> None:
    world = running(World())
    world.hub.delete("workloads", "web", "team")
    world.settle()
    request = world.requests[-1]
    body = WorkloadRequested.model_validate_json(request.body).root
    assert isinstance(body, DeleteWorkload)
    assert request.request_id == f"{show(world)['metadata']['uid']}.delete"
    world.wait(300)
    assert show(world)["metadata"]["finalizers"] == [FINALIZER]
    world.delete_in_fleet(KEY, request.request_id)
    world.settle()
    assert world.hub.objects == {}
    assert [action.verb for action in world.audits] == ["create", "delete"]
    assert len(world.requests) == 2


def test_a_deletion_goes_on_after_a_restart() -> None:
    world = running(World())
    world.hub.delete("workloads", "web", "team")
    world.settle()
    placed = world.placements[KEY].placement
    assert placed is not None
    deleting = placed.model_copy(update={"deleting": True})
    world.place(KEY, PlacementPublished(epoch=1, generation=9, decided_at=START_MS, placement=deleting))
    world.start()
    world.wait(60)
    assert len(world.requests) == 2, "the fleet is at it already"
    world.place(KEY, None)
    world.wait(60)
    assert world.hub.objects == {}


def test_a_deletion_right_after_a_creation_is_published_behind_it() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.settle()
    world.hub.delete("workloads", "web", "team")
    world.settle()
    assert [request.request_id.endswith(".delete") for request in world.requests] == [False, True]
    world.wait(Policy().delete_grace_ms / 1000 - 1)
    assert world.hub.objects, "the scheduler may yet come to it"
    world.wait(2)
    assert world.hub.objects == {}


def test_a_deletion_that_is_refused_because_nothing_is_there_ends_at_once() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team")
    world.settle()
    world.hub.delete("workloads", "web", "team")
    world.settle()
    world.refuse(world.requests[-1], "there is no such workload")
    world.place(KEY, None)
    world.wait(1)
    assert world.hub.objects == {}


def test_a_deletion_ends_when_the_placement_goes_whatever_the_status_says() -> None:
    world = running(World())
    world.hub.delete("workloads", "web", "team")
    world.settle()
    world.place(KEY, None)
    world.wait(1)
    assert world.hub.objects == {}


def test_a_tombstone_that_is_older_than_the_placement_ends_nothing() -> None:
    """A replaced leader repeated it."""
    world = running(World())
    generation = world.placements[KEY].generation
    world.hub.delete("workloads", "web", "team")
    world.settle()
    placed = world.placements[KEY]
    world.place(KEY, None, ended_at=generation - 1)
    world.placements[KEY] = placed
    world.wait(1)
    assert world.hub.objects, "the fleet still has it"
    world.place(KEY, None, ended_at=generation + 1)
    world.wait(1)
    assert world.hub.objects == {}


def test_a_workload_that_is_recreated_at_once_is_requested_anew() -> None:
    world = running(World())
    world.hub.delete("workloads", "web", "team")
    world.settle()
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    world.settle()
    world.hub.create("workloads", workload(), "team")
    world.settle()
    assert len(world.requests) == 3
    assert "phase" not in show(world).get("status", {})
    world.accept(world.requests[-1])
    world.wait(10)
    assert synced(world) == ("True", "Accepted")


def test_a_deletion_that_failed_to_be_read_is_repeated_after_a_restart() -> None:
    world = running(World())
    world.hub.delete("workloads", "web", "team")
    world.settle()
    world.start()
    world.settle()
    assert [request.request_id for request in world.requests[1:]] == [world.requests[1].request_id] * 2


@pytest.mark.parametrize("foreign", ["example.org/keep"])
def test_finalizers_of_others_are_kept(foreign: str) -> None:
    world = World()
    world.hub.create("workloads", workload(finalizers=[foreign]), "team")
    world.settle()
    assert show(world)["metadata"]["finalizers"] == [foreign, FINALIZER]
    world.accept(world.requests[0])
    world.hub.delete("workloads", "web", "team")
    world.settle()
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    assert show(world)["metadata"]["finalizers"] == [foreign]


def test_the_actor_is_who_wrote_the_specification() -> None:
    world = World()
    world.hub.create("workloads", workload(), "team", manager="kubectl-client-side-apply")
    world.settle()
    (action,) = world.audits
    assert (action.actor, action.verb, action.kind, action.name) == (
        "kubectl-client-side-apply",
        "create",
        "Workload",
        "team/web",
    )
