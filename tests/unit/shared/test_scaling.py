"""The `scaling` section: what it says, and what is wrong with it, by field and with the way out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.events.registry import DecodeError, decode
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.workloads import ApplyWorkload, Workload

Json = dict[str, Any]
CPU: Json = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
}
QUEUE: Json = {
    "type": "External",
    "external": {"metric": {"name": "lag"}, "target": {"type": "AverageValue", "averageValue": "100"}},
}


def request(scaling: Json, *pod_sets: str, **more: Any) -> bytes:
    sets = [{"name": name, "image": "nginx"} for name in pod_sets or ("main",)]
    workload = {"name": "web", "podSets": sets, "scaling": scaling, **more}
    return json.dumps({"operation": "apply", "workload": workload}).encode()


def workload(scaling: Json, *pod_sets: str) -> Workload:
    body = decode(WorkloadRequested, request(scaling, *pod_sets)).root
    assert isinstance(body, ApplyWorkload)
    return body.workload


def test_a_workload_without_it_has_the_bytes_that_it_had() -> None:
    plain = Workload.model_validate({"name": "web", "podSets": [{"name": "main", "image": "nginx"}]})
    assert b"scaling" not in plain.to_json()
    assert plain.scaled_pod_set == ""


def test_it_comes_back_as_it_was_written() -> None:
    scaling = {
        "minReplicas": 2,
        "maxReplicas": 9,
        "metrics": [CPU, QUEUE],
        "behavior": {
            "scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}], "tolerance": "0.05"}
        },
    }
    asked = workload(scaling)
    assert asked.scaling is not None
    assert json.loads(asked.to_json())["scaling"]["metrics"] == [CPU, QUEUE]
    assert Workload.model_validate_json(asked.to_json()) == asked
    assert (asked.scaled_pod_set, asked.scaling.bounded(1), asked.scaling.bounded(50)) == ("main", 2, 9)


def test_the_pod_set_is_named_where_there_are_several() -> None:
    assert workload({"maxReplicas": 3, "podSet": "b"}, "a", "b").scaled_pod_set == "b"


def target(**fields: Any) -> Json:
    return {**CPU, "resource": {"name": "cpu", "target": fields}}


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"maxReplicas": 2, "minReplicas": 3}, "minReplicas 3 must not be more than maxReplicas 2"),
        ({"maxReplicas": 0}, "scaling.maxReplicas"),
        ({}, "scaling.maxReplicas"),
        ({"maxReplicas": 3, "minReplicas": 0, "metrics": [CPU]}, "use 1, or add such a metric"),
        ({"maxReplicas": 3, "podSet": "other"}, "scaling.podSet: there is no pod set 'other'"),
        ({"maxReplicas": 3, "metrics": [target(type="Utilization")]}, "averageUtilization must be given"),
        (
            {"maxReplicas": 3, "metrics": [target(type="Value", value="3")]},
            "target.type must be Utilization or AverageV",
        ),
        ({"maxReplicas": 3, "metrics": [target(type="AverageValue", averageValue="0")]}, "must be more than 0"),
        (
            {"maxReplicas": 3, "metrics": [target(type="AverageValue", averageValue="1", averageUtilization=5)]},
            "averageUtilization must not be given with type AverageValue; use type Utilization",
        ),
        ({"maxReplicas": 3, "metrics": [{**CPU, "type": "Pods"}]}, "pods must be given with type Pods"),
        ({"maxReplicas": 3, "metrics": [{**CPU, "external": QUEUE["external"]}]}, "make it a metric of type External"),
        ({"maxReplicas": 3, "behaviour": {}}, "scaling.behaviour"),
        (
            {"maxReplicas": 3, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601}}},
            "stabilizationWindowSeconds",
        ),
        (
            {
                "maxReplicas": 3,
                "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}},
            },
            "policies.0.value",
        ),
    ],
)
def test_what_is_wrong_is_named(scaling: Json, said: str) -> None:
    with pytest.raises(DecodeError) as refused:
        workload(scaling)
    assert said in str(refused.value)


def test_of_several_pod_sets_one_has_to_be_named() -> None:
    with pytest.raises(DecodeError, match=r"scaling\.podSet: must be one of a, b: there are several"):
        workload({"maxReplicas": 3}, "a", "b")


@pytest.mark.parametrize(
    ("placement", "said"),
    [({"gang": {}}, "leave one out"), ({"division": "duplicated"}, "use division divided")],
)
def test_what_is_not_scaled_says_the_way_out(placement: Json, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        decode(WorkloadRequested, request({"maxReplicas": 3}, placement=placement))
