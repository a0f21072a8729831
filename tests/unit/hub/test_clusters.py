"""A Cluster and the fleet: declared, joined, heard and lost, and the Workload that it brings along."""

from __future__ import annotations

from typing import Any

import pytest

from services.hub.decision.instructions import PublishAudit, PublishDeclaration
from services.hub.decision.resources import ORIGIN_JOINED, ORIGIN_LABEL
from services.hub.decision.state import Policy
from shared.events.v1.clusters import ClusterDeclared, NodeGroup
from shared.events.v1.objects import LEFT, ClusterObserved, ObjectsAudited
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.events.v1.workloads import ApplyWorkload
from shared.kernel.machine import Instruction
from shared.model.identities import WorkloadKey
from tests.unit.hub.world import START_MS, DiedError, World, cluster, heartbeat, status_of, workload

SPEC: dict[str, Any] = {"workloads": [{"name": "myworkload", "replicas": 3, "image": "nginx"}]}
NODE_GROUP: dict[str, Any] = {
    "name": "small",
    "minSize": 1,
    "maxSize": 3,
    "price": 0.2,
    "template": {"allocatable": {"cpu": 4, "memory": "16Gi", "pods": 110}, "labels": {"size": "small"}},
    "provider": {"kind": "clusterApi", "resource": "machinedeployments", "namespace": "fleet", "name": "small"},
}
KEY = WorkloadKey("default", "mycluster")


def show(world: World, name: str = "mycluster") -> dict[str, Any]:
    return world.hub.get("clusters", name)


def condition(world: World, kind: str, name: str = "mycluster") -> tuple[str, str]:
    found = next(item for item in show(world, name)["status"]["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


def declared(spec: dict[str, Any] | None = None) -> World:
    world = World()
    world.hub.create("clusters", cluster(spec=SPEC if spec is None else spec))
    world.settle()
    return world


# Declarations


def test_a_cluster_is_declared() -> None:
    world = declared(
        {
            "labels": {"tier": "gold"},
            "taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}],
            "unschedulable": True,
            "pricePerHour": 1.5,
            "nodePrices": [{"nodeSelector": {"size": "large"}, "pricePerHour": 4}],
            "watchedResources": ["example.org/v1/ships"],
            "nodeGroups": [NODE_GROUP],
        }
    )
    found = world.declared["mycluster"]
    assert found.uid == show(world)["metadata"]["uid"]
    assert (found.labels, found.unschedulable, found.price_per_hour) == ({"tier": "gold"}, True, 1.5)
    assert [(item.node_selector, item.price_per_hour) for item in found.node_prices] == [({"size": "large"}, 4)]
    assert found.watched_resources == ("example.org/v1/ships",)
    assert found.node_groups == (NodeGroup.model_validate(NODE_GROUP),)
    assert show(world)["status"]["summary"]["nodeGroups"] == "small 1-3"
    assert found.taints[0].key == "gpu"
    assert len(world.declarations) == 1
    assert [(action.verb, action.actor) for action in world.audits] == [("create", "kubectl-create")]


@pytest.mark.parametrize("dies_behind", [PublishAudit, PublishDeclaration])
def test_what_is_declared_is_audited_wherever_the_hub_dies(dies_behind: type[Instruction]) -> None:
    world = World()
    world.hub.create("clusters", cluster(spec=SPEC))
    world.dies_behind = dies_behind
    with pytest.raises(DiedError):
        world.settle()
    world.start()
    world.wait(1)
    assert len(world.declarations) == 1
    uid = show(world)["metadata"]["uid"]
    assert {action.request_id for action in world.audits if action.kind == "Cluster"} == {f"{uid}.1"}


def test_nothing_is_declared_again_after_a_restart() -> None:
    world = declared()
    world.start()
    world.wait(120)
    assert len(world.declarations) == 1


def test_a_change_is_declared() -> None:
    world = declared()
    world.hub.update("clusters", "mycluster", spec=SPEC | {"unschedulable": True})
    world.settle()
    assert world.declared["mycluster"].unschedulable
    assert world.audits[-1].verb == "change"


def test_a_deleted_cluster_is_taken_back_even_if_the_hub_was_away() -> None:
    world = declared({})
    world.hub.delete("clusters", "mycluster")
    world.start()
    world.settle()
    assert world.declarations[-1] == ("mycluster", None)
    world.start()
    world.wait(60)
    assert len(world.declarations) == 2


def test_a_specification_that_the_models_refuse_keeps_what_was_declared() -> None:
    world = declared({})
    world.hub.update("clusters", "mycluster", spec={"watchedResources": ["nonsense"]})
    world.wait(5)
    assert condition(world, "Declared") == ("False", "Invalid")
    assert len(world.declarations) == 1


# Heartbeats


def test_a_cluster_that_nobody_joined_waits_and_says_how_to_join() -> None:
    world = declared()
    assert condition(world, "Joined") == ("False", "WaitingForAgents")
    assert condition(world, "Ready") == ("False", "NotJoined")
    message = next(c for c in show(world)["status"]["conditions"] if c["type"] == "Joined")["message"]
    assert "FLOTILLA_WATCHER_CLUSTER=mycluster" in message


def test_a_heartbeat_is_the_status() -> None:
    world = declared()
    world.wait(2)
    world.beat("mycluster", heartbeat("mycluster"))
    status = show(world)["status"]
    assert condition(world, "Ready") == ("True", "AgentReady")
    assert condition(world, "Joined") == ("True", "HeartbeatSeen")
    assert status["version"] == "v1.36.3"
    assert status["summary"] == {"nodes": "3/3", "cpu": "25%", "memory": "25%", "location": "acme/north"}
    assert (status["nodes"], status["nodesReady"]) == (3, 3)


def test_heartbeats_that_say_nothing_new_are_written_at_intervals() -> None:
    world = declared({})
    world.beat("mycluster", heartbeat("mycluster"))
    world.wait(2)
    written = world.hub.writes.count("WriteStatus")
    for _ in range(11):
        world.wait(5)
        world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms, usage={"cpu": "6100m", "memory": "24Gi"}))
    assert world.hub.writes.count("WriteStatus") == written
    for _ in range(3):
        world.wait(5)
        world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms))
    assert world.hub.writes.count("WriteStatus") == written + 1


def test_use_that_moved_far_is_written_ahead_of_time() -> None:
    world = declared()
    world.wait(2)
    world.beat("mycluster", heartbeat("mycluster"))
    world.wait(2)
    world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms, usage={"cpu": "12", "memory": "24Gi"}))
    world.settle()
    assert show(world)["status"]["summary"]["cpu"] == "50%"


def test_a_cluster_that_falls_silent_is_of_unknown_readiness_and_comes_back() -> None:
    world = declared()
    world.wait(2)
    world.beat("mycluster", heartbeat("mycluster"))
    world.wait(14)
    assert condition(world, "Ready") == ("True", "AgentReady")
    world.wait(3)
    assert condition(world, "Ready") == ("Unknown", "HeartbeatLost")
    assert condition(world, "Joined") == ("True", "HeartbeatSeen")
    world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms))
    assert condition(world, "Ready") == ("True", "AgentReady")


def test_what_the_watchers_audit_found_is_a_condition_as_long_as_the_watcher_is_heard() -> None:
    world = declared()
    audited = ObjectsAudited(finished_at=1, objects=7)
    repaired = audited.model_copy(update={"unlike_log": 2, "unlike": ("v1/pods",)})
    unchecked = audited.model_copy(update={"unchecked": ("v1/pods",)})
    for found, wanted in (
        (audited, ("True", "Compared")),
        (repaired, ("True", "Repaired")),
        (unchecked, ("Unknown", "NotCompared")),
    ):
        world.wait(2)
        world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms, audited=found))
        world.settle()
        assert condition(world, "ObjectsConsistent") == wanted
    world.wait(20)
    assert condition(world, "ObjectsConsistent") == ("Unknown", "HeartbeatLost")


def test_an_agent_whose_clock_is_wrong_is_heard_all_the_same() -> None:
    world = declared()
    world.beat("mycluster", heartbeat("mycluster", at_ms=START_MS - 86_400_000))
    world.wait(5)
    assert condition(world, "Ready") == ("True", "AgentReady")


def test_an_old_heartbeat_does_not_look_fresh_after_a_restart() -> None:
    world = declared()
    world.beat("mycluster", heartbeat("mycluster"))
    world.now_ms += 3_600_000
    world.start()
    world.settle()
    assert condition(world, "Ready") == ("Unknown", "HeartbeatLost")


def test_workloads_are_counted() -> None:
    world = declared()
    world.beat("mycluster", heartbeat("mycluster"))
    for number, phase in enumerate([Phase.RUNNING, Phase.RUNNING, Phase.PENDING]):
        key = WorkloadKey("team", f"w{number}")
        world.report(key, status_of(key, phase, clusters=["mycluster", "other"]))
    world.wait(2)
    assert show(world)["status"]["workloads"] == {"total": 3, "running": 2}
    world.report(WorkloadKey("team", "w0"), None)
    world.wait(2)
    assert show(world)["status"]["workloads"] == {"total": 2, "running": 1}
    last = WorkloadKey("team", "w1")
    world.report(last, status_of(last, Phase.DEGRADED, clusters=["mycluster", "other"]))
    world.wait(2)
    assert show(world)["status"]["workloads"] == {"total": 2, "running": 0}


# Clusters that join by themselves


def test_a_cluster_that_joins_by_itself_appears_and_is_not_declared() -> None:
    world = World()
    world.beat("west", heartbeat("west"))
    world.settle()
    assert show(world, "west")["metadata"]["labels"] == {ORIGIN_LABEL: ORIGIN_JOINED}
    assert condition(world, "Ready", "west") == ("True", "AgentReady")
    assert world.declarations == []


def test_a_user_may_declare_a_cluster_that_joined_by_itself() -> None:
    world = World()
    world.beat("west", heartbeat("west"))
    world.hub.update("clusters", "west", spec={"unschedulable": True})
    world.settle()
    assert world.declared["west"].unschedulable
    world.hub.update("clusters", "west", spec={})
    world.settle()
    assert world.declarations[-1] == ("west", None)


def last_words(name: str) -> ClusterObserved:
    """What a watcher says before the heartbeat's tombstone."""
    return heartbeat(name, ready=False, reason=LEFT, message="the cluster left the fleet")


def leave(world: World, name: str, how: str) -> None:
    """Of the two records compaction may leave the second alone."""
    if how != "tombstone":
        world.beat(name, last_words(name))
    if how != "last words":
        world.beat(name, None)


LEAVING = pytest.mark.parametrize("how", ["last words", "tombstone", "both"])


@LEAVING
def test_a_cluster_that_left_goes_if_it_had_joined_by_itself(how: str) -> None:
    world = World()
    world.beat("west", heartbeat("west"))
    leave(world, "west", how)
    assert world.hub.objects == {}


@LEAVING
def test_a_cluster_that_left_stays_if_a_user_made_it_and_keeps_nothing_that_was_measured(how: str) -> None:
    world = declared()
    world.beat("mycluster", heartbeat("mycluster"))
    world.wait(2)
    leave(world, "mycluster", how)
    world.wait(2)
    assert condition(world, "Joined") == ("False", "WaitingForAgents")
    assert condition(world, "Ready") == ("False", "NotJoined")
    assert show(world)["status"].keys() == {"observedGeneration", "workloads", "conditions"}
    world.wait(60)
    assert condition(world, "Ready") == ("False", "NotJoined"), "it is not late, it is no member"
    world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms))
    world.wait(2)
    assert condition(world, "Ready") == ("True", "AgentReady")


def test_the_last_words_of_an_unknown_cluster_make_no_object_of_it() -> None:
    world = World()
    world.beat("west", last_words("west"))
    world.wait(1)
    assert world.hub.writes.count("CreateObject") == 0


@pytest.mark.parametrize("cleaned", [True, False])
def test_a_hub_that_starts_later_removes_a_cluster_that_left_meanwhile(cleaned: bool) -> None:
    world = World()
    world.beat("west", heartbeat("west"))
    assert show(world, "west")
    if cleaned:
        del world.heartbeats["west"]  # the topic has its tombstone at most
    else:
        world.heartbeats["west"] = last_words("west")
    world.start()
    world.settle()
    assert world.hub.objects == {}


def test_a_deleted_cluster_is_shown_again_only_if_its_agents_stay() -> None:
    world = declared({})
    world.beat("mycluster", heartbeat("mycluster"))
    world.hub.delete("clusters", "mycluster")
    for _ in range(5):
        world.wait(5)
        world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms))
        assert world.hub.objects == {}
    for _ in range(2):
        world.wait(5)
        world.beat("mycluster", heartbeat("mycluster", at_ms=world.now_ms))
    world.settle()
    assert show(world)["metadata"]["labels"] == {ORIGIN_LABEL: ORIGIN_JOINED}


def test_a_deleted_cluster_whose_agents_left_is_not_shown_again() -> None:
    world = declared({})
    world.beat("mycluster", heartbeat("mycluster"))
    world.hub.delete("clusters", "mycluster")
    world.wait(120)
    assert world.hub.objects == {}


def test_a_cluster_long_silent_does_not_appear() -> None:
    world = World()
    world.heartbeats["west"] = heartbeat("west")
    world.now_ms += 3_600_000
    world.start()
    world.settle()
    assert world.hub.objects == {}


# The workload of a cluster


def test_its_workloads_become_one_workload_on_that_cluster() -> None:
    world = declared()
    found = world.hub.get("workloads", "mycluster", "default")
    assert found["spec"] == {
        "podSets": [{"name": "myworkload", "replicas": 3, "image": "nginx"}],
        "placement": {"clusters": ["mycluster"]},
    }
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Cluster", show(world)["metadata"]["uid"], True)
    (request,) = world.requests
    body = WorkloadRequested.model_validate_json(request.body).root
    assert isinstance(body, ApplyWorkload)
    assert body.workload.placement.clusters == ("mycluster",)
    assert body.workload.labels == {}
    world.wait(2)
    assert condition(world, "WorkloadsApplied") == ("True", "Applied")
    # The audit names who made the Cluster, not the hub.
    assert {action.actor for action in world.audits} == {"kubectl-create"}


def test_it_follows_the_cluster() -> None:
    world = declared()
    entries = [*SPEC["workloads"], {"name": "second", "image": "redis"}]
    world.hub.update("clusters", "mycluster", spec={"workloads": entries})
    world.settle()
    assert world.hub.get("workloads", "mycluster", "default")["spec"]["podSets"] == entries
    assert len(world.requests) == 2


def test_a_users_change_of_it_is_undone() -> None:
    world = declared()
    world.hub.update("workloads", "mycluster", "default", spec={"podSets": [{"name": "myworkload", "image": "other"}]})
    world.settle()
    assert world.hub.get("workloads", "mycluster", "default")["spec"]["podSets"] == SPEC["workloads"]


def test_it_comes_back_if_a_user_deletes_it() -> None:
    world = declared()
    world.accept(world.requests[0])
    world.hub.delete("workloads", "mycluster", "default")
    world.wait(20)
    created = world.hub.writes.count("CreateObject")
    assert condition(world, "WorkloadsApplied") == ("False", "Creating")
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    world.wait(2)
    assert world.hub.writes.count("CreateObject") == created + 1
    assert condition(world, "WorkloadsApplied") == ("True", "Applied")


def test_it_goes_with_the_last_entry() -> None:
    world = declared()
    world.accept(world.requests[0])
    world.hub.update("clusters", "mycluster", spec={})
    world.settle()
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    world.wait(2)
    assert [address[0] for address in world.hub.objects] == ["clusters"]


def test_it_goes_with_the_cluster_without_a_garbage_collector() -> None:
    world = declared()
    world.accept(world.requests[0])
    world.hub.delete("clusters", "mycluster")
    world.settle()
    assert world.requests[-1].request_id.endswith(".delete")
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    assert world.hub.objects == {}


def test_it_goes_with_the_cluster_even_if_the_hub_was_away() -> None:
    world = declared()
    world.accept(world.requests[0])
    world.hub.delete("clusters", "mycluster")
    world.start()
    world.settle()
    assert world.requests[-1].request_id.endswith(".delete")


def test_its_declaration_is_taken_back_when_its_workload_is_gone() -> None:
    world = declared()
    world.accept(world.requests[0])
    world.hub.delete("clusters", "mycluster")
    world.start()
    world.wait(20)
    assert world.declared["mycluster"].unschedulable, "its executor has yet to withdraw the workload"
    assert len(world.declarations) == 2
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    world.settle()
    assert world.declarations[-1] == ("mycluster", None)


def test_a_cluster_that_is_recreated_gets_its_workload_anew() -> None:
    world = declared()
    world.accept(world.requests[0])
    first = world.hub.get("workloads", "mycluster", "default")["metadata"]["uid"]
    world.hub.delete("clusters", "mycluster")
    world.hub.create("clusters", cluster(spec=SPEC))
    world.settle()
    assert condition(world, "WorkloadsApplied")[0] == "False"
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    world.wait(2)
    assert world.hub.get("workloads", "mycluster", "default")["metadata"]["uid"] != first
    assert condition(world, "WorkloadsApplied") == ("True", "Applied")


def test_a_workload_of_somebody_else_is_left_alone() -> None:
    world = World()
    world.hub.create("workloads", workload("mycluster"), "default")
    world.settle()
    world.hub.create("clusters", cluster(spec=SPEC))
    world.wait(5)
    assert condition(world, "WorkloadsApplied") == ("False", "NameConflict")
    assert world.hub.get("workloads", "mycluster", "default")["spec"] == workload()["spec"]
    assert len(world.requests) == 1
    # When it goes, the Cluster's takes its place.
    world.accept(world.requests[0])
    world.hub.delete("workloads", "mycluster", "default")
    world.settle()
    world.delete_in_fleet(KEY, world.requests[-1].request_id)
    world.wait(5)
    assert condition(world, "WorkloadsApplied") == ("True", "Applied")


def test_workloads_may_live_in_another_namespace() -> None:
    world = World(Policy(owned_namespace="fleet"))
    world.hub.create("clusters", cluster(spec=SPEC))
    world.settle()
    assert world.hub.get("workloads", "mycluster", "fleet")


def test_a_declaration_that_is_not_of_this_cluster_is_replaced() -> None:
    world = World()
    world.declared["mycluster"] = ClusterDeclared(name="mycluster", uid="earlier")
    world.start()
    world.hub.create("clusters", cluster(spec={}))
    world.settle()
    assert world.declared["mycluster"].uid == show(world)["metadata"]["uid"]
