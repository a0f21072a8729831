"""A Cluster that is made, changed, drained and ended; the management cluster and the fleet are played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.hub.decision.instructions import (
    Deprovision,
    Provision,
    PublishDeclaration,
    SetFinalizers,
    WriteStatus,
)
from services.hub.decision.resources import FINALIZER, ClusterSpec
from services.hub.decision.state import Policy
from services.hub.decision.views import check_cluster
from shared.events.v1.decisions import ClusterShare, PodSetPlacement, WorkloadPlaced
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.status import ClusterStatus, Counts, Phase, PodSetStatus
from shared.events.v1.workloads import Workload
from shared.kernel.machine import Instruction
from shared.model.identities import WorkloadKey
from shared.model.provisioning import (
    DRAINING,
    FORBIDDEN,
    FORCE_DELETE_ANNOTATION,
    NAME_CONFLICT,
    NO_ROOM,
    PROVISIONED,
    PROVISIONING,
    UNAVAILABLE,
    Stage,
    Standing,
)
from tests.unit.hub.world import START_MS, DiedError, World, cluster, heartbeat, placed_by, status_of

PROVISION: dict[str, Any] = {
    "provider": "clusterApi",
    "namespace": "fleet",
    "class": {"name": "quick-start"},
    "version": "v1.36.3",
    "controlPlaneReplicas": 3,
    "workers": [{"name": "small", "class": "default-worker", "replicas": 2}],
    "variables": [{"name": "password", "value": {"text": "not for the log"}}],
}
SPEC: dict[str, Any] = {"provision": PROVISION}
SIMULATED: dict[str, Any] = {"provision": {"provider": "simulator", "nodes": [{"name": "small", "count": 2}]}}
NAME = "mycluster"
KEY = WorkloadKey("shop", "web")


class Management:
    """Clusters by Cluster API, as the hub asks for them."""

    def __init__(self) -> None:
        self.stage = Stage.READY
        self.reason = PROVISIONED
        self.message = ""
        self.has_kubeconfig = False
        self.exists = False

    def answer(self, wish: Provision | Deprovision) -> Standing | None:
        if isinstance(wish, Provision):
            self.exists = self.exists or self.stage not in {Stage.FOREIGN, Stage.UNKNOWN}
            self.has_kubeconfig = self.stage is Stage.READY
            return Standing(self.stage, self.reason, self.message)
        self.has_kubeconfig = False
        if self.stage in {Stage.FOREIGN, Stage.UNKNOWN}:
            return Standing(self.stage, self.reason, self.message)
        if not wish.delete:
            return Standing(Stage.LEAVING, "Leaving")
        if not self.exists:
            return Standing(Stage.ABSENT)
        self.exists = False
        return Standing(Stage.LEAVING, "Deleting")


def made(spec: dict[str, Any] = SPEC, policy: Policy | None = None) -> tuple[World, Management]:
    """A Cluster that was created a second ago."""
    world, management = World(policy), Management()
    world.management = management.answer
    world.hub.create("clusters", cluster(spec=spec))
    world.settle()
    return world, management


def joined(spec: dict[str, Any] = SPEC) -> tuple[World, Management]:
    world, management = made(spec)
    world.beat(NAME, heartbeat(NAME, world.now_ms))
    world.wait(2)
    return world, management


def conditions(world: World) -> dict[str, tuple[str, str]]:
    found = world.hub.get("clusters", NAME)["status"]["conditions"]
    return {item["type"]: (item["status"], item["reason"]) for item in found}


def message(world: World, kind: str) -> str:
    found = world.hub.get("clusters", NAME)["status"]["conditions"]
    return str(next(item["message"] for item in found if item["type"] == kind))


def is_there(world: World) -> bool:
    return ("clusters", "", NAME) in world.hub.objects


def beats(world: World, seconds: int) -> None:
    """Time passes while its agents are heard."""
    for _ in range(seconds // 5):
        world.wait(5)
        if is_there(world) and NAME in world.heartbeats:
            world.beat(NAME, heartbeat(NAME, world.now_ms))


def run(world: World, *shares: ClusterShare, generation: int = 7, **changes: Any) -> None:
    """The fleet runs KEY in these shares, and its pods are seen there."""
    wanted = Workload.model_validate(
        {"namespace": KEY.namespace, "name": KEY.name, "podSets": [{"name": "app", "image": "nginx", "replicas": 2}]}
        | changes.pop("workload", {})
    )
    placed: WorkloadPlaced = placed_by(wanted, "request").model_copy(
        update={"pod_sets": (PodSetPlacement(name="app", desired=2, shares=shares),), **changes}
    )
    published = PlacementPublished(epoch=1, generation=generation, decided_at=world.now_ms, placement=placed)
    world.place(KEY, published)
    pods(world, {share.cluster: share.replicas for share in shares}, generation=generation)


def pods(world: World, numbers: dict[str, int], phase: Phase = Phase.RUNNING, **changes: Any) -> None:
    status = status_of(KEY, phase).model_copy(
        update={
            "clusters": tuple(
                ClusterStatus(
                    cluster=name,
                    counts=Counts(desired=number, pods=number, ready=number),
                    pod_sets=(PodSetStatus(name="app", counts=Counts(desired=number, pods=number)),),
                )
                for name, number in numbers.items()
            ),
            **changes,
        }
    )
    world.report(KEY, status)


def test_the_example_is_right() -> None:
    documents = list(yaml.safe_load_all((Path(__file__).parents[3] / "docs" / "provisioned-cluster.yaml").read_text()))
    specs = [check_cluster(item["metadata"]["name"], item["spec"]) for item in documents]
    assert [item.provision.provider for item in specs if isinstance(item, ClusterSpec) and item.provision] == [
        "simulator",
        "clusterApi",
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": "1.36"}, "spec.provision.version"),
        ({"class": {}}, "spec.provision.class.name"),
        ({"management": "../secrets"}, "spec.provision.management"),
        ({"workers": [{"name": "a", "class": "x"}] * 2}, "spec.provision.workers"),
        ({"variables": [{"name": "a", "value": 1}] * 2}, "spec.provision.variables"),
        ({"nodes": []}, "spec.provision.nodes"),
        ({"provider": "somebody"}, "spec.provision"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], field: str) -> None:
    found = check_cluster(NAME, {"provision": PROVISION | change})
    assert not isinstance(found, ClusterSpec)
    assert field in {error.field for error in found}


# Made


def test_nothing_is_made_before_the_finalizer_is_there() -> None:
    world, _ = made()
    writes = [name for name in world.hub.writes if name != "WriteStatus"]
    assert writes == ["SetFinalizers"]
    assert world.hub.get("clusters", NAME)["metadata"]["finalizers"] == [FINALIZER]
    (wish,) = world.wishes
    assert isinstance(wish, Provision)
    assert (wish.wanted.cluster_class.name, wish.wanted.version) == ("quick-start", "v1.36.3")


def test_the_fleet_is_told_who_makes_it_and_no_variable() -> None:
    world, _ = made()
    declared = world.declared[NAME]
    assert declared.provision is not None
    assert declared.provision.provider == "clusterApi"
    assert b"not for the log" not in declared.to_json()


def test_what_comes_is_asked_for_every_few_seconds_and_what_is_there_every_minute() -> None:
    world, management = made()
    management.stage, management.reason = Stage.COMING, PROVISIONING
    world.wait(61)
    before = len(world.wishes)
    world.wait(60)
    assert len(world.wishes) - before == 12
    management.stage, management.reason = Stage.READY, PROVISIONED
    world.wait(6)
    before = len(world.wishes)
    world.wait(120)
    assert len(world.wishes) - before == 2


@pytest.mark.parametrize("reason", [NAME_CONFLICT, NO_ROOM])
def test_who_would_be_told_the_same_asks_every_minute(reason: str) -> None:
    world, management = made()
    management.stage, management.reason = Stage.COMING, reason
    world.wait(61)
    before = len(world.wishes)
    world.wait(120)
    assert len(world.wishes) - before == 2


def test_how_far_it_has_come_is_shown() -> None:
    world, management = made()
    management.stage, management.reason, management.message = Stage.COMING, PROVISIONING, "phase Pending"
    world.hub.update("clusters", NAME, spec={"provision": PROVISION | {"version": "v1.36.4"}})
    world.wait(2)
    assert conditions(world)["Provisioned"] == ("False", PROVISIONING)
    assert conditions(world)["Ready"] == ("False", PROVISIONING)
    assert message(world, "Ready") == "phase Pending"
    assert world.hub.get("clusters", NAME)["status"]["summary"]["provision"] == PROVISIONING
    management.stage, management.reason, management.message = Stage.READY, PROVISIONED, ""
    world.wait(6)
    assert conditions(world)["Provisioned"] == ("True", PROVISIONED)
    assert conditions(world)["Joined"] == ("False", "WaitingForAgents")
    world.beat(NAME, heartbeat(NAME, world.now_ms))
    world.wait(2)
    assert conditions(world)["Ready"][0] == "True"


@pytest.mark.parametrize(
    ("stage", "reason", "status"),
    [
        (Stage.FOREIGN, NAME_CONFLICT, "False"),
        (Stage.COMING, NO_ROOM, "False"),
        (Stage.UNKNOWN, FORBIDDEN, "False"),
        (Stage.UNKNOWN, UNAVAILABLE, "Unknown"),
    ],
)
def test_what_stands_in_the_way_is_said(stage: Stage, reason: str, status: str) -> None:
    world, management = made()
    management.stage, management.reason, management.message = stage, reason, "because"
    world.wait(62)
    assert conditions(world)["Provisioned"] == (status, reason)
    assert message(world, "Provisioned") == "because"


def test_a_change_is_asked_for_at_once() -> None:
    world, _ = made()
    world.hub.update("clusters", NAME, spec={"provision": PROVISION | {"version": "v1.36.4"}})
    world.settle()
    last = world.wishes[-1]
    assert isinstance(last, Provision)
    assert (len(world.wishes), last.wanted.version) == (2, "v1.36.4")


def test_a_hub_that_begins_again_asks_again() -> None:
    world, _ = made()
    world.start()
    world.settle()
    assert len(world.wishes) == 2
    assert len(world.declarations) == 1


def test_a_hub_that_makes_no_clusters_says_so() -> None:
    world, _ = made(policy=Policy(provision=False))
    world.wait(2)
    assert conditions(world)["Provisioned"] == ("False", "NotEnabled")
    assert world.wishes == []
    world.hub.delete("clusters", NAME)
    world.settle()
    assert not is_there(world)


# Ended


def test_an_empty_cluster_goes_when_it_was_closed_and_its_agents_left() -> None:
    world, management = joined()
    world.hub.delete("clusters", NAME)
    world.wait(1)
    assert world.declared[NAME].unschedulable
    assert DRAINING in world.declared[NAME].taints
    assert conditions(world)["Drained"] == ("False", "Draining")
    assert management.has_kubeconfig, "not before it is drained"
    world.wait(6)
    assert not management.has_kubeconfig
    assert management.exists, "not before its agents left"
    assert conditions(world)["Drained"] == ("True", "Empty")
    world.beat(NAME, None)
    world.wait(12)
    assert not management.exists
    assert not is_there(world)
    assert world.declarations[-1] == (NAME, None)
    assert [type(wish) for wish in world.wishes].count(Provision) == 1


def test_agents_that_stay_are_not_waited_for_forever() -> None:
    world, management = joined()
    world.hub.delete("clusters", NAME)
    beats(world, 30)
    assert management.exists
    beats(world, 30)
    assert not management.exists
    assert not is_there(world)


def test_what_runs_there_leaves_first() -> None:
    world, management = joined()
    run(world, ClusterShare(cluster=NAME, replicas=2))
    world.hub.delete("clusters", NAME)
    beats(world, 20)
    assert conditions(world)["Drained"] == ("False", "Draining")
    assert "shop/web" in message(world, "Drained")
    run(
        world, ClusterShare(cluster=NAME, replicas=2, leaving=2), ClusterShare(cluster="east", replicas=2), generation=8
    )
    beats(world, 120)
    assert conditions(world)["Drained"] == ("False", "Draining"), "it leaves, however long that takes"
    assert management.has_kubeconfig
    run(world, ClusterShare(cluster="east", replicas=2), withdrawn=(NAME,), generation=9)
    pods(world, {"east": 2, NAME: 1})
    beats(world, 10)
    pods(world, {"east": 2})
    beats(world, 10)
    assert management.has_kubeconfig, "what was withdrawn has not been confirmed"
    run(world, ClusterShare(cluster="east", replicas=2), generation=10)
    world.wait(3)
    world.beat(NAME, None)
    world.wait(15)
    assert not is_there(world)


def test_without_room_elsewhere_nothing_is_removed_and_the_reason_is_said() -> None:
    world, management = joined()
    run(world, ClusterShare(cluster=NAME, replicas=2))
    world.hub.delete("clusters", NAME)
    beats(world, 90)
    assert conditions(world)["Drained"] == ("False", "WaitingForRoom")
    assert FORCE_DELETE_ANNOTATION in message(world, "Drained")
    assert world.hub.get("clusters", NAME)["status"]["summary"]["provision"] == "WaitingForRoom"
    beats(world, 600)
    assert management.has_kubeconfig
    assert not any(isinstance(wish, Deprovision) for wish in world.wishes)
    world.hub.update("clusters", NAME, annotations={FORCE_DELETE_ANNOTATION: "true"})
    world.wait(2)
    assert conditions(world)["Drained"] == ("True", "Forced")
    world.beat(NAME, None)
    world.wait(15)
    assert not is_there(world)
    assert not management.exists


@pytest.mark.parametrize(
    ("workload", "shares", "holds"),
    [
        ({}, [ClusterShare(cluster=NAME, replicas=1)], True),
        ({"placement": {"division": "duplicated"}}, [ClusterShare(cluster=NAME, replicas=2)], True),
        (
            {"placement": {"division": "duplicated"}},
            [ClusterShare(cluster=NAME, replicas=2), ClusterShare(cluster="east", replicas=2)],
            False,
        ),
        (
            {"podSets": [{"name": "app", "manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}]},
            [ClusterShare(cluster=NAME, replicas=1)],
            False,
        ),
        (
            {"podSets": [{"name": "app", "manifest": {"apiVersion": "apps/v1", "kind": "DaemonSet"}}]},
            [ClusterShare(cluster=NAME, replicas=3), ClusterShare(cluster="east", replicas=3)],
            False,
        ),
    ],
    ids=["replicas", "the only copy", "a copy", "no pods", "a daemon"],
)
def test_copies_of_what_is_elsewhere_hold_nothing_up(
    workload: dict[str, Any], shares: list[ClusterShare], holds: bool
) -> None:
    world, _ = joined()
    run(world, *shares, workload=workload)
    world.hub.delete("clusters", NAME)
    world.wait(8)
    assert conditions(world)["Drained"][0] == ("False" if holds else "True")


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.RUNNING])
def test_what_ran_to_its_end_holds_nothing_up(phase: Phase) -> None:
    world, _ = joined()
    run(world, ClusterShare(cluster=NAME, replicas=1))
    over = Counts(desired=1, pods=1, succeeded=1)
    part = ClusterStatus(cluster=NAME, counts=over, pod_sets=(PodSetStatus(name="app", counts=over),))
    world.report(KEY, status_of(KEY, phase).model_copy(update={"clusters": (part,)}))
    world.hub.delete("clusters", NAME)
    world.wait(8)
    assert conditions(world)["Drained"][0] == ("True" if phase is Phase.SUCCEEDED else "False")


def test_its_own_workload_is_withdrawn_first() -> None:
    world, management = joined(SPEC | {"workloads": [{"name": "main", "image": "nginx"}]})
    world.accept(world.requests[-1])
    world.hub.delete("clusters", NAME)
    world.wait(2)
    assert b'"delete"' in world.requests[-1].body
    assert management.has_kubeconfig
    world.delete_in_fleet(WorkloadKey("default", NAME), world.requests[-1].request_id)
    world.wait(8)
    world.beat(NAME, None)
    world.wait(15)
    assert not is_there(world)
    assert ("workloads", "default", NAME) not in world.hub.objects


def test_what_is_somebody_elses_is_left_alone() -> None:
    world, management = made()
    management.exists = True
    management.stage, management.reason = Stage.FOREIGN, NAME_CONFLICT
    world.wait(60)
    world.hub.delete("clusters", NAME)
    world.wait(15)
    assert not is_there(world)
    assert management.exists


def test_a_management_cluster_that_is_away_is_waited_for() -> None:
    world, management = made()
    world.hub.delete("clusters", NAME)
    management.stage, management.reason = Stage.UNKNOWN, UNAVAILABLE
    world.wait(300)
    assert is_there(world)
    assert conditions(world)["Provisioned"] == ("Unknown", UNAVAILABLE)
    management.stage = Stage.READY
    world.wait(30)
    assert not is_there(world)
    assert not management.exists


def test_of_what_is_not_understood_nothing_is_deleted() -> None:
    world, management = made()
    world.hub.update("clusters", NAME, spec={"provision": PROVISION | {"version": "nonsense"}})
    world.hub.delete("clusters", NAME)
    world.wait(60)
    assert management.exists
    assert conditions(world)["Declared"] == ("False", "Invalid")
    world.hub.update("clusters", NAME, spec=SPEC)
    world.wait(30)
    assert not is_there(world)
    assert not management.exists


@pytest.mark.parametrize("dies_behind", [SetFinalizers, Provision, Deprovision, PublishDeclaration, WriteStatus])
@pytest.mark.parametrize("times", [1, 2])
def test_it_comes_and_goes_wherever_the_hub_dies(dies_behind: type[Instruction], times: int) -> None:
    world, management = World(), Management()
    world.management = management.answer
    world.hub.create("clusters", cluster(spec=SPEC))
    deaths = 0
    for second in range(120):
        if deaths < times and second % 3 == 0:
            world.dies_behind = dies_behind
        if second == 30:
            assert management.has_kubeconfig
            world.hub.delete("clusters", NAME)
        try:
            world.wait(1)
        except DiedError:
            deaths += 1
            world.start()
    assert 1 <= deaths <= times
    assert not is_there(world)
    assert not management.exists
    assert NAME not in world.declared
    assert {action.request_id for action in world.audits} == {"uid-1.1", "uid-1.delete"}


# Simulated


def test_the_simulator_is_told_what_to_make_and_to_end() -> None:
    world, _ = made(SIMULATED)
    provision = world.declared[NAME].provision
    assert provision is not None
    assert [(nodes.name, nodes.count) for nodes in provision.nodes] == [("small", 2)]
    world.wait(2)
    assert conditions(world)["Provisioned"] == ("False", PROVISIONING)
    world.beat(NAME, heartbeat(NAME, world.now_ms))
    world.wait(2)
    assert conditions(world)["Provisioned"] == ("True", PROVISIONED)
    world.hub.delete("clusters", NAME)
    world.wait(2)
    assert world.declared[NAME].provision == provision
    beats(world, 10)
    ending = world.declared[NAME]
    assert ending.provision is not None
    assert ending.provision.ending
    assert DRAINING in ending.taints
    assert is_there(world), "its agents are heard"
    world.beat(NAME, None)
    world.settle()
    assert not is_there(world)
    assert world.declarations[-1] == (NAME, None)
    assert world.wishes == []


def test_one_that_the_simulator_never_made_goes_too() -> None:
    world, _ = made(SIMULATED)
    world.hub.delete("clusters", NAME)
    world.wait(10)
    assert not is_there(world)
    assert NAME not in world.declared


def test_one_that_was_there_by_itself_ends_as_ever() -> None:
    world, _ = made({})
    world.beat(NAME, heartbeat(NAME, START_MS))
    world.hub.delete("clusters", NAME)
    world.settle()
    assert not is_there(world)
