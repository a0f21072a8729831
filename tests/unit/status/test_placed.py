"""What a placement says: the plan, and what makes its pods other pods."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.status.decision.plan import Mode
from services.status.placed import PodSetShape, placement_of
from shared.events.registry import DecodeError
from shared.events.v1.decisions import ContainerRequested, Requested
from shared.events.v1.workloads import PodSet
from tests.unit.status.world import World, placement


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


def requested(milli: int, position: str = "fleet.scaling/0/1") -> dict[str, Any]:
    """A placement that applies requests that were recommended."""
    changed = document()
    container = {"name": "web", "requests": {"cpu": milli}}
    changed["placement"]["podSets"][0]["requested"] = {"containers": [container], "position": position}
    return changed


def test_requests_that_are_applied_make_other_pods_whoever_said_them() -> None:
    assert len({template(item) for item in (document(), requested(100), requested(200))}) == 3
    assert template(requested(100, "fleet.scaling/0/2")) == template(requested(100))


def test_clusters_have_something_new_to_do_for_them() -> None:
    world = World()
    world.run({"east": 1})
    before = world.status().clusters[0]
    assert before.applied
    changed = placement({"east": 1}, generation=2)
    containers = (ContainerRequested(name="web", requests={"cpu": 100}),)
    assert changed.placement is not None
    pod_sets = tuple(
        item.model_copy(update={"requested": Requested(containers=containers, position="t/0/1")})
        for item in changed.placement.pod_sets
    )
    body = changed.placement.model_copy(update={"pod_sets": pod_sets})
    world.place(changed.model_copy(update={"placement": body}))
    world.end()
    assert not world.status().clusters[0].applied
    world.report("east", generation=2)
    world.end()
    assert world.status().clusters[0].applied
    assert world.status().pod_sets[0].template != before.pod_sets[0].template


def test_they_are_rolled_out_though_nobody_changed_the_workload() -> None:
    plans = [placement_of(orjson.dumps(item)).plan for item in (document(), requested(100))]
    assert [plan.sets[0].rolled for plan in plans if plan is not None] == [False, True]
