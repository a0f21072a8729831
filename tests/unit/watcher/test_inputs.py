"""Settings, metrics, record headers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.watcher.decision.instructions import Publish
from services.watcher.records import RecordFactory
from services.watcher.settings import WatcherSettings, parse_labels, parse_resources
from services.watcher.usage import SAMPLES_IN_A_RECORD, batches, node_usages, pod_usages
from shared.events.envelope import Envelope
from shared.model.identities import Resource


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"watcher_cluster": "a", "watcher_kubeconfig_dir": "/x"},
        {"watcher_cluster": "Not a name"},
        {"watcher_cluster": "not.a.label"},
        {"watcher_cluster": "a", "watcher_resources": "pods"},
        {"watcher_cluster": "a", "watcher_labels": "region"},
        {"watcher_cluster": "a", "watcher_labels": "-bad=x"},
        {"watcher_cluster": "a", "watcher_heartbeat_s": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WatcherSettings(**values)


def test_resources_and_labels_from_text() -> None:
    settings = WatcherSettings(watcher_cluster="a", watcher_extra_resources="example.com/v1/widgets, v1/configmaps")
    assert {Resource("example.com", "v1", "widgets"), Resource("", "v1", "configmaps")} <= settings.resources()
    assert Resource("", "v1", "pods") in settings.resources()
    assert parse_resources("") == frozenset()
    assert parse_labels("topology.kubernetes.io/region=eu, tier=") == {
        "topology.kubernetes.io/region": "eu",
        "tier": "",
    }


def test_usages_from_the_metrics_api() -> None:
    nodes: list[dict[str, Any]] = [
        {"metadata": {"name": "a"}, "usage": {"cpu": "1500000001n", "memory": "1Gi"}},
        {"metadata": {"name": "broken"}, "usage": {"cpu": "lots", "memory": "1Gi"}},
        {"metadata": {"name": "empty"}},
    ]
    pods: list[dict[str, Any]] = [
        {
            "metadata": {"name": "p", "namespace": "n"},
            "containers": [{"usage": {"cpu": "100m", "memory": "10Ki"}}, {"usage": {"cpu": "1", "memory": "1"}}],
        },
        {"metadata": {"name": "broken"}, "containers": None},
    ]

    assert [(usage.name, usage.cpu, usage.memory) for usage in node_usages(nodes)] == [("a", 1501, 1024**3)]
    assert [(usage.namespace, usage.name, usage.cpu, usage.memory) for usage in pod_usages(pods)] == [
        ("n", "p", 1100, 10241)
    ]


def test_headers_are_those_of_an_envelope() -> None:
    factory = RecordFactory("west", 5)
    publish = Publish(cause="1", ce_type="fleet.object.observed.v1", key=b"west/core/v1/pods/a/b", value=b"{}", seq=7)

    record = factory.object(publish, factory.time(1_700_000_000_123))

    envelope = Envelope.from_headers(record.headers, position="-", timestamp_ms=0)
    assert set(envelope.to_headers()) == set(record.headers)
    assert (envelope.source, envelope.type, envelope.subject) == (
        "flotilla/watcher/west",
        "fleet.object.observed.v1",
        "west/core/v1/pods/a/b",
    )
    assert (envelope.time_ms, envelope.epoch, envelope.seq) == (1_700_000_000_123, 5, 7)
    assert record.partition_key == b"west"
    other = factory.object(publish, factory.time(0))
    assert Envelope.from_headers(other.headers, position="-", timestamp_ms=0).id != envelope.id


def test_as_many_go_into_a_record_as_their_weights_allow() -> None:
    weights = [1, SAMPLES_IN_A_RECORD - 1, 1, SAMPLES_IN_A_RECORD + 1, 2, 3]
    together = list(batches(weights, lambda weight: weight))
    assert together == [(1, SAMPLES_IN_A_RECORD - 1), (1,), (SAMPLES_IN_A_RECORD + 1,), (2, 3)]
    assert list(batches([], len)) == []
