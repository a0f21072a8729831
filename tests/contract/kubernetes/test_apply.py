"""Server-side apply: ownership, conflicts, force, and the removal of what is no longer sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.kubernetes.client import Answer, Json, Kube
from tests.contract.kubernetes.objects import workload

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _config(data: Json, **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", **metadata}, "data": data}


async def _apply(kube: Kube, manager: str, data: Json, **query: Any) -> Answer:
    return await kube.apply(kube.path("configmaps", "one"), _config(data), manager, **query)


def _owned(body: Json) -> dict[tuple[str, str], Json]:
    entries = body["metadata"].get("managedFields", [])
    return {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in entries}


async def test_apply_creates_and_owns_what_it_sends(kube: Kube) -> None:
    answer = await _apply(kube, "alpha", {"a": "1"})
    assert answer.status == 201
    assert _owned(answer.ok()) == {("alpha", "Apply"): {"f:data": {"f:a": {}}}}
    again = await _apply(kube, "alpha", {"a": "1"})
    assert again.status == 200
    assert again.ok()["metadata"]["resourceVersion"] == answer.ok()["metadata"]["resourceVersion"]


async def test_what_is_no_longer_sent_is_removed(kube: Kube) -> None:
    (await _apply(kube, "alpha", {"a": "1", "b": "1"})).ok()
    assert (await _apply(kube, "alpha", {"b": "2"})).ok()["data"] == {"b": "2"}


async def test_what_another_owns_too_stays(kube: Kube) -> None:
    (await _apply(kube, "alpha", {"a": "1", "b": "1"})).ok()
    (await _apply(kube, "beta", {"a": "1"})).ok()
    body = (await _apply(kube, "alpha", {"b": "1"})).ok()
    assert body["data"] == {"a": "1", "b": "1"}
    assert _owned(body) == {
        ("alpha", "Apply"): {"f:data": {"f:b": {}}},
        ("beta", "Apply"): {"f:data": {"f:a": {}}},
    }


async def test_a_value_of_another_is_a_conflict(kube: Kube) -> None:
    (await _apply(kube, "alpha", {"a": "1", "b": "1"})).ok()
    status = (await _apply(kube, "beta", {"a": "2"})).refused(409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "alpha": .data.a'
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "alpha"', "field": ".data.a"}
    assert status["details"]["causes"] == [cause]
    both = (await _apply(kube, "beta", {"a": "2", "b": "2"})).refused(409, "Conflict")
    assert both["message"] == 'Apply failed with 2 conflicts: conflicts with "alpha":\n- .data.a\n- .data.b'


async def test_force_takes_the_field(kube: Kube) -> None:
    (await _apply(kube, "alpha", {"a": "1", "b": "1"})).ok()
    body = (await _apply(kube, "beta", {"a": "2"}, force=True)).ok()
    assert body["data"] == {"a": "2", "b": "1"}
    assert _owned(body)["alpha", "Apply"] == {"f:data": {"f:b": {}}}


async def test_an_update_owns_what_it_changes(kube: Kube) -> None:
    (await _apply(kube, "alpha", {"a": "1"})).ok()
    body = (await kube.patch(kube.path("configmaps", "one"), {"data": {"a": "2"}}, agent="somebody/1.0")).ok()
    assert _owned(body)["somebody", "Update"] == {"f:data": {"f:a": {}}}
    assert ("alpha", "Apply") not in _owned(body)
    status = (await _apply(kube, "alpha", {"a": "1"})).refused(409, "Conflict")
    assert status["details"]["causes"][0]["message"] == 'conflict with "somebody" using v1'


async def test_apply_needs_a_manager_and_a_type(kube: Kube) -> None:
    path = kube.path("configmaps", "one")
    content = "application/apply-patch+yaml"
    status = (await kube.patch(path, _config({"a": "1"}), content)).refused(422, "Invalid")
    assert "fieldManager: Required value: is required for apply patch" in status["message"]
    (await kube.apply(path, {"metadata": {"name": "one"}}, "alpha")).refused(400, "BadRequest")
    other = _config({"a": "1"}) | {"metadata": {"name": "two"}}
    (await kube.apply(path, other, "alpha")).refused(400, "BadRequest")


async def test_yaml_is_applied(kube: Kube) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\ndata:\n  a: 'yes'\n"
    assert (await kube.apply(kube.path("configmaps", "one"), text, "alpha")).ok()["data"] == {"a": "yes"}


def _deployment(containers: list[Json], **spec: Any) -> Json:
    body = workload("Deployment", replicas=None)
    body["spec"] |= spec
    body["spec"]["template"]["spec"]["containers"] = containers
    return body


async def test_elements_of_lists_are_owned_one_by_one(kube: Kube) -> None:
    path = kube.path("apps/v1/deployments", "web")
    main, side = {"name": "main", "image": "main:1"}, {"name": "side", "image": "side:1"}
    (await kube.apply(path, _deployment([main], replicas=0), "alpha")).ok()
    added = (await kube.apply(path, _deployment([side]), "beta")).ok()
    assert [entry["name"] for entry in added["spec"]["template"]["spec"]["containers"]] == ["main", "side"]
    main_env = {**main, "env": [{"name": "A", "value": "1"}]}
    (await kube.apply(path, _deployment([main_env], replicas=0), "alpha")).ok()
    gone = (await kube.apply(path, _deployment([main], replicas=0), "alpha")).ok()
    kept = {entry["name"]: entry for entry in gone["spec"]["template"]["spec"]["containers"]}
    assert set(kept) == {"main", "side"}
    assert "env" not in kept["main"]


async def test_a_field_given_up_returns_to_its_default(kube: Kube) -> None:
    path = kube.path("apps/v1/deployments", "web")
    containers = [{"name": "main", "image": "main:1"}]
    (await kube.apply(path, _deployment(containers, replicas=0, minReadySeconds=7), "alpha")).ok()
    body = (await kube.apply(path, _deployment(containers), "alpha")).ok()
    assert body["spec"]["replicas"] == 1
    assert "minReadySeconds" not in body["spec"]


async def test_scaling_takes_the_replicas_from_the_applier(kube: Kube) -> None:
    path = kube.path("apps/v1/deployments", "web")
    containers = [{"name": "main", "image": "main:1"}]
    (await kube.apply(path, _deployment(containers, replicas=0), "alpha")).ok()
    scale = kube.path("apps/v1/deployments", "web", "scale")
    (await kube.patch(scale, {"spec": {"replicas": 1}}, agent="scaler/1")).ok()
    status = (await kube.apply(path, _deployment(containers, replicas=0), "alpha")).refused(409, "Conflict")
    assert status["details"]["causes"][0]["field"] == ".spec.replicas"
    assert (await kube.apply(path, _deployment(containers, replicas=0), "alpha", force=True)).ok()["spec"][
        "replicas"
    ] == 0
