"""Merge, JSON and strategic merge patches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.kubernetes.client import JSON_PATCH, MERGE, STRATEGIC, Json, Kube
from tests.contract.kubernetes.objects import config_map, workload

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_merge_patch_sets_and_removes(kube: Kube) -> None:
    (await kube.post(kube.path("configmaps"), config_map(data={"a": "1", "b": "1"}))).ok()
    patched = (await kube.patch(kube.path("configmaps", "one"), {"data": {"b": None, "c": "3"}})).ok()
    assert patched["data"] == {"a": "1", "c": "3"}


async def test_a_patch_may_demand_a_version(kube: Kube) -> None:
    made = (await kube.post(kube.path("configmaps"), config_map())).ok()
    path = kube.path("configmaps", "one")
    change = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "1"}}
    (await kube.patch(path, change)).ok()
    (await kube.patch(path, change | {"data": {"x": "2"}})).refused(409, "Conflict")


async def test_json_patch_tests_before_it_changes(kube: Kube) -> None:
    (await kube.post(kube.path("configmaps"), config_map())).ok()
    path = kube.path("configmaps", "one")
    operations = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b", "value": "2"}]
    assert (await kube.patch(path, operations, JSON_PATCH)).ok()["data"] == {"a": "1", "b": "2"}
    operations[0]["value"] = "other"
    (await kube.patch(path, operations, JSON_PATCH)).refused(422, "Invalid")
    missing = [{"op": "remove", "path": "/data/nope"}]
    (await kube.patch(path, missing, JSON_PATCH)).refused(422, "Invalid")


async def test_a_patch_cannot_rename(kube: Kube) -> None:
    (await kube.post(kube.path("configmaps"), config_map())).ok()
    (await kube.patch(kube.path("configmaps", "one"), {"metadata": {"name": "two"}})).refused(400, "BadRequest")


async def test_a_patch_needs_a_known_media_type(kube: Kube) -> None:
    (await kube.post(kube.path("configmaps"), config_map())).ok()
    answer = await kube.patch(kube.path("configmaps", "one"), {}, "application/json")
    answer.refused(415, "UnsupportedMediaType")


def _container(body: Json, name: str) -> Json:
    containers = body["spec"]["template"]["spec"]["containers"]
    found: Json = next(entry for entry in containers if entry["name"] == name)
    return found


async def _strategic(kube: Kube, containers: list[Any], **more: Any) -> Json:
    change = {"spec": {"template": {"spec": {"containers": containers, **more}}}}
    return (await kube.patch(kube.path("apps/v1/deployments", "web"), change, STRATEGIC)).ok()


async def test_strategic_merge_knows_the_keys_of_lists(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=0))).ok()
    env = [{"name": "A", "value": "1"}]
    body = await _strategic(kube, [{"name": "main", "env": env}, {"name": "side", "image": "side:1"}])
    assert _container(body, "main")["image"] == "registry.k8s.io/pause:3.10"
    assert _container(body, "main")["env"] == env
    body = await _strategic(kube, [{"name": "main", "env": [{"name": "B", "value": "2"}]}])
    assert {entry["name"] for entry in _container(body, "main")["env"]} == {"A", "B"}
    body = await _strategic(kube, [{"name": "main", "env": [{"name": "A", "$patch": "delete"}]}])
    assert _container(body, "main")["env"] == [{"name": "B", "value": "2"}]
    body = await _strategic(kube, [{"name": "side", "$patch": "delete"}])
    assert [entry["name"] for entry in body["spec"]["template"]["spec"]["containers"]] == ["main"]


async def test_strategic_merge_orders_and_replaces(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=0))).ok()
    order = [{"name": "side"}, {"name": "main"}]
    body = await _strategic(kube, [{"name": "side", "image": "side:1"}], **{"$setElementOrder/containers": order})
    assert [entry["name"] for entry in body["spec"]["template"]["spec"]["containers"]] == ["side", "main"]
    body = await _strategic(kube, [{"$patch": "replace"}, {"name": "only", "image": "only:1"}])
    assert [entry["name"] for entry in body["spec"]["template"]["spec"]["containers"]] == ["only"]


async def test_merge_patch_replaces_whole_lists(kube: Kube) -> None:
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=0))).ok()
    change = {"spec": {"template": {"spec": {"containers": [{"name": "new", "image": "new:1"}]}}}}
    body = (await kube.patch(kube.path("apps/v1/deployments", "web"), change, MERGE)).ok()
    assert [entry["name"] for entry in body["spec"]["template"]["spec"]["containers"]] == ["new"]
