from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.adapters.kubernetes.decoding import decode_object
from shared.ports.cluster_api import ChangeType


def without_managed_fields(raw: bytes) -> bytes:
    return decode_object(ChangeType.ADDED, raw, without_managed_fields=True).raw


MANAGED = [{"manager": "kubectl", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, 'k:{"a":"b"}': {}}}}}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
KEYS = st.sampled_from(["labels", "annotations", "managedFields", "x"])


# The first draw of a text builds Hypothesis' tables, which takes a second on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    metadata=st.dictionaries(KEYS, JSON, max_size=5),
    rest=st.dictionaries(st.sampled_from(["spec", "managedFields", "status"]), JSON, max_size=3),
    style=st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 1}]),
    escape=st.booleans(),
)
def test_only_the_metadatas_managed_fields_go(
    metadata: dict[str, Any], rest: dict[str, Any], style: dict[str, Any], *, escape: bool
) -> None:
    obj = {"kind": "Pod", "metadata": metadata, **rest}

    found = without_managed_fields(json.dumps(obj, ensure_ascii=escape, **style).encode())

    assert json.loads(found) == obj | {"metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "a", "managedFields": MANAGED},
        {"managedFields": MANAGED, "name": "a"},
        {"managedFields": MANAGED},
        {"name": "a", "annotations": {"last": '{"managedFields":[{}]}'}, "managedFields": MANAGED, "uid": "u"},
        {"x": {"managedFields": MANAGED}, "managedFields": MANAGED},
    ],
)
@pytest.mark.parametrize("before", [{"kind": "X"}, {}, {"embedded": {"metadata": {"managedFields": MANAGED}}}])
def test_wherever_they_stand(metadata: dict[str, Any], before: dict[str, Any]) -> None:
    obj = {**before, "metadata": metadata, "spec": {"metadata": {"managedFields": MANAGED}}}

    found = without_managed_fields(json.dumps(obj, separators=(",", ":")).encode())

    assert json.loads(found) == {**obj, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


def test_what_stays_keeps_its_bytes() -> None:
    spec = b'{"big":123456789012345678901234567890,"float":1.50,"escape":"\\u00e4\\/"}'
    raw = b'{"kind":"X","metadata":{"name":"a","managedFields":[{"manager":"m"}],"uid":"u"},"spec":' + spec + b"}"

    assert without_managed_fields(raw) == b'{"kind":"X","metadata":{"name":"a","uid":"u"},"spec":' + spec + b"}"


@pytest.mark.parametrize(
    "obj",
    [
        {"kind": "X", "metadata": {"name": "a", "labels": {"managedFields": "label"}}},
        {"kind": "X", "metadata": {"name": "a"}, "spec": {"template": {"metadata": {"managedFields": MANAGED}}}},
        {"kind": "X", "metadata": {"name": "a", "annotations": {"note": '"managedFields":[]'}}},
        {"kind": "X", "metadata": {"name": "a"}},
    ],
)
def test_other_managed_fields_stay(obj: dict[str, Any]) -> None:
    raw = json.dumps(obj).encode()
    assert json.loads(without_managed_fields(raw)) == obj


def test_both_go_apart() -> None:
    obj = {"metadata": {"managedFields": MANAGED, "name": "a"}, "template": {"metadata": {"managedFields": MANAGED}}}
    found = json.loads(without_managed_fields(json.dumps(obj).encode()))
    assert found == {"metadata": {"name": "a"}, "template": {"metadata": {"managedFields": MANAGED}}}
