"""What a placement says: the plan, and what makes its pods other pods."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.status.decision.plan import Mode
from services.status.placed import PodSetShape, placement_of
from shared.events.registry import DecodeError
from shared.events.v1.workloads import PodSet
from tests.unit.status.world import placement


def document(pod_set: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    read = orjson.loads(placement({"a": 2}, pod_set=pod_set, **arguments).to_json())
    assert isinstance(read, dict)
    return read


def template(document: dict[str, Any]) -> str:
    plan = placement_of(orjson.dumps(document)).plan
    assert plan is not None
    return plan.sets[0].template


def test_the_shape_of_a_pod_set_is_all_of_it_but_what_is_of_its_replicas_together() -> None:
    assert set(PodSetShape.__struct_fields__) == set(PodSet.model_fields) - {"replicas", "disruption_budget"}


CHANGES: list[dict[str, Any]] = [
    {"image": "other"},
    {"command": ["run"]},
    {"args": ["-v"]},
    {"env": [{"name": "A", "value": "b"}]},
    {"ports": [{"containerPort": 80}]},
    {"resources": {"requests": {"cpu": "1"}}},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_shape_makes_other_pods(change: dict[str, Any]) -> None:
    assert template(document({"image": "nginx", **change})) != template(document({"image": "nginx"}))


@pytest.mark.parametrize("way", ["template", "manifest"])
def test_a_change_of_a_document_makes_other_pods(way: str) -> None:
    one, other = ({way: {"kind": "Pod", "spec": {"nodeName": name}}} for name in ("x", "y"))
    assert template(document(one)) != template(document(other))
    assert template(document(one)) == template(document(dict(one)))


@pytest.mark.parametrize("term", [{"nodeSelector": {"a": "b"}}, {"tolerations": [{"key": "k"}]}, {"binding": "node"}])
def test_terms_that_are_rendered_make_other_pods(term: dict[str, Any]) -> None:
    changed = document()
    changed["placement"]["workload"]["placement"] |= term
    assert template(changed) != template(document())


def test_the_number_of_replicas_makes_no_other_pods() -> None:
    assert template(document({"image": "nginx", "replicas": 9})) == template(document({"image": "nginx"}))


def test_what_a_newer_version_adds_makes_no_other_pods() -> None:
    newer = document()
    newer["later"] = newer["placement"]["later"] = newer["placement"]["workload"]["podSets"][0]["later"] = [1]
    assert template(newer) == template(document())


@pytest.mark.parametrize("strange", [{"restartPolicy": {}}, [], None])
def test_a_strange_document_is_no_trouble(strange: Any) -> None:
    plan = placement_of(orjson.dumps(document({"template": {"spec": strange}}))).plan
    assert plan is not None
    assert plan.sets[0].mode is Mode.PODS
    plan = placement_of(orjson.dumps(document({"manifest": {"kind": ["Pod"], "spec": strange}}))).plan
    assert plan is not None
    assert plan.sets[0].mode is Mode.NO_PODS


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("workload", None, "placement.workload"),
        ("uid", 7, "placement.uid"),
        ("podSets", [{"name": "web", "desired": "many"}], "placement.podSets.0.desired"),
    ],
)
def test_what_cannot_be_read_names_the_field(path: str, value: Any, field: str) -> None:
    broken = document()
    broken["placement"][path] = value
    with pytest.raises(DecodeError) as caught:
        placement_of(orjson.dumps(broken))
    assert caught.value.errors[0].field == field


def test_what_the_message_allows_is_read_however_it_is_written() -> None:
    lax = document()
    lax["generation"] = "7"
    assert placement_of(orjson.dumps(lax)).generation == 7


def test_other_overrides_are_something_new_for_a_cluster_to_do() -> None:
    plain, overridden = document(), document()
    overridden["placement"]["podSets"][0]["shares"][0]["overrides"] = ["eu"]
    one, two = (placement_of(orjson.dumps(item)).plan for item in (plain, overridden))
    assert one is not None
    assert two is not None
    assert one.shares_in("a") != two.shares_in("a")
