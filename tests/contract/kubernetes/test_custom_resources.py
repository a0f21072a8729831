"""Custom resources: definition, pruning, defaults, validation, columns, status and scale, removal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from tests.contract.kubernetes.client import TABLE, Json, Kube, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

_numbers = count(1)


def _schema() -> Json:
    container = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "image": {"type": "string"}},
    }
    spec = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 9},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
            "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
            "port": {"x-kubernetes-int-or-string": True},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "parts": {
                "type": "array",
                "items": container,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        },
        "x-kubernetes-validations": [
            {"rule": "!has(self.parts) || self.parts.all(p, p.name.size() <= 5)", "message": "parts have short names"}
        ],
    }
    status = {"type": "object", "properties": {"size": {"type": "integer"}, "phase": {"type": "string"}}}
    return {"type": "object", "properties": {"spec": spec, "status": status}}


def _definition(group: str) -> Json:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema()},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
            {"name": "Part", "type": "string", "jsonPath": '.spec.parts[?(@.name=="a")].image', "priority": 1},
        ],
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


class Widgets:
    def __init__(self, kube: Kube, group: str) -> None:
        self.kube = kube
        self.group = group
        self.resource = f"{group}/v1/widgets"

    def body(self, name: str = "one", **spec: Any) -> Json:
        described = {"size": 1, **spec}
        return {"apiVersion": f"{self.group}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": described}

    def path(self, *parts: str) -> str:
        return self.kube.path(self.resource, *parts)

    async def create(self, **spec: Any) -> Json:
        return (await self.kube.post(self.path(), self.body(**spec))).ok()

    async def refused(self, **spec: Any) -> Json:
        return (await self.kube.post(self.path(), self.body(**spec))).refused(422, "Invalid")


_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest_asyncio.fixture(loop_scope="session")
async def widgets(kube: Kube) -> AsyncIterator[Widgets]:
    """A definition of its own, established and served."""
    group = f"n{next(_numbers)}.flotilla.test"
    made = (await kube.post(_CRDS, _definition(group))).ok()
    path = f"{_CRDS}/{made['metadata']['name']}"
    established = {"type": "Established", "status": "True"}
    await kube.until(
        path,
        lambda body: any(established.items() <= c.items() for c in body["status"].get("conditions") or []),
    )
    found = Widgets(kube, group)
    await kube.until(found.path(), lambda body: body.get("kind") == "WidgetList")
    yield found
    (await kube.delete(path)).ok()


async def test_a_custom_object_is_pruned_and_defaulted(widgets: Widgets) -> None:
    made = await widgets.create(unknown=1, free={"anything": {"goes": True}}, port="http", labels={"a": "b"})
    assert made["spec"] == {
        "size": 1,
        "colour": "red",
        "free": {"anything": {"goes": True}},
        "port": "http",
        "labels": {"a": "b"},
    }
    assert made["metadata"]["generation"] == 1
    listed = (await widgets.kube.get(widgets.path())).ok()
    assert listed["kind"] == "WidgetList"
    assert listed["items"][0]["kind"] == "Widget"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"size": 10}, "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"),
        ({"size": "x"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"colour": "green"}, 'spec.colour: Unsupported value: "green": supported values: "red", "blue"'),
        ({"code": "A"}, "spec.code: Invalid value: \"A\": spec.code in body should match '^[a-z]+$'"),
        ({"code": "abcdef"}, "spec.code: Too long: may not be more than 5 bytes"),
        ({"parts": [{"image": "x"}]}, "spec.parts[0].name: Required value"),
        ({"parts": [{"name": "a"}, {"name": "a"}]}, 'spec.parts[1]: Duplicate value: {"name":"a"}'),
        ({"parts": [{"name": "too-long"}]}, "parts have short names"),
    ],
)
async def test_the_schema_is_enforced_in_words(widgets: Widgets, spec: Json, message: str) -> None:
    assert message in (await widgets.refused(**spec))["message"]


async def test_required_fields_of_custom_objects(widgets: Widgets) -> None:
    body = widgets.body()
    body["spec"] = {}
    status = (await widgets.kube.post(widgets.path(), body)).refused(422, "Invalid")
    assert status["message"].startswith(f'Widget.{widgets.group} "one" is invalid: ')
    assert "spec.size: Required value" in status["message"]
    assert "some validation rules were not checked" in status["message"]
    assert status["details"]["kind"] == "Widget"


async def test_status_and_generation_are_separate(widgets: Widgets) -> None:
    await widgets.create()
    path = widgets.path("one", "status")
    body = (await widgets.kube.patch(path, {"status": {"phase": "Up"}, "spec": {"size": 5}})).ok()
    assert (body["status"], body["spec"]["size"], body["metadata"]["generation"]) == ({"phase": "Up"}, 1, 1)
    beside = (await widgets.kube.patch(widgets.path("one"), {"status": {"phase": "No"}, "spec": {"size": 2}})).ok()
    assert (beside["status"], beside["metadata"]["generation"]) == ({"phase": "Up"}, 2)


async def test_a_custom_object_is_scaled(widgets: Widgets) -> None:
    await widgets.create()
    scale = (await widgets.kube.patch(widgets.path("one", "scale"), {"spec": {"replicas": 4}})).ok()
    assert scale["spec"] == {"replicas": 4}
    assert "selector" not in scale["status"], "the definition names no place for one"
    assert (await widgets.kube.get(widgets.path("one"))).ok()["spec"]["size"] == 4


async def test_printer_columns(widgets: Widgets) -> None:
    await widgets.create(parts=[{"name": "a", "image": "x"}])
    table = (await widgets.kube.get(widgets.path(), accept=TABLE)).ok()
    columns = [(column["name"], column["type"], column["priority"]) for column in table["columnDefinitions"]]
    assert columns == [("Name", "string", 0), ("Size", "integer", 0), ("Phase", "string", 0), ("Part", "string", 1)]
    assert table["rows"][0]["cells"] == ["one", 1, None, "x"]


async def test_an_update_needs_the_version(widgets: Widgets) -> None:
    made = await widgets.create()
    del made["metadata"]["resourceVersion"]
    status = (await widgets.kube.put(widgets.path("one"), made)).refused(422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in status["message"]


async def test_lists_of_custom_objects_merge_by_key(widgets: Widgets) -> None:
    first = widgets.body(parts=[{"name": "a", "image": "1"}])
    second = widgets.body(parts=[{"name": "b", "image": "2"}])
    del second["spec"]["size"]
    (await widgets.kube.apply(widgets.path("one"), first, "alpha")).ok()
    status = (
        await widgets.kube.apply(widgets.path("one"), second | {"spec": {**second["spec"], "size": 1}}, "beta")
    ).ok()
    assert [part["name"] for part in status["spec"]["parts"]] == ["a", "b"]
    first["spec"]["parts"] = []
    gone = (await widgets.kube.apply(widgets.path("one"), first, "alpha")).ok()
    assert [part["name"] for part in gone["spec"]["parts"]] == ["b"]


async def test_custom_objects_are_watched_and_discovered(widgets: Widgets) -> None:
    listed = (await widgets.kube.get(f"/apis/{widgets.group}/v1")).ok()
    found = {entry["name"]: entry for entry in listed["resources"]}
    assert set(found) == {"widgets", "widgets/status", "widgets/scale"}
    assert found["widgets"]["shortNames"] == ["wg"]
    version = (await widgets.kube.get(widgets.path())).ok()["metadata"]["resourceVersion"]
    async with widgets.kube.watch(widgets.path(), resourceVersion=version) as watch:
        await widgets.create()
        assert (await watch.seen("ADDED", "one"))["object"]["spec"]["size"] == 1


async def test_a_definition_that_is_served_can_be_changed(widgets: Widgets) -> None:
    path = f"{_CRDS}/widgets.{widgets.group}"
    assert "finalizers" not in (await widgets.kube.get(path)).ok()["metadata"]
    applied = _definition(widgets.group)
    column = {"name": "Colour", "type": "string", "jsonPath": ".spec.colour"}
    applied["spec"]["versions"][0]["additionalPrinterColumns"] = [column]
    (await widgets.kube.apply(path, applied, "installer", force=True)).ok()
    replaced = (await widgets.kube.get(path)).ok()
    replaced["metadata"]["labels"] = {"x": "y"}
    (await widgets.kube.put(path, replaced)).ok()
    await widgets.create()

    async def columns() -> list[str]:
        table = (await widgets.kube.get(widgets.path(), accept=TABLE)).ok()
        return [entry["name"] for entry in table["columnDefinitions"]]

    await until(columns, lambda names: names == ["Name", "Colour"])


async def test_custom_objects_may_have_short_finalizers(widgets: Widgets) -> None:
    await widgets.create()
    held = (await widgets.kube.patch(widgets.path("one"), {"metadata": {"finalizers": ["short"]}})).ok()
    assert held["metadata"]["finalizers"] == ["short"]
    (await widgets.kube.patch(widgets.path("one"), {"metadata": {"finalizers": None}})).ok()


async def test_objects_go_with_their_definition(kube: Kube) -> None:
    group = f"n{next(_numbers)}.flotilla.test"
    (await kube.post(_CRDS, _definition(group))).ok()
    found = Widgets(kube, group)
    await kube.until(found.path(), lambda body: body.get("kind") == "WidgetList")
    await found.create()
    path = f"{_CRDS}/widgets.{group}"
    (await kube.delete(path)).ok()
    await kube.until(path, lambda body: body.get("code") == 404)
    await until(lambda: kube.get(found.path()), lambda answer: answer.status == 404)


async def test_a_protected_group_needs_approval(kube: Kube) -> None:
    status = (await kube.post(_CRDS, _definition("test.k8s.io"), dryRun="All")).refused(422, "Invalid")
    assert "metadata.annotations[api-approved.kubernetes.io]" in status["message"]


async def test_strict_validation_of_custom_objects(widgets: Widgets) -> None:
    body = widgets.body(unknown=1)
    status = (await widgets.kube.post(widgets.path(), body, fieldValidation="Strict")).refused(400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.unknown"' in status["message"]
