"""Metrics that remember their children are the client's in everything else."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from shared.observability.metrics import Counter, Gauge, Histogram


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def shown(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_the_same_values_are_the_same_child_however_they_are_given(registry: CollectorRegistry) -> None:
    calls = Counter("calls_total", "calls", ("cluster", "call"), registry=registry)
    calls.labels("a", "get").inc()
    calls.labels(call="get", cluster="a").inc()
    calls.labels("a", "get").inc()
    calls.labels("b", "get").inc()
    assert [line for line in shown(registry) if "_total" in line] == [
        'calls_total{call="get",cluster="a"} 3.0',
        'calls_total{call="get",cluster="b"} 1.0',
    ]


def test_what_was_taken_away_begins_anew(registry: CollectorRegistry) -> None:
    lag = Gauge("lag", "lag", ("topic",), registry=registry)
    lag.labels("a").set(1)
    lag.labels("b").set(1)
    lag.remove("a")
    lag.labels("a").inc()
    assert shown(registry) == ['lag{topic="b"} 1.0', 'lag{topic="a"} 1.0']
    lag.clear()
    lag.labels("b").set(5)
    assert shown(registry) == ['lag{topic="b"} 5.0']


def test_without_labels_and_with_wrong_ones_they_are_the_clients_own(registry: CollectorRegistry) -> None:
    seconds = Histogram("seconds", "seconds", registry=registry, buckets=(1.0,))
    seconds.observe(0.5)
    assert 'seconds_bucket{le="1.0"} 1.0' in shown(registry)
    with pytest.raises(ValueError, match="No label names"):
        seconds.labels("a")
    with pytest.raises(ValueError, match="label count"):
        Gauge("one", "one", ("a",), registry=registry).labels("a", "b")


def test_a_gauge_is_what_it_was_set_to_last_whatever_was_added_in_between(registry: CollectorRegistry) -> None:
    gauge = Gauge("waiting", "that wait", registry=registry)
    gauge.set(3)
    assert shown(registry) == ["waiting 3.0"]
    gauge.set(5)
    assert shown(registry) == ["waiting 5.0"]
    for change, changed in ((gauge.inc, 6), (gauge.dec, 4)):
        change()
        assert shown(registry) == [f"waiting {changed}.0"]
        gauge.set(5)
        assert shown(registry) == ["waiting 5.0"]
