"""Controllers: what becomes of workloads, of nodes that are cordoned, and of what is deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.kubernetes.client import Json, Kube
from tests.contract.kubernetes.objects import config_map, job, pod, template, workload

pytestmark = pytest.mark.asyncio(loop_scope="session")

_DEPLOYMENTS = "apps/v1/deployments"


def _available(replicas: int) -> Callable[[Json], bool]:
    def holds(body: Json) -> bool:
        status = body.get("status", {})
        settled = status.get("observedGeneration") == body["metadata"]["generation"]
        counts = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas"))
        return settled and all(count == replicas for count in counts)

    return holds


async def _deployed(kube: Kube, replicas: int) -> Json:
    return await kube.until(kube.path(_DEPLOYMENTS, "web"), _available(replicas))


async def _pods(kube: Kube, **query: str) -> list[Json]:
    items: list[Json] = (await kube.get(kube.path("pods"), **query)).ok()["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


async def test_a_deployment_becomes_running_pods(kube: Kube) -> None:
    (await kube.post(kube.path(_DEPLOYMENTS), workload("Deployment", replicas=3))).ok()
    body = await _deployed(kube, 3)
    conditions = {entry["type"]: entry for entry in body["status"]["conditions"]}
    assert conditions["Available"]["status"] == "True"
    assert conditions["Progressing"]["reason"] == "NewReplicaSetAvailable"
    assert body["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    sets = (await kube.get(kube.path("apps/v1/replicasets"))).ok()["items"]
    assert [entry["metadata"]["ownerReferences"][0]["name"] for entry in sets] == ["web"]
    pods = await _pods(kube)
    assert len(pods) == 3
    for found in pods:
        assert found["metadata"]["name"].startswith(f"{sets[0]['metadata']['name']}-")
        assert found["metadata"]["labels"].keys() == {"app", "pod-template-hash"}
        assert found["metadata"]["ownerReferences"][0]["uid"] == sets[0]["metadata"]["uid"]
        assert found["spec"]["nodeName"]
        status = found["status"]
        assert status["phase"] == "Running"
        assert status["podIP"]
        assert status["startTime"]
        ready = {entry["type"]: entry["status"] for entry in status["conditions"]}
        assert ready["Ready"] == ready["PodScheduled"] == ready["ContainersReady"] == "True"
        container = status["containerStatuses"][0]
        assert container["ready"] is True
        assert "running" in container["state"]


async def test_a_new_template_rolls_out_and_scaling_follows(kube: Kube) -> None:
    (await kube.post(kube.path(_DEPLOYMENTS), workload("Deployment", replicas=2))).ok()
    await _deployed(kube, 2)
    old = {item["metadata"]["uid"] for item in await _pods(kube)}
    change = {"spec": {"template": template("web", terminationGracePeriodSeconds=1)}}
    (await kube.patch(kube.path(_DEPLOYMENTS, "web"), change)).ok()
    body = await _deployed(kube, 2)
    assert body["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert old.isdisjoint({item["metadata"]["uid"] for item in await _pods(kube)})
    (await kube.patch(kube.path(_DEPLOYMENTS, "web", "scale"), {"spec": {"replicas": 4}})).ok()
    await _deployed(kube, 4)
    (await kube.patch(kube.path(_DEPLOYMENTS, "web", "scale"), {"spec": {"replicas": 1}})).ok()
    await _deployed(kube, 1)


async def test_deleting_an_owner_deletes_what_it_owns(kube: Kube) -> None:
    (await kube.post(kube.path(_DEPLOYMENTS), workload("Deployment", replicas=2))).ok()
    await _deployed(kube, 2)
    (await kube.delete(kube.path(_DEPLOYMENTS, "web"))).ok()
    await kube.until(kube.path("apps/v1/replicasets"), lambda body: not body["items"])
    await kube.until(kube.path("pods"), lambda body: not body["items"])


async def test_orphans_stay(kube: Kube) -> None:
    (await kube.post(kube.path(_DEPLOYMENTS), workload("Deployment", replicas=1))).ok()
    await _deployed(kube, 1)
    (await kube.delete(kube.path(_DEPLOYMENTS, "web"), {"propagationPolicy": "Orphan"})).ok()
    await kube.until(kube.path(_DEPLOYMENTS), lambda body: not body["items"])
    sets = (await kube.get(kube.path("apps/v1/replicasets"))).ok()["items"]
    assert len(sets) == 1
    assert "ownerReferences" not in sets[0]["metadata"]


async def test_foreground_deletion_waits_for_dependents(kube: Kube) -> None:
    (await kube.post(kube.path(_DEPLOYMENTS), workload("Deployment", replicas=1))).ok()
    await _deployed(kube, 1)
    held = (await kube.delete(kube.path(_DEPLOYMENTS, "web"), {"propagationPolicy": "Foreground"})).ok()
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]
    await kube.until(kube.path(_DEPLOYMENTS, "web"), lambda body: body.get("code") == 404)
    assert (await kube.get(kube.path("apps/v1/replicasets"))).ok()["items"] == []


async def test_a_dependent_of_nobody_is_collected(kube: Kube) -> None:
    owner = (await kube.post(kube.path("configmaps"), config_map("owner"))).ok()
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    (await kube.post(kube.path("configmaps"), config_map("owned", ownerReferences=[reference]))).ok()
    (await kube.delete(kube.path("configmaps", "owner"))).ok()
    await kube.until(kube.path("configmaps", "owned"), lambda body: body.get("code") == 404)


async def test_a_pod_that_fits_nowhere_says_why_and_fits_later(kube: Kube) -> None:
    (await kube.post(kube.path("pods"), pod("picky", nodeSelector={kube.namespace: "yes"}))).ok()

    def refused(body: Json) -> bool:
        found = {entry["type"]: entry for entry in body.get("status", {}).get("conditions", [])}
        return bool(found.get("PodScheduled", {}).get("reason") == "Unschedulable")

    path = kube.path("pods", "picky")
    body = await kube.until(path, refused)
    message = next(entry["message"] for entry in body["status"]["conditions"] if entry["type"] == "PodScheduled")
    nodes = (await kube.get("/api/v1/nodes")).ok()["items"]
    assert message.startswith(
        f"0/{len(nodes)} nodes are available: {len(nodes)} node(s) didn't match Pod's node affinity/selector."
    )
    name = nodes[0]["metadata"]["name"]
    label = {"metadata": {"labels": {kube.namespace: "yes"}}}
    (await kube.patch(f"/api/v1/nodes/{name}", label)).ok()
    try:
        running = await kube.until(path, lambda body: body["status"].get("phase") == "Running")
        assert running["spec"]["nodeName"] == name
    finally:
        (await kube.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {kube.namespace: None}}})).ok()


async def test_too_large_a_pod_names_the_resource(kube: Kube) -> None:
    body = pod("huge")
    body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "5000"}}
    (await kube.post(kube.path("pods"), body)).ok()

    def message(found: Json) -> str:
        conditions = found.get("status", {}).get("conditions", [])
        return "".join(c.get("message", "") for c in conditions if c["type"] == "PodScheduled")

    await kube.until(kube.path("pods", "huge"), lambda found: "Insufficient cpu" in message(found))


async def test_a_stateful_set_has_an_order(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/statefulsets"), workload("StatefulSet", serviceName="web"))).ok()
    path = kube.path("apps/v1/statefulsets", "web")
    body = await kube.until(path, lambda body: body.get("status", {}).get("readyReplicas") == 2)
    assert body["status"]["currentRevision"] == body["status"]["updateRevision"]
    pods = {item["metadata"]["name"]: item for item in await _pods(kube)}
    assert set(pods) == {"web-0", "web-1"}
    assert pods["web-0"]["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"
    first, second = (pods[name]["metadata"]["creationTimestamp"] for name in ("web-0", "web-1"))
    assert first <= second
    (await kube.patch(path, {"spec": {"replicas": 1}})).ok()
    await kube.until(kube.path("pods"), lambda listed: [i["metadata"]["name"] for i in listed["items"]] == ["web-0"])


async def test_a_daemon_set_runs_on_every_node(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/daemonsets"), workload("DaemonSet", replicas=None))).ok()
    nodes = {item["metadata"]["name"] for item in (await kube.get("/api/v1/nodes")).ok()["items"]}
    path = kube.path("apps/v1/daemonsets", "web")
    await kube.until(path, lambda body: body.get("status", {}).get("numberAvailable") == len(nodes))
    assert {item["spec"]["nodeName"] for item in await _pods(kube)} == nodes


async def test_a_job_completes(kube: Kube) -> None:
    made = (await kube.post(kube.path("batch/v1/jobs"), job(completions=2, parallelism=2))).ok()
    assert made["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": made["metadata"]["uid"]}
    await kube.until(kube.path("pods"), lambda body: len(body["items"]) == 2)
    assert {item["metadata"]["labels"]["job-name"] for item in await _pods(kube)} == {"task"}


async def test_a_namespace_takes_its_content_with_it(kube: Kube) -> None:
    name = f"{kube.namespace}-inner"
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    (await kube.post("/api/v1/namespaces", space)).ok()
    path = kube.path("configmaps", namespace=name)
    (await kube.post(path, config_map())).ok()
    held = (await kube.delete(f"/api/v1/namespaces/{name}")).ok()
    assert held["status"]["phase"] == "Terminating"
    late = await kube.post(path, config_map("late"))
    assert late.status in {403, 404}
    await kube.until(f"/api/v1/namespaces/{name}", lambda body: body.get("code") == 404, within=60)
    assert (await kube.get(path)).ok()["items"] == []


async def test_metrics_of_nodes_and_pods(kube: Kube) -> None:
    (await kube.post(kube.path("pods"), pod("busy"))).ok()
    await kube.until(kube.path("pods", "busy"), lambda body: body["status"].get("phase") == "Running")
    path = kube.path("metrics.k8s.io/v1beta1/pods")
    body = await kube.until(path, lambda body: body.get("items"), within=60)
    assert body["kind"] == "PodMetricsList"
    container = body["items"][0]["containers"][0]
    assert container["name"] == "main"
    assert container["usage"].keys() == {"cpu", "memory"}
    nodes = (await kube.get("/apis/metrics.k8s.io/v1beta1/nodes")).ok()
    assert nodes["kind"] == "NodeMetricsList"
    assert {"cpu", "memory"} <= nodes["items"][0]["usage"].keys()
