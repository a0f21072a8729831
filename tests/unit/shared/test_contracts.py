"""Envelope, registry, topics and the promise of v1."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import generate
from shared.events.compatibility import breaking_changes
from shared.events.envelope import Envelope, EnvelopeError, format_time, parse_time
from shared.events.registry import MESSAGE_TYPES, DecodeError, decode
from shared.events.topics import ALL_TOPICS, Cleanup, commands_topic
from shared.events.v1.requests import WorkloadRequested
from shared.model.identities import (
    ObjectKey,
    Resource,
    WorkloadKey,
    heartbeat_cluster,
    heartbeat_key,
    is_object_key,
    sync_marker_key,
)

Json = dict[str, Any]


def request(**workload: Any) -> bytes:
    pod_set = {"name": "main", "image": "nginx"}
    return json.dumps({"operation": "apply", "workload": {"name": "web", "podSets": [pod_set], **workload}}).encode()


def test_an_envelope_comes_back_from_its_headers() -> None:
    envelope = Envelope("id", "src", "fleet.x.v1", 1_700_000_000_123, "subject", "00-trace", 3, 9, "sig")
    assert Envelope.from_headers(envelope.to_headers(), position="p", timestamp_ms=0) == envelope


def test_without_headers_a_record_is_known_by_its_position() -> None:
    envelope = Envelope.from_headers([], position="fleet.requests/0/7", timestamp_ms=5, default_type="t")
    assert (envelope.id, envelope.time_ms, envelope.type) == ("fleet.requests/0/7", 5, "t")


@pytest.mark.parametrize(
    "header",
    [("ce_id", b"\xff"), ("ce_time", b"now"), ("ce_time", b"2026-01-01T00:00:00"), ("fleet_epoch", b"-1"),
     ("fleet_seq", b"9" * 20), ("fleet_epoch", "\u0661".encode())],
)  # fmt: skip
def test_headers_that_are_wrong_are_named(header: tuple[str, bytes]) -> None:
    with pytest.raises(EnvelopeError, match=header[0]):
        Envelope.from_headers([header], position="p", timestamp_ms=0)


@given(st.integers(0, 4_000_000_000_000))
def test_times_keep_their_milliseconds(time_ms: int) -> None:
    assert parse_time(format_time(time_ms)) == time_ms


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (request(podSets=[]), "workload.podSets", "Invalid"),
        (request(name="A"), "workload.name", "Invalid"),
        (request(extra=1), "workload.extra", "UnknownField"),
        (b'{"operation":"apply","workload":{"podSets":[{"name":"m","image":"x"}]}}', "workload.name", "Required"),
        (b"{}", "", "Required"),
        (b"{", "", "Malformed"),
        (request(podSets=[{"name": "m"}]), "workload.podSets.0", "Invalid"),
        (request(podSets=[{"name": "m", "image": "x", "manifest": {}}]), "workload.podSets.0", "Invalid"),
        (
            request(podSets=[{"name": "m", "image": "x", "resources": {"requests": {"cpu": "x"}}}]),
            "workload.podSets.0.resources.requests.cpu",
            "Invalid",
        ),
    ],
)
def test_what_is_wrong_with_a_request_is_named(body: bytes, field: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(WorkloadRequested, body)
    (error,) = caught.value.errors
    assert (error.field, error.reason) == (field, reason)
    assert error.message


def test_two_pod_sets_of_one_name_contradict_each_other() -> None:
    pod_set = {"name": "m", "image": "x"}
    with pytest.raises(DecodeError, match="used twice"):
        decode(WorkloadRequested, request(podSets=[pod_set, pod_set]))


def test_object_keys_come_back_and_markers_are_none() -> None:
    for key in (
        ObjectKey("c", Resource("", "v1", "nodes"), "", "heartbeat"),
        ObjectKey("c", Resource("apps", "v1", "deployments"), "sync", "x"),
    ):
        assert ObjectKey.parse(str(key)) == key
        assert is_object_key(str(key))
    assert not is_object_key(heartbeat_key("c"))
    assert not is_object_key(sync_marker_key("c", Resource("", "v1", "pods")))
    with pytest.raises(ValueError, match="namespace/name"):
        WorkloadKey.parse("a/b/c")


def test_a_heartbeat_is_known_by_its_key_and_nothing_else_is() -> None:
    assert heartbeat_key("west") == "west/-/heartbeat"  # on the wire: not to be changed
    assert heartbeat_cluster(heartbeat_key("west").encode()) == "west"
    nodes = Resource("", "v1", "nodes")
    for key in (
        str(ObjectKey("west", nodes, "", "heartbeat")),  # ends as a heartbeat's key does
        sync_marker_key("west", nodes),
        "west/-/heartbeat/more",
        "/-/heartbeat",
        "west",
        "",
    ):
        assert heartbeat_cluster(key.encode()) is None, key
    assert heartbeat_cluster(b"w\xff/-/heartbeat") == "w\ufffd"


def test_every_topic_says_what_a_stranger_needs() -> None:
    for topic in (*ALL_TOPICS, commands_topic("c")):
        assert topic.description
        assert topic.written_by
        assert topic.read_by
        assert (topic.retention_ms > 0) is (topic.cleanup is Cleanup.DELETE)
    assert len({topic.name for topic in ALL_TOPICS}) == len(ALL_TOPICS)
    assert len(MESSAGE_TYPES) == len({m.model for m in MESSAGE_TYPES.values()})


def test_the_generated_documents_are_checked_in() -> None:
    assert generate.check() == []


OLD: Json = {
    "properties": {"a": {"type": "string"}, "b": {"type": "integer", "maximum": 5}},
    "required": ["a"],
}


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"properties": {**OLD["properties"], "c": {"type": "string"}}}, False),
        ({"properties": {"a": {"type": "string", "description": "new words"}, "b": OLD["properties"]["b"]}}, False),
        ({"properties": {**OLD["properties"], "b": {"type": "integer", "maximum": 9}}}, False),
        ({"required": []}, False),
        ({"required": ["a", "b"]}, True),
        ({"properties": {"a": {"type": "string"}}}, True),
        ({"properties": {**OLD["properties"], "a": {"type": "integer"}}}, True),
        ({"properties": {**OLD["properties"], "b": {"type": "integer", "maximum": 4}}}, True),
        ({"properties": {**OLD["properties"], "a": {"type": "string", "pattern": "x"}}}, True),
    ],
)
def test_v1_only_gains_optional_fields(change: Json, broken: bool) -> None:
    assert bool(breaking_changes(OLD, {**OLD, **change})) is broken
