"""The definitions are made from the models, are structural, and are what is checked in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from services.hub import crds
from services.hub.__main__ import generate
from services.hub.decision.resources import (
    ClusterSpec,
    ClusterStatusView,
    ConditionView,
    WorkloadSpec,
    WorkloadStatusView,
)
from services.hub.schemas import structural_schema

DIRECTORY = Path(__file__).parents[3] / "deploy" / "crds"
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in crds.crds()}


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from nodes(node[name], f"{path}.{name}")


def test_what_is_checked_in_is_what_the_code_says() -> None:
    assert crds.differences(DIRECTORY) == []
    assert generate(["--check"]) == 0


def test_a_difference_is_found(tmp_path: Path) -> None:
    crds.write(tmp_path)
    assert crds.differences(tmp_path) == []
    changed, stale = tmp_path / "workloads.cluster.k8s.io.yaml", tmp_path / "stale.yaml"
    changed.write_text(changed.read_text() + "\n")
    stale.touch()
    (tmp_path / "clusters.cluster.k8s.io.yaml").unlink()
    missing = tmp_path / "clusters.cluster.k8s.io.yaml"
    assert crds.differences(tmp_path) == [missing, changed, stale]


@pytest.mark.parametrize("kind", CRDS)
def test_the_files_hold_the_definitions(kind: str) -> None:
    name = CRDS[kind]["metadata"]["name"]
    assert yaml.safe_load((DIRECTORY / f"{name}.yaml").read_text()) == CRDS[kind]


@pytest.mark.parametrize("kind", CRDS)
def test_schemas_are_structural(kind: str) -> None:
    for path, node in nodes(schema(kind)):
        # Any JSON has no type: see "Specifying a structural schema".
        untyped = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert "type" in node or untyped, path
        assert not {"$ref", "$defs", "title", "default", "const"} & node.keys(), path
        if node.get("type") == "array":
            assert node["x-kubernetes-list-type"] in {"map", "atomic"}, path
            assert "maxItems" in node, f"{path}: the cost of rules is estimated from it"
        if node.get("x-kubernetes-list-type") == "map":
            assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"]), path


@pytest.mark.parametrize(
    ("kind", "part", "model"),
    [
        ("Cluster", "spec", ClusterSpec),
        ("Cluster", "status", ClusterStatusView),
        ("Workload", "spec", WorkloadSpec),
        ("Workload", "status", WorkloadStatusView),
    ],
)
def test_every_field_of_the_models_is_in_the_schema(kind: str, part: str, model: type[BaseModel]) -> None:
    names = {field.alias for field in model.model_fields.values()}
    assert schema(kind)["properties"][part]["properties"].keys() == names


def test_conditions_are_those_of_metav1() -> None:
    assert {field.alias for field in ConditionView.model_fields.values()} == {
        "type", "status", "reason", "message", "lastTransitionTime", "observedGeneration",
    }  # fmt: skip
    conditions = schema("Workload")["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize(
    ("kind", "plural", "scope", "short_name"),
    [("Cluster", "clusters", "Cluster", "fcl"), ("Workload", "workloads", "Namespaced", "wl")],
)
def test_names(kind: str, plural: str, scope: str, short_name: str) -> None:
    crd = CRDS[kind]
    assert crd["metadata"]["annotations"]["api-approved.kubernetes.io"].startswith("unapproved")
    assert crd["spec"]["scope"] == scope
    names = crd["spec"]["names"]
    assert (names["plural"], names["singular"], names["shortNames"]) == (plural, kind.lower(), [short_name])
    assert names["categories"] == ["fleet"]
    assert crd["spec"]["versions"][0]["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", CRDS)
def test_columns_point_at_fields_that_exist(kind: str) -> None:
    paths = {path for path, _ in nodes(schema(kind))}
    for column in CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"].partition("[")[0]
        assert path in paths or path.startswith(".metadata."), column


def test_a_union_that_has_no_structural_schema_is_an_error() -> None:
    class Odd(BaseModel):
        value: int | str

    with pytest.raises(ValueError, match="only unions of literals"):
        structural_schema(Odd, {})
