"""Selectors, JSONPath, ages and quantities: text in, meaning out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.simulator.core.durations import human_duration
from services.simulator.core.errors import ApiError
from services.simulator.core.jsonpath import find
from services.simulator.core.quantities import canonical
from services.simulator.core.selectors import format_selector, label_selector, parse_fields, parse_labels
from shared.model.quantities import parse_quantity

_LABELS = {"app": "web", "tier": "front", "weight": "5"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier", True),
        ("app!=web", False),
        ("other!=x", True),
        ("!other", True),
        ("!app", False),
        ("app in (web, api)", True),
        ("app notin (web)", False),
        ("other notin (web)", True),
        ("weight>4,weight<6", True),
        ("weight>5", False),
        ("app=", False),
    ],
)
def test_label_selectors(text: str, expected: bool) -> None:
    assert parse_labels(text)(_LABELS) is expected


@pytest.mark.parametrize("text", ["a=b=c", "app in web", "a b", "(a)"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels(text)
    assert caught.value.code == 400


def test_selectors_of_specs_and_their_text() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "gone", "operator": "DoesNotExist"},
        ],
    }
    assert label_selector(selector)(_LABELS)
    assert not label_selector(None)(_LABELS)
    assert label_selector({})(_LABELS)
    assert format_selector(selector) == "app=web,tier in (back,front),!gone"
    assert parse_labels(format_selector(selector))(_LABELS)


def test_field_selectors() -> None:
    assert parse_fields("a=1,b!=2,c==3") == (("a", True, "1"), ("b", False, "2"), ("c", True, "3"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".a.b", [1]),
        ("{.a.b}", [1]),
        (".list[0].name", ["x"]),
        (".list[-1].name", ["y"]),
        (".list[*].name", ["x", "y"]),
        ('.list[?(@.name=="y")].value', [2]),
        (".list[?(@.name!='y')].value", [1]),
        (r".labels.example\.com/name", ["z"]),
        (".labels['example.com/name']", ["z"]),
        (".missing.more", []),
    ],
)
def test_json_paths(path: str, expected: list[Any]) -> None:
    value = {
        "a": {"b": 1},
        "list": [{"name": "x", "value": 1}, {"name": "y", "value": 2}],
        "labels": {"example.com/name": "z"},
    }
    assert find(value, path) == expected


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (3599, "59m"),
        (3 * 3600 + 60, "3h1m"),
        (30 * 3600, "30h"),
        (3 * 86400, "3d"),
        (3 * 86400 + 7200, "3d2h"),
        (400 * 86400, "400d"),
        (800 * 86400, "2y70d"),
        (-5, "<invalid>"),
    ],
)
def test_ages(seconds: int, shown: str) -> None:
    assert human_duration(seconds) == shown


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1e3", "1e3"),
        ("0", "0"),
        ("1500", "1500"),
    ],
)
def test_canonical_quantities(given_text: str, stored: str) -> None:
    assert canonical(given_text) == stored


@given(st.integers(0, 10**9), st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "Gi"]))
def test_canonical_keeps_the_value_and_is_final(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert parse_quantity(canonical(text)) == parse_quantity(text)
    assert canonical(canonical(text)) == canonical(text)
