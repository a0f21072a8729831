"""Deployments, jobs and owners over virtual time; the plain cases are in the contract suite."""

from __future__ import annotations

from typing import Any

from services.simulator.cluster import Cluster
from services.simulator.core.meta import is_deleting
from services.simulator.core.options import WriteOptions
from services.simulator.core.patching import patch
from services.simulator.spec import NodeGroup
from tests.unit.simulator.builders import START, add, cluster, condition, deployment, drop, get, pods, target

Json = dict[str, Any]
_MERGE = "application/merge-patch+json"


def _change(made: Cluster, kind: str, name: str, body: Json) -> None:
    patch(made.state, target(made, kind, name), _MERGE, body, WriteOptions())


def _image(made: Cluster, image: str) -> None:
    container = {"name": "main", "image": image}
    _change(made, "Deployment", "web", {"spec": {"template": {"spec": {"containers": [container]}}}})


def test_a_rolling_update_stays_within_its_bounds() -> None:
    made = cluster(NodeGroup(count=4, cpu="64"))
    add(made, deployment(replicas=8))
    made.settle(START + 5)
    seen: list[tuple[int, int]] = []

    def observe(storage: str, _: object) -> None:
        if storage == "replicasets.apps":
            sets = [item.object for item in made.state.items("replicasets.apps")]
            total = sum(item["spec"]["replicas"] for item in sets)
            available = sum(item["status"].get("availableReplicas", 0) for item in sets)
            seen.append((total, available))

    made.state.store.listeners.append(observe)
    _image(made, "app:2")
    made.settle(START + 60)
    assert max(total for total, _ in seen) <= 8 + 2
    assert min(available for _, available in seen) >= 8 - 2
    assert {item["spec"]["containers"][0]["image"] for item in pods(made)} == {"app:2"}
    status = get(made, "deployments.apps", "web")["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (8, 8, 8)


def test_recreate_stops_the_old_before_it_starts_the_new() -> None:
    made = cluster()
    body = deployment(replicas=2)
    body["spec"]["strategy"] = {"type": "Recreate"}
    add(made, body)
    made.settle(START + 5)
    images: set[frozenset[str]] = set()

    def observe(storage: str, _: object) -> None:
        if storage == "pods":
            running = [item for item in pods(made) if not is_deleting(item)]
            images.add(frozenset(item["spec"]["containers"][0]["image"] for item in running))

    made.state.store.listeners.append(observe)
    _image(made, "app:2")
    made.settle(START + 30)
    assert frozenset({"app:1", "app:2"}) not in images
    assert frozenset({"app:2"}) in images


def test_a_stuck_rollout_exceeds_its_deadline() -> None:
    made = cluster()
    body = deployment(replicas=1)
    body["spec"]["progressDeadlineSeconds"] = 20
    add(made, body)
    made.settle(START + 5)
    container = {"name": "main", "image": "app:2"}
    annotations = {"simulator.flotilla.dev/behaviour": "image-pull"}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}
    _change(made, "Deployment", "web", {"spec": {"template": template}})
    made.settle(START + 15)
    assert condition(get(made, "deployments.apps", "web"), "Progressing")["status"] == "True"
    made.settle(START + 60)
    progress = condition(get(made, "deployments.apps", "web"), "Progressing")
    assert (progress["status"], progress["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert condition(get(made, "deployments.apps", "web"), "Available")["status"] == "True"


def test_a_rollback_reuses_the_old_set() -> None:
    made = cluster()
    add(made, deployment(replicas=1))
    made.settle(START + 5)
    _image(made, "app:2")
    made.settle(START + 15)
    _image(made, "app:1")
    made.settle(START + 25)
    sets = {item.object["metadata"]["name"]: item.object for item in made.state.items("replicasets.apps")}
    assert sorted(item["spec"]["replicas"] for item in sets.values()) == [0, 1]
    revision = "deployment.kubernetes.io/revision"
    assert get(made, "deployments.apps", "web")["metadata"]["annotations"][revision] == "3"


def test_old_sets_are_kept_up_to_the_limit() -> None:
    made = cluster()
    body = deployment(replicas=1)
    body["spec"]["revisionHistoryLimit"] = 1
    add(made, body)
    for number in range(2, 6):
        made.settle(START + number * 10)
        _image(made, f"app:{number}")
    made.settle(START + 100)
    assert len(made.state.items("replicasets.apps")) == 2


def test_minimum_ready_time_delays_availability() -> None:
    made = cluster()
    body = deployment(replicas=1)
    body["spec"]["minReadySeconds"] = 10
    add(made, body)
    made.settle(START + 11)
    assert "availableReplicas" not in get(made, "deployments.apps", "web")["status"]
    made.settle(START + 13)
    assert get(made, "deployments.apps", "web")["status"]["availableReplicas"] == 1


def _job(**spec: Any) -> Json:
    annotations = spec.pop("annotations", {})
    pod_spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": spec.pop("image", "app:1")}]}
    template = {"metadata": {"annotations": annotations}, "spec": pod_spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "task"},
        "spec": {"template": template, **spec},
    }


def test_a_job_runs_its_completions_in_parallel() -> None:
    made = cluster()
    add(made, _job(completions=5, parallelism=2))
    made.settle(START + 1)
    assert get(made, "jobs.batch", "task")["status"]["active"] == 2
    made.settle(START + 60)
    status = get(made, "jobs.batch", "task")["status"]
    assert status["succeeded"] == 5
    assert status["completionTime"]
    assert {c["type"] for c in status["conditions"]} == {"SuccessCriteriaMet", "Complete"}


def test_an_indexed_job_completes_every_index() -> None:
    made = cluster()
    add(made, _job(completions=3, parallelism=3, completionMode="Indexed"))
    made.settle(START + 30)
    assert get(made, "jobs.batch", "task")["status"]["completedIndexes"] == "0-2"


def test_a_failing_job_gives_up() -> None:
    made = cluster()
    add(made, _job(backoffLimit=2, image="will-fail:1"))
    made.settle(START + 60)
    job = get(made, "jobs.batch", "task")
    assert condition(job, "Failed")["reason"] == "BackoffLimitExceeded"
    assert job["status"]["failed"] == 3


def test_a_job_ends_at_its_deadline_and_expires() -> None:
    made = cluster()
    annotations = {"simulator.flotilla.dev/run-seconds": "100"}
    add(made, _job(activeDeadlineSeconds=10, ttlSecondsAfterFinished=20, annotations=annotations))
    made.settle(START + 15)
    assert condition(get(made, "jobs.batch", "task"), "Failed")["reason"] == "DeadlineExceeded"
    made.settle(START + 40)
    assert made.state.find("jobs.batch", "default", "task") is None
    assert pods(made) == []


def test_a_suspended_job_waits() -> None:
    made = cluster()
    add(made, _job(suspend=True))
    made.settle(START + 10)
    assert pods(made) == []
    assert condition(get(made, "jobs.batch", "task"), "Suspended")["status"] == "True"
    _change(made, "Job", "task", {"spec": {"suspend": False}})
    made.settle(START + 30)
    assert get(made, "jobs.batch", "task")["status"]["succeeded"] == 1


def test_deleting_a_deployment_leaves_nothing() -> None:
    made = cluster()
    add(made, deployment(replicas=3))
    made.settle(START + 5)
    drop(made, "Deployment", "web", propagation="Background")
    made.settle(START + 10)
    assert made.state.items("replicasets.apps") == []
    assert pods(made) == []


def test_events_are_bounded() -> None:
    made = cluster(NodeGroup(count=4, cpu="64"), event_limit=20)
    add(made, deployment(replicas=30))
    made.settle(START + 10)
    assert len(made.state.items("events")) == 20


def test_a_hub_stores_and_does_nothing() -> None:
    made = cluster(controllers=False)
    add(made, deployment())
    made.settle(START + 10)
    assert get(made, "deployments.apps", "web")["status"] == {}
    assert made.state.items("replicasets.apps") == []
