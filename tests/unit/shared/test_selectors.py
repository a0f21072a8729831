"""Selectors, taints and names by the rules of Kubernetes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.model.names import dns_label_error, dns_subdomain_error, label_key_error, label_value_error
from shared.model.selectors import LabelSelector, NodeRequirement, NodeSelector
from shared.model.taints import Taint, Toleration

LABELS = {"app": "web", "tier": "front", "cores": "16"}


@pytest.mark.parametrize(
    ("operator", "key", "values", "holds"),
    [
        ("In", "app", ("web", "db"), True),
        ("In", "app", ("db",), False),
        ("In", "absent", ("x",), False),
        ("NotIn", "app", ("db",), True),
        ("NotIn", "app", ("web",), False),
        ("NotIn", "absent", ("x",), True),
        ("Exists", "app", (), True),
        ("Exists", "absent", (), False),
        ("DoesNotExist", "absent", (), True),
        ("DoesNotExist", "app", (), False),
        ("Gt", "cores", ("8",), True),
        ("Gt", "cores", ("16",), False),
        ("Lt", "cores", ("17",), True),
        ("Lt", "app", ("17",), False),
        ("Gt", "absent", ("1",), False),
    ],
)
def test_node_requirements(operator: str, key: str, values: tuple[str, ...], holds: bool) -> None:
    requirement = NodeRequirement.model_validate({"key": key, "operator": operator, "values": values})
    assert requirement.matches(LABELS) is holds


@pytest.mark.parametrize(
    "document",
    [
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["x"]},
        {"key": "a", "operator": "Gt", "values": ["1", "2"]},
        {"key": "a", "operator": "Gt", "values": ["x"]},
        {"key": "a", "operator": "Equals", "values": ["x"]},
    ],
)
def test_requirements_that_contradict_themselves(document: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NodeRequirement.model_validate(document)


def test_an_empty_label_selector_selects_everything_and_all_terms_must_hold() -> None:
    assert LabelSelector().matches({})
    selector = LabelSelector.model_validate(
        {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}
    )
    assert selector.matches(LABELS)
    assert not selector.matches({"app": "web", "tier": "back"})


def test_node_selector_terms_are_alternatives_and_an_empty_one_selects_nothing() -> None:
    selector = NodeSelector.model_validate(
        {
            "nodeSelectorTerms": [
                {},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
            ]
        }
    )
    assert selector.matches({}, "n1")
    assert not selector.matches({}, "n2")


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "spot", "operator": "Exists"}, True),
        ({"key": "spot", "value": "true"}, True),
        ({"key": "spot", "value": "false"}, False),
        ({"key": "spot", "value": "true", "effect": "NoSchedule"}, True),
        ({"key": "spot", "value": "true", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: dict[str, str], tolerated: bool) -> None:
    taint = Taint(key="spot", value="true", effect="NoSchedule")
    assert Toleration.model_validate(toleration).tolerates(taint) is tolerated


@pytest.mark.parametrize("text", ["a", "a-b", "0a", "a" * 63])
def test_labels_of_dns(text: str) -> None:
    assert dns_label_error(text) is None


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "a\n"])
def test_what_is_no_label_of_dns(text: str) -> None:
    assert dns_label_error(text)


def test_other_names() -> None:
    assert dns_subdomain_error("a.b-c.d") is None
    assert dns_subdomain_error("a..b")
    assert label_key_error("example.com/Name_1.x") is None
    assert label_key_error("/x")
    assert label_key_error("a/b/c")
    assert label_value_error("") is None
    assert label_value_error("a b")
