"""Bodies of typed clients. The examples that kubectl itself sends are in the contract suite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.simulator.core.errors import ApiError
from services.simulator.core.protobuf import MAGIC, decode_protobuf


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return MAGIC + _field(1, _field(1, api_version) + _field(2, kind)) + _field(2, raw)


def test_zero_values_stay_only_where_go_has_a_pointer() -> None:
    labels = _field(11, _field(1, "app") + _field(2, "web"))
    container = _field(1, "main") + _field(2, "app:1") + _field(5, "")
    template = _field(2, _field(2, container) + _field(10, ""))
    spec = _field(1, 0) + _field(3, template) + _field(5, 0)
    body = _envelope("apps/v1", "Deployment", _field(1, _field(1, "web") + labels) + _field(2, spec))
    assert decode_protobuf(body) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"replicas": 0, "template": {"spec": {"containers": [{"name": "main", "image": "app:1"}]}}},
    }


def test_special_types_become_what_json_says() -> None:
    port = _field(3, 80) + _field(4, _field(1, 1) + _field(3, "http"))
    service = _envelope("v1", "Service", _field(2, _field(1, port)))
    assert decode_protobuf(service)["spec"] == {"ports": [{"port": 80, "targetPort": "http"}]}
    quantity = _field(1, _field(1, "pods") + _field(2, _field(1, "5")))
    quota = _envelope("v1", "ResourceQuota", _field(2, quantity))
    assert decode_protobuf(quota)["spec"] == {"hard": {"pods": "5"}}
    renewed = _field(4, _field(1, 1_700_000_000))
    lease = _envelope("coordination.k8s.io/v1", "Lease", _field(2, renewed))
    assert decode_protobuf(lease)["spec"] == {"renewTime": "2023-11-14T22:13:20Z"}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ApiError, match="no kind"):
        decode_protobuf(_envelope("v1", "Nothing", b""))


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_request(raw: bytes) -> None:
    for body in (raw, MAGIC + raw, _envelope("v1", "Pod", raw)):
        try:
            decode_protobuf(body)
        except ApiError as error:
            assert error.code == 400  # noqa: PT017  # either outcome is fine, no other exception is
