"""Status, scale, binding, eviction."""

from __future__ import annotations

import pytest

from tests.contract.kubernetes.client import Json, Kube
from tests.contract.kubernetes.objects import pod, workload

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_status_is_written_only_through_its_subresource(kube: Kube) -> None:
    await kube.post(kube.path("pods"), pod("held", schedulerName="nobody"))
    path, status_path = kube.path("pods", "held"), kube.path("pods", "held", "status")
    beside = (await kube.patch(path, {"status": {"message": "no"}, "metadata": {"labels": {"x": "y"}}})).ok()
    assert beside["metadata"]["labels"]["x"] == "y"
    assert "message" not in beside["status"]
    through = (await kube.patch(status_path, {"status": {"message": "yes"}})).ok()
    assert through["status"]["message"] == "yes"


async def test_scale_reads_and_writes_replicas(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=2))).ok()
    path = kube.path("apps/v1/deployments", "web", "scale")
    scale = (await kube.get(path)).ok()
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"]["selector"] == "app=web"
    scale["spec"]["replicas"] = 0
    del scale["metadata"]["resourceVersion"]
    assert (await kube.put(path, scale)).ok()["spec"] == {}
    assert (await kube.get(kube.path("apps/v1/deployments", "web"))).ok()["spec"]["replicas"] == 0
    (await kube.patch(path, {"spec": {"replicas": -1}})).refused(422, "Invalid")


async def test_a_pod_is_bound_once(kube: Kube) -> None:
    (await kube.post(kube.path("pods"), pod("held", schedulerName="nobody"))).ok()
    nodes = (await kube.get("/api/v1/nodes")).ok()["items"]
    first, second = (node["metadata"]["name"] for node in nodes[:2])

    def binding(node: str) -> Json:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "held"}, "target": target}

    path = kube.path("pods", "held", "binding")
    answer = await kube.post(path, binding(first))
    assert (answer.status, answer.ok()["status"]) == (201, "Success")
    bound = (await kube.get(kube.path("pods", "held"))).ok()
    assert bound["spec"]["nodeName"] == first
    assert {"PodScheduled": "True"}.items() <= {c["type"]: c["status"] for c in bound["status"]["conditions"]}.items()
    status = (await kube.post(path, binding(second))).refused(409, "Conflict")
    assert status["message"].endswith(f'pod held is already assigned to node "{first}"')
    running = await kube.until(kube.path("pods", "held"), lambda body: body["status"].get("phase") == "Running")
    assert running["status"]["podIP"]
    (await kube.post(kube.path("pods", "none", "binding"), binding(first))).refused(400, "BadRequest")


async def test_eviction_respects_the_budget(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=2))).ok()
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    }
    (await kube.post(kube.path("policy/v1/poddisruptionbudgets"), budget)).ok()
    path = kube.path("policy/v1/poddisruptionbudgets", "keep")
    await kube.until(path, lambda body: body.get("status", {}).get("currentHealthy") == 2)
    name = (await kube.get(kube.path("pods"))).ok()["items"][0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    refused = (await kube.post(kube.path("pods", name, "eviction"), eviction)).refused(429, "TooManyRequests")
    assert refused["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused["details"]["causes"][0]["reason"] == "DisruptionBudget"
    (await kube.patch(path, {"spec": {"minAvailable": 1}})).ok()
    await kube.until(path, lambda body: body["status"]["disruptionsAllowed"] == 1)
    answer = await kube.post(kube.path("pods", name, "eviction"), eviction)
    assert (answer.status, answer.ok()["status"]) == (201, "Success")


async def test_a_subresource_that_is_not_there(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=0))).ok()
    (await kube.get(kube.path("apps/v1/deployments", "web", "nothing"))).refused(404, "NotFound")
