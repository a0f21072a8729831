"""The real kubectl, as people use it."""

from __future__ import annotations

import json

import pytest

from tests.contract.kubernetes.client import Kube
from tests.contract.kubernetes.conftest import Kubectl
from tests.contract.kubernetes.objects import workload
from tests.testbed.kubectl import KubectlError

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.testbed]

_MANIFEST = json.dumps(workload("Deployment", replicas=2))


async def test_create_get_scale_delete(kubectl: Kubectl) -> None:
    assert await kubectl("create", "-f", "-", stdin=_MANIFEST) == "deployment.apps/web created\n"
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    lines = (await kubectl("get", "deployments")).splitlines()
    assert lines[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert lines[1].split()[:4] == ["web", "2/2", "2", "2"]
    assert await kubectl("scale", "deployment/web", "--replicas=3") == "deployment.apps/web scaled\n"
    await kubectl("wait", "--for=jsonpath={.status.availableReplicas}=3", "deployment/web", "--timeout=30s")
    pods = (await kubectl("get", "pods", "-o", "wide", "--no-headers")).splitlines()
    assert [line.split()[1:3] for line in pods] == [["1/1", "Running"]] * 3
    assert 'deployment.apps "web" deleted' in await kubectl("delete", "deployment", "web", "--wait")


async def test_typed_creation_is_understood(kubectl: Kubectl) -> None:
    created = await kubectl("create", "deployment", "made", "--image=nginx:1.27", "--replicas=1", "--port=80")
    assert created == "deployment.apps/made created\n"
    await kubectl("create", "configmap", "settings", "--from-literal=a=b")
    await kubectl("create", "secret", "generic", "hidden", "--from-literal=a=b")
    await kubectl("create", "job", "once", "--image=busybox", "--", "true")
    image = await kubectl("get", "deployment", "made", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    assert image == "nginx:1.27"
    assert await kubectl("get", "secret", "hidden", "-o", "jsonpath={.data.a}") == "Yg=="
    assert await kubectl("auth", "can-i", "create", "pods") == "yes\n"


async def test_apply_on_either_side(kubectl: Kubectl) -> None:
    assert await kubectl("apply", "-f", "-", stdin=_MANIFEST) == "deployment.apps/web created\n"
    assert await kubectl("apply", "-f", "-", stdin=_MANIFEST) == "deployment.apps/web unchanged\n"
    changed = json.dumps(workload("Deployment", replicas=1))
    assert await kubectl("apply", "-f", "-", stdin=changed) == "deployment.apps/web configured\n"
    server = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    with pytest.raises(KubectlError, match="conflict with") as caught:
        await kubectl(*server, stdin=_MANIFEST)
    assert ".spec.replicas" in str(caught.value)
    assert await kubectl(*server, "--force-conflicts", stdin=_MANIFEST) == "deployment.apps/web serverside-applied\n"


async def test_a_bad_manifest_is_refused_before_anything_is_stored(kubectl: Kubectl) -> None:
    body = workload("Deployment")
    body["spec"]["colour"] = "blue"
    with pytest.raises(KubectlError, match=r'unknown field "spec\.colour"'):
        await kubectl("create", "-f", "-", stdin=json.dumps(body))
    assert await kubectl("get", "deployments", "-o", "name") == ""


async def test_a_kind_that_is_not_served_is_called_so(kubectl: Kubectl) -> None:
    unknown = json.dumps({"apiVersion": "nothing.example/v1", "kind": "Thing", "metadata": {"name": "x"}})
    with pytest.raises(KubectlError, match=r'no matches for kind "Thing" in version "nothing\.example/v1"'):
        await kubectl("create", "-f", "-", stdin=unknown)


async def test_describe_shows_events(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=_MANIFEST)
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    described = await kubectl("describe", "deployment", "web")
    assert "2 desired | 2 updated | 2 total | 2 available | 0 unavailable" in described
    assert "ScalingReplicaSet" in described
    name = await kubectl("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    described = await kubectl("describe", "pod", name)
    assert "Successfully assigned" in described


async def test_labels_images_and_history(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=_MANIFEST)
    assert await kubectl("label", "deployment", "web", "tier=front") == "deployment.apps/web labeled\n"
    assert await kubectl("annotate", "deployment", "web", "note=x") == "deployment.apps/web annotated\n"
    await kubectl("set", "image", "deployment/web", "main=nginx:1.28")
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    history = await kubectl("rollout", "history", "deployment/web")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    await kubectl("rollout", "undo", "deployment/web")
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    image = await kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    assert image == "registry.k8s.io/pause:3.10"
    await kubectl("rollout", "restart", "deployment/web")
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s")


async def test_cordon_and_drain(kubectl: Kubectl, kube: Kube) -> None:
    await kubectl("create", "-f", "-", stdin=_MANIFEST)
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    node = (await kubectl("get", "pods", "-o", "jsonpath={.items[0].spec.nodeName}")).strip()
    try:
        drained = await kubectl(
            "drain", node, "--ignore-daemonsets", "--timeout=60s", "--pod-selector=app=web", "--force"
        )
        assert f"node/{node} drained" in drained
        assert "SchedulingDisabled" in await kubectl("get", "node", node)
        await kubectl("rollout", "status", "deployment/web", "--timeout=30s")
        body = await kube.until(
            kube.path("pods"),
            lambda listed: len([i for i in listed["items"] if i["status"].get("phase") == "Running"]) >= 2,
        )
        running = [item for item in body["items"] if "deletionTimestamp" not in item["metadata"]]
        assert node not in {item["spec"].get("nodeName") for item in running}
    finally:
        assert await kubectl("uncordon", node) == f"node/{node} uncordoned\n"


async def test_discovery_and_explanation(kubectl: Kubectl) -> None:
    names = (await kubectl("api-resources", "--namespaced=true", "-o", "name")).split()
    assert {"pods", "deployments.apps", "jobs.batch", "leases.coordination.k8s.io"} <= set(names)
    assert "deploy" in await kubectl("api-resources", "--api-group=apps")
    explained = await kubectl("explain", "deployment.spec.strategy")
    assert "rollingUpdate" in explained
    assert "Server Version" in await kubectl("version")


async def test_top(kubectl: Kubectl, kube: Kube) -> None:
    await kubectl("create", "-f", "-", stdin=_MANIFEST)
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    path = kube.path("metrics.k8s.io/v1beta1/pods")
    await kube.until(path, lambda body: len(body.get("items", [])) == 2, within=60)
    lines = (await kubectl("top", "pods")).splitlines()
    assert lines[0].split() == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert len(lines) == 3
    assert (await kubectl("top", "nodes")).splitlines()[0].split()[0] == "NAME"
