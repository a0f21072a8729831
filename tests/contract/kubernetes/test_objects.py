"""Create, read, replace, delete: identities, versions, refusals."""

from __future__ import annotations

import pytest

from tests.contract.kubernetes.client import Kube
from tests.contract.kubernetes.objects import config_map, pod, workload

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_created_object_has_an_identity(kube: Kube) -> None:
    answer = await kube.post(kube.path("configmaps"), config_map())
    made = answer.ok()
    assert answer.status == 201
    assert (made["apiVersion"], made["kind"], made["data"]) == ("v1", "ConfigMap", {"a": "1"})
    meta = made["metadata"]
    assert meta["namespace"] == kube.namespace
    assert len(meta["uid"]) == 36
    assert int(meta["resourceVersion"]) > 0
    assert meta["creationTimestamp"].endswith("Z")
    assert (await kube.get(kube.path("configmaps", "one"))).ok() == made


async def test_an_existing_name_is_refused(kube: Kube) -> None:
    await kube.post(kube.path("configmaps"), config_map())
    status = (await kube.post(kube.path("configmaps"), config_map())).refused(409, "AlreadyExists")
    assert status["message"] == 'configmaps "one" already exists'
    assert status["details"] == {"name": "one", "kind": "configmaps"}


async def test_a_missing_object_is_named_with_its_group(kube: Kube) -> None:
    status = (await kube.get(kube.path("apps/v1/deployments", "none"))).refused(404, "NotFound")
    assert status["message"] == 'deployments.apps "none" not found'
    assert status["details"] == {"name": "none", "group": "apps", "kind": "deployments"}


async def test_a_missing_namespace_is_the_reason_for_refusal(kube: Kube) -> None:
    path = kube.path("configmaps", namespace="nowhere")
    status = (await kube.post(path, config_map())).refused(404, "NotFound")
    assert status["message"] == 'namespaces "nowhere" not found'
    assert (await kube.get(path)).ok()["items"] == []


async def test_generated_names_differ(kube: Kube) -> None:
    body = config_map()
    body["metadata"] = {"generateName": "made-"}
    names = {(await kube.post(kube.path("configmaps"), body)).ok()["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == 10 for name in names)


async def test_dry_run_stores_nothing(kube: Kube) -> None:
    made = (await kube.post(kube.path("configmaps"), config_map(), dryRun="All")).ok()
    assert made["metadata"]["uid"]
    (await kube.get(kube.path("configmaps", "one"))).refused(404, "NotFound")


async def test_replacing_an_old_version_is_a_conflict(kube: Kube) -> None:
    first = (await kube.post(kube.path("configmaps"), config_map())).ok()
    second = (await kube.put(kube.path("configmaps", "one"), first | {"data": {"a": "2"}})).ok()
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    status = (await kube.put(kube.path("configmaps", "one"), first | {"data": {"a": "3"}})).refused(409, "Conflict")
    assert status["message"] == (
        'Operation cannot be fulfilled on configmaps "one": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert (await kube.get(kube.path("configmaps", "one"))).ok()["data"] == {"a": "2"}


async def test_replacing_without_a_version_is_unconditional(kube: Kube) -> None:
    await kube.post(kube.path("configmaps"), config_map())
    changed = (await kube.put(kube.path("configmaps", "one"), config_map(data={"b": "1"}))).ok()
    assert changed["data"] == {"b": "1"}


async def test_a_write_that_changes_nothing_keeps_the_version(kube: Kube) -> None:
    first = (await kube.post(kube.path("configmaps"), config_map())).ok()
    again = (await kube.put(kube.path("configmaps", "one"), first)).ok()
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_generation_counts_changes_of_what_is_desired(kube: Kube) -> None:
    path = kube.path("apps/v1/deployments", "web")
    made = (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=0))).ok()
    assert made["metadata"]["generation"] == 1
    labelled = (await kube.patch(path, {"metadata": {"labels": {"x": "y"}}})).ok()
    assert labelled["metadata"]["generation"] == 1
    changed = (await kube.patch(path, {"spec": {"minReadySeconds": 1}})).ok()
    assert changed["metadata"]["generation"] == 2


async def test_names_and_labels_are_checked_in_words(kube: Kube) -> None:
    status = (await kube.post(kube.path("configmaps"), config_map("Bad_Name"))).refused(422, "Invalid")
    assert status["message"].startswith('ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": ')
    assert "a lowercase RFC 1123 subdomain must consist of" in status["message"]
    cause = status["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "metadata.name")
    wrong = config_map(labels={"fine": "not fine"})
    status = (await kube.post(kube.path("configmaps"), wrong)).refused(422, "Invalid")
    assert status["details"]["causes"][0]["field"] == "metadata.labels"


async def test_required_fields_and_wrong_types_are_named(kube: Kube) -> None:
    nameless = pod()
    nameless["spec"]["containers"] = [{"name": "main"}]
    status = (await kube.post(kube.path("pods"), nameless)).refused(422, "Invalid")
    assert status["message"] == 'Pod "one" is invalid: spec.containers[0].image: Required value'
    mistyped = workload("Deployment", replicas=0)
    mistyped["spec"]["replicas"] = "many"
    status = (await kube.post(kube.path("apps/v1/deployments"), mistyped)).refused(400, "BadRequest")
    assert (
        "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32" in status["message"]
    )
    negative = workload("Deployment", replicas=-1)
    status = (await kube.post(kube.path("apps/v1/deployments"), negative)).refused(422, "Invalid")
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in status["message"]


async def test_unknown_fields_warn_or_are_refused(kube: Kube) -> None:
    body = workload("Deployment", replicas=0, colour="blue")
    answer = await kube.post(kube.path("apps/v1/deployments"), body, dryRun="All")
    assert "colour" not in answer.ok()["spec"]
    assert 'unknown field \\"spec.colour\\"' in answer.headers["Warning"]
    strict = await kube.post(kube.path("apps/v1/deployments"), body, fieldValidation="Strict")
    message = strict.refused(400, "BadRequest")["message"]
    assert message.endswith('strict decoding error: unknown field "spec.colour"')


async def test_quantities_take_their_canonical_form(kube: Kube) -> None:
    body = pod()
    body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": 0.5, "memory": "1024Mi"}}
    made = (await kube.post(kube.path("pods"), body, dryRun="All")).ok()
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}


async def test_deleting_answers_with_a_status_and_respects_preconditions(kube: Kube) -> None:
    made = (await kube.post(kube.path("configmaps"), config_map())).ok()
    wrong = {"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}}
    (await kube.delete(kube.path("configmaps", "one"), wrong)).refused(409, "Conflict")
    status = (await kube.delete(kube.path("configmaps", "one"))).ok()
    assert status["status"] == "Success"
    assert status["details"] == {"name": "one", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    (await kube.delete(kube.path("configmaps", "one"))).refused(404, "NotFound")


async def test_finalizers_hold_a_deleted_object(kube: Kube) -> None:
    path = kube.path("configmaps", "one")
    await kube.post(kube.path("configmaps"), config_map(finalizers=["flotilla.dev/test"]))
    held = (await kube.delete(path)).ok()
    assert held["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["flotilla.dev/test", "flotilla.dev/other"]}}
    (await kube.patch(path, more)).refused(422, "Invalid")
    (await kube.patch(path, {"metadata": {"finalizers": None}})).ok()
    (await kube.get(path)).refused(404, "NotFound")


async def test_a_collection_is_deleted_by_selector(kube: Kube) -> None:
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        await kube.post(kube.path("configmaps"), config_map(name, labels={"colour": colour}))
    deleted = (await kube.delete(kube.path("configmaps"), labelSelector="colour=red")).ok()
    assert {item["metadata"]["name"] for item in deleted["items"]} == {"a", "b"}
    left = (await kube.get(kube.path("configmaps"), labelSelector="colour")).ok()
    assert [item["metadata"]["name"] for item in left["items"]] == ["c"]


async def test_immutable_fields_are_named(kube: Kube) -> None:
    await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=0))
    path = kube.path("apps/v1/deployments", "web")
    change = {"spec": {"selector": {"matchLabels": {"other": "x"}}}}
    status = (await kube.patch(path, change)).refused(422, "Invalid")
    assert any(c["field"] == "spec.selector" and "immutable" in c["message"] for c in status["details"]["causes"])
