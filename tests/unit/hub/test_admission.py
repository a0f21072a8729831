"""What `/admit` answers: the words of the models, field by field, and never an exception."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.hub.decision.admission import review
from tests.unit.hub.world import cluster, workload


def ask(
    document: dict[str, Any], operation: str = "CREATE", *, old: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    request = {
        "uid": "r-1",
        "kind": {"group": "cluster.k8s.io", "version": "v1alpha1", "kind": document["kind"]},
        "operation": operation,
        "name": document["metadata"]["name"],
        "namespace": document["metadata"].get("namespace", ""),
        "userInfo": {"username": "ann"},
        "object": document,
        "oldObject": old,
    }
    verdict = review({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request | more})
    assert verdict.review["kind"] == "AdmissionReview"
    response: dict[str, Any] = verdict.review["response"]
    assert response["uid"] == "r-1"
    assert response["allowed"] is verdict.allowed
    return response


TEMPLATE = {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": 110}}


def node_group(**changes: Any) -> dict[str, Any]:
    return {"name": "small", "maxSize": 3, "template": TEMPLATE, "provider": {"kind": "kwok"}, **changes}


def causes(response: dict[str, Any]) -> dict[str, str]:
    return {cause["field"]: cause["message"] for cause in response["status"]["details"]["causes"]}


def test_what_is_right_passes() -> None:
    assert ask(workload(namespace="team"))["allowed"]
    assert ask(cluster(spec={"workloads": [{"name": "a", "image": "nginx"}]}))["allowed"]
    assert ask(cluster())["allowed"]
    assert ask(cluster(spec={"nodeGroups": [node_group(), node_group(name="large", minSize=3, price=0.4)]}))["allowed"]


def test_every_field_that_is_wrong_is_named() -> None:
    spec = {
        "podSets": [
            {"name": "a", "image": "nginx", "replicas": -1},
            {"name": "b", "image": "nginx", "resources": {"requests": {"cpu": "lots"}}},
        ],
        "placement": {"tolerations": [{"value": "x"}]},
    }
    response = ask(workload(spec=spec, namespace="team"))
    assert not response["allowed"]
    assert response["status"]["code"] == 422
    found = causes(response)
    assert "greater than or equal to 0" in found["spec.podSets.0.replicas"]
    assert "is not a quantity" in found["spec.podSets.1.resources.requests.cpu"]
    assert "operator must be Exists" in found["spec.placement.tolerations.0"]
    assert "spec.podSets.0.replicas" in response["status"]["message"]


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        (workload(spec={"podSets": [{"name": "a"}]}, namespace="t"), "spec.podSets.0", "exactly one of"),
        (workload(spec={"podSets": [{"name": "a", "image": "x"}] * 2}, namespace="t"), "spec", "is used twice"),
        (workload("dots.are.wrong", namespace="t"), "metadata.name", "lower case letters"),
        (workload("w" * 62, namespace="t"), "spec", "longer than 63 characters"),
        (workload(spec={"podSets": []}, namespace="t"), "spec.podSets", "at least 1 item"),
        (cluster("x.y"), "metadata.name", "lower case letters"),
        (cluster(spec={"watchedResources": ["pods"]}), "spec.watchedResources.0", "should match pattern"),
        (cluster(spec={"pricePerHour": -1}), "spec.pricePerHour", "greater than or equal to 0"),
        (
            cluster(spec={"nodePrices": [{"nodeSelector": {}, "pricePerHour": 1}]}),
            "spec.nodePrices.0.nodeSelector",
            "at least 1 item",
        ),
        *(
            (cluster(spec={"nodeGroups": [node_group(**changes)]}), f"spec.nodeGroups.0.{field}", words)
            for changes, field, words in (
                ({"name": "Not_A_Label"}, "name", "lower case letters"),
                ({"minSize": 3, "maxSize": 2}, "maxSize", "must not be less than minSize, which is 3"),
                ({"price": -1}, "price", "greater than or equal to 0"),
                ({"template": {"allocatable": {"cpu": "4"}}}, "template.allocatable", "memory and pods must be given"),
                ({"template": {**TEMPLATE, "labels": {"-": "x"}}}, "template.labels.-.[key]", "name part"),
                ({"provider": {}}, "provider", "Unable to extract tag"),
                ({"provider": {"kind": "magic"}}, "provider", "does not match any of the expected tags"),
                ({"provider": {"kind": "kwok", "url": "http://x"}}, "provider.url", "Extra inputs"),
                ({"provider": {"kind": "webhook", "secret": "s"}}, "provider.url", "Field required"),
                ({"provider": {"kind": "webhook", "url": "ftp://x", "secret": "s"}}, "provider.url", "match pattern"),
                (
                    {"provider": {"kind": "clusterApi", "resource": "machines", "namespace": "a", "name": "b"}},
                    "provider.resource",
                    "'machinedeployments' or 'machinepools'",
                ),
            )
        ),
        (cluster(spec={"nodeGroups": [node_group()] * 2}), "spec.nodeGroups", "name 'small' is used twice"),
        (cluster("c" * 60, spec={"workloads": [{"name": "abc", "image": "x"}]}), "spec.workloads", "longer than 63"),
        (cluster(spec={"unknown": 1}), "spec.unknown", "Extra inputs"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason(document: dict[str, Any], field: str, words: str) -> None:
    response = ask(document)
    assert not response["allowed"]
    assert words in causes(response)[field]


def test_what_is_being_deleted_passes_whatever_it_says() -> None:
    document = workload(spec={"podSets": []}, namespace="team", deletionTimestamp="2026-01-01T00:00:00Z")
    assert ask(document, "UPDATE")["allowed"]


def test_what_was_stored_unchecked_may_get_a_label_but_no_other_mistake() -> None:
    stored = workload(spec={"podSets": [{"name": "a"}]}, namespace="team")
    labelled = workload(spec={"podSets": [{"name": "a"}]}, namespace="team", labels={"x": "y"})
    assert ask(labelled, "UPDATE", old=stored)["allowed"]
    other = workload(spec={"podSets": [{"name": "b"}]}, namespace="team")
    assert not ask(other, "UPDATE", old=stored)["allowed"]


def test_a_status_is_none_of_its_business() -> None:
    assert ask(workload(spec={"podSets": []}, namespace="team"), "UPDATE", subResource="status")["allowed"]


def test_a_user_who_changes_a_mirror_is_warned() -> None:
    labels = {"flotilla.dev/origin": "topic"}
    old = workload(namespace="team", labels=labels)
    new = workload(namespace="team", labels=labels, spec={"podSets": [{"name": "app", "image": "mine"}]})
    assert "remove the label" in ask(new, "UPDATE", old=old)["warnings"][0]
    assert "warnings" not in ask(old, "UPDATE", old=old)
    assert "warnings" not in ask(new, "UPDATE", old=old, options={"fieldManager": "flotilla"})


def test_who_was_refused_is_known_to_the_audit() -> None:
    document = workload(spec={"podSets": []}, namespace="team")
    request = {
        "uid": "u",
        "kind": {"kind": "Workload"},
        "operation": "CREATE",
        "namespace": "team",
        "userInfo": {"username": "ann"},
        "object": document,
        "dryRun": True,
    }
    verdict = review({"request": request})
    assert (verdict.user, verdict.name, verdict.operation, verdict.dry_run) == ("ann", "team/web", "CREATE", True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_nonsense_is_answered(document: Any) -> None:
    assert review(document).allowed is False


META = st.dictionaries(
    st.sampled_from(["name", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "managedFields"]),
    JSON,
)


@given(spec=JSON, metadata=JSON | META, kind=st.sampled_from(["Cluster", "Workload"]), more=JSON)
def test_nonsense_in_an_object_is_answered(spec: Any, metadata: Any, kind: str, more: Any) -> None:
    meta = ({"name": "x", "namespace": "y"} | metadata) if isinstance(metadata, dict) else metadata
    target = {"metadata": meta, "spec": spec}
    request = {"uid": "u", "kind": {"kind": kind}, "object": target, "userInfo": more, "options": more}
    response = review({"request": request}).review["response"]
    assert response["allowed"] or response["status"]["message"]
