"""Requests as the autoscaler recommends them: decided upon within the workload's policy, rendered, and placed by."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.asked.rendering import render_commands
from shared.events.v1.decisions import ContainerRequested, RequestRejected, WorkloadPlaced
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.vertical import ContainerRequests, PodSetRequests
from shared.events.v1.workloads import Workload
from tests.scheduling import Fleet, image, placed, workload

Json = dict[str, Any]
KEY = "default/web"
MIB = 1 << 20
RECREATE: Json = {"updatePolicy": {"updateMode": "Recreate"}}
CPU_USE: Json = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
}


def policy(update: str = "Recreate", **fields: Any) -> Json:
    """With one container policy."""
    return {"updatePolicy": {"updateMode": update}, "resourcePolicy": {"containerPolicies": [fields]}}


def vertical(*, pod_set: Json | None = None, terms: Json = RECREATE, **more: Any) -> Json:
    return workload("web", pod_set or image(replicas=2, cpu="2", memory="2Gi"), vertical=terms, **more)


def say(fleet: Fleet, uid: str, offset: int = 1, *, name: str = "web", cpu: int = 500, memory: int = 300 * MIB) -> None:
    wanted = (ContainerRequests(name=name, cpu=cpu, memory=memory),)
    said = PodSetRequests(name="web", containers=wanted, at=fleet.now, state="AsRecommended")
    record = WorkloadScaled(uid=uid, workload_generation=1, evaluated_at=fleet.now, pod_sets=(), requests=(said,))
    fleet.state.observe_scaling(KEY, record, f"fleet.scaling/3/{offset}")


def requested(decision: WorkloadPlaced) -> ContainerRequested:
    item = decision.pod_sets[0].requested
    assert item is not None
    (container,) = item.containers
    return container


def resources(decision: WorkloadPlaced) -> Json:
    """What the pods of a cluster are told to have."""
    manifest = render_commands(decision, 1, 1)[0].objects[0].manifest
    found: Json = manifest["spec"]["template"]["spec"]["containers"][0]["resources"]
    return found


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_pods_are_made_and_placed_with_what_is_recommended(fleet: Fleet) -> None:
    first = placed(fleet.apply(vertical()))
    assert (first.pod_sets[0].requested, resources(first)["requests"]) == (None, {"cpu": "2", "memory": "2Gi"})
    say(fleet, first.uid, 7)
    decision = placed(fleet.pending())
    assert requested(decision) == ContainerRequested(name="web", requests={"cpu": 500, "memory": 300 * MIB})
    assert resources(decision) == {"requests": {"cpu": "500m", "memory": "300Mi"}}
    # What the workload states is what its user wrote, and nobody changed that.
    assert decision.workload == first.workload
    assert decision.workload_generation == 1
    record = fleet.state.find(KEY)
    assert record is not None
    assert dict(record.plans[0].demand.shape.requests)["cpu"] == 500
    assert fleet.pending() == []
    say(fleet, first.uid, 8)
    assert fleet.pending() == []


def test_what_is_shown_only_changes_nothing(fleet: Fleet) -> None:
    for terms in (None, {}, {"updatePolicy": {"updateMode": "Off"}}):
        document = workload("web", image(replicas=2, cpu="2"), **({} if terms is None else {"vertical": terms}))
        fleet.apply(document)
        say(fleet, fleet.placements[KEY].uid)
        assert fleet.pending() == []


def test_initial_waits_for_the_next_change(fleet: Fleet) -> None:
    first = placed(fleet.apply(vertical(terms=policy("Initial"))))
    say(fleet, first.uid)
    assert fleet.pending() == []
    assert fleet.apply(vertical(terms=policy("Initial"))) == []
    changed = placed(fleet.apply(vertical(terms=policy("Initial"), labels={"a": "b"})))
    assert requested(changed).requests["cpu"] == 500


@pytest.mark.parametrize(
    ("fields", "cpu", "memory"),
    [
        ({"minAllowed": {"cpu": "1"}}, 1000, 300 * MIB),
        ({"maxAllowed": {"memory": "128Mi", "cpu": "0"}}, 500, 128 * MIB),
        ({"controlledResources": ["memory"]}, None, 300 * MIB),
        ({"containerName": "web", "minAllowed": {"cpu": "600m"}, "maxAllowed": {"cpu": "700m"}}, 600, 300 * MIB),
    ],
)
def test_within_what_is_allowed(fleet: Fleet, fields: Json, cpu: int | None, memory: int) -> None:
    say(fleet, placed(fleet.apply(vertical(terms=policy(**fields)))).uid)
    found = requested(placed(fleet.pending()))
    assert (found.requests.get("cpu"), found.requests.get("memory")) == (cpu, memory)


def test_another_policy_counts_at_once_and_off_gives_back_what_is_stated(fleet: Fleet) -> None:
    say(fleet, placed(fleet.apply(vertical())).uid)
    fleet.pending()
    more = placed(fleet.apply(vertical(terms=policy(minAllowed={"cpu": "800m"}))))
    assert requested(more).requests["cpu"] == 800
    for terms in (policy(mode="Off"), policy("Off")):
        back = placed(fleet.apply(vertical(terms=policy(mode="Auto"), labels={"a": "b"})))
        assert requested(back).requests["cpu"] == 500
        off = placed(fleet.apply(vertical(terms=terms)))
        assert (off.pod_sets[0].requested, resources(off)["requests"]["cpu"]) == (None, "2")


def test_limits_stay_in_proportion_or_as_they_are(fleet: Fleet) -> None:
    limited = image(replicas=1)
    limited["resources"] = {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "3", "memory": "2Gi"}}
    say(fleet, placed(fleet.apply(vertical(pod_set=limited))).uid)
    decision = placed(fleet.pending())
    assert requested(decision).limits == {"cpu": 750, "memory": 300 * MIB}
    assert resources(decision)["limits"] == {"cpu": "750m", "memory": "300Mi"}
    fixed = placed(fleet.apply(vertical(pod_set=limited, terms=policy(controlledValues="RequestsOnly"))))
    assert (requested(fixed).limits, resources(fixed)["limits"]) == ({}, {"cpu": "3", "memory": "2Gi"})
    say(fleet, decision.uid, 2, cpu=9000)
    assert requested(placed(fleet.pending())).requests["cpu"] == 3000


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_documents_of_users_keep_all_else(fleet: Fleet, kind: str) -> None:
    containers: list[Json] = [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": "2", "example.com/disk": "1"}}, "tty": True},
        {"name": "side", "image": "j"},
    ]
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"hostNetwork": True, "containers": containers}}
    spec: Json = {"selector": {"matchLabels": labels}, "template": template}
    manifest = {"apiVersion": "apps/v1", "kind": kind, "spec": spec}
    for name in fleet.state.fleet.clusters:
        fleet.node(name.name, "disk", **{"example.com_disk": "9"})
    first = placed(fleet.apply(workload("web", {"name": "web", "manifest": manifest}, vertical=RECREATE)))
    say(fleet, first.uid, name="c")
    rendered = render_commands(placed(fleet.pending()), 1, 1)[0].objects[0].manifest
    pod = rendered["spec"]["template"]["spec"]
    assert pod["hostNetwork"]
    assert pod["containers"][0]["resources"]["requests"] == {
        "cpu": "500m",
        "memory": "300Mi",
        "example.com/disk": "1",
    }
    assert pod["containers"][0]["tty"]
    assert pod["containers"][1] == containers[1]
    assert containers[0]["resources"]["requests"]["cpu"] == "2"


def test_a_replica_that_folds_the_decision_is_like_the_leader(fleet: Fleet) -> None:
    uid = placed(fleet.apply(vertical())).uid
    say(fleet, uid)
    fleet.pending()
    standby = Fleet()
    for decision in fleet.journal:
        standby.state.apply(decision)
    assert (standby.state.hash(), standby.state.digest()) == (fleet.state.hash(), fleet.state.digest())
    # It has read less of the topic: what was decided holds, also where the workload is changed.
    assert standby.pending() == []
    assert standby.apply(vertical()) == []
    changed = placed(standby.apply(vertical(labels={"a": "b"})))
    assert requested(changed).requests["cpu"] == 500
    say(standby, uid, 0, cpu=900)
    assert standby.pending() == []
    say(standby, uid, 2, cpu=900)
    assert requested(placed(standby.pending())).requests["cpu"] == 900


def test_another_workload_of_that_name_is_not_meant(fleet: Fleet) -> None:
    uid = placed(fleet.apply(vertical())).uid
    say(fleet, uid)
    fleet.delete("web")
    assert placed(fleet.apply(vertical())).pod_sets[0].requested is None


def errors(fleet: Fleet, document: Json) -> list[tuple[str, str]]:
    (answer,) = fleet.apply(document)
    assert isinstance(answer, RequestRejected)
    return [(error.field, error.message) for error in answer.errors]


MODE = "workload.vertical.updatePolicy.updateMode"


@pytest.mark.parametrize("metrics", [[CPU_USE], []])
def test_not_together_with_replicas_that_follow_a_part_of_what_is_requested(fleet: Fleet, metrics: list[Json]) -> None:
    scaling = {"maxReplicas": 5, **({"metrics": metrics} if metrics else {})}
    ((field, message),) = errors(fleet, vertical(scaling=scaling))
    assert field == MODE
    assert "cpu utilization" in message
    assert "'web'" in message
    for allowed in (
        vertical(scaling=scaling, terms={"updatePolicy": {"updateMode": "Off"}}),
        vertical(scaling=scaling, terms=policy(controlledResources=["memory"])),
        vertical(scaling=scaling, terms=policy(containerName="web", mode="Off")),
    ):
        assert placed(fleet.apply(allowed)).workload == Workload.model_validate(allowed)


def test_a_metric_of_another_container_or_another_kind_is_no_conflict(fleet: Fleet) -> None:
    containers = [{"name": name, "image": "i", "resources": {"requests": {"cpu": "1"}}} for name in ("a", "b")]
    pod_set = {"name": "web", "template": {"spec": {"containers": containers}}}
    terms = policy(containerName="b", mode="Off")
    target = {"type": "Utilization", "averageUtilization": 60}
    of = {name: {"name": "cpu", "container": name, "target": target} for name in ("a", "b")}
    metric = {name: [{"type": "ContainerResource", "containerResource": of[name]}] for name in of}
    document = vertical(pod_set=pod_set, terms=terms, scaling={"maxReplicas": 5, "metrics": metric["b"]})
    assert placed(fleet.apply(document))
    document["scaling"]["metrics"] = metric["a"]
    assert [field for field, _ in errors(fleet, document)] == [MODE]
    document["scaling"]["metrics"] = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}}}
    ]
    assert placed(fleet.apply(document))


def test_what_is_not_rolled_is_refused_and_so_is_an_unknown_container(fleet: Fleet) -> None:
    spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": spec}}}
    ((field, message),) = errors(fleet, vertical(pod_set={"name": "web", "manifest": job}))
    assert field == MODE
    assert "no pod set has pods that are replaced" in message
    ((field, message),) = errors(fleet, vertical(terms=policy(containerName="wob")))
    assert field == "workload.vertical.resourcePolicy.containerPolicies.0.containerName"
    assert message == "no such pod set has a container 'wob', only web"


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (policy(minAllowed={"cpu": "2"}, maxAllowed={"cpu": "1"}), "minAllowed.cpu 2 must not be more"),
        ({"resourcePolicy": {"containerPolicies": [{}, {}]}}, "containerPolicies.1.containerName '*' is used twice"),
        ({"updatePolicy": {"updateMode": "Sometimes"}}, "Off"),
        (policy(containerName="Not A Name"), "containerName"),
        ({"updatePolicy": {"minReplicas": 2}}, "minReplicas"),
    ],
)
def test_sections_that_contradict_themselves(terms: Json, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("*", r"\*")):
        Workload.model_validate(vertical(terms=terms))


def test_bound_pods_get_them_as_well(fleet: Fleet) -> None:
    first = placed(fleet.apply(vertical(placement={"binding": "node"})))
    say(fleet, first.uid)
    command = render_commands(placed(fleet.pending()), 1, 1)[0]
    assert command.pods[0].manifest["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "500m"
