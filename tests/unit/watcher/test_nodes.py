from __future__ import annotations

import json
from typing import Any

from services.watcher.decision.nodes import NodeTotals


def node(cpu: str = "4", memory: str = "8Gi", *, ready: str = "True", **labels: str) -> bytes:
    amounts = {"cpu": cpu, "memory": memory, "pods": "110"}
    obj: dict[str, Any] = {
        "metadata": {"name": "n", "labels": {f"topology.kubernetes.io/{key}": value for key, value in labels.items()}},
        "status": {
            "capacity": amounts,
            "allocatable": {**amounts, "cpu": "3500m"},
            "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready}],
        },
    }
    return json.dumps(obj).encode()


def test_totals_follow_the_nodes() -> None:
    totals = NodeTotals()
    totals.put("a", node())
    totals.put("b", node(ready="Unknown"))
    assert (len(totals), totals.ready) == (2, 1)
    assert totals.capacity() == {"cpu": "8", "memory": "16Gi", "pods": "220"}
    assert totals.allocatable() == {"cpu": "7", "memory": "16Gi", "pods": "220"}

    totals.put("a", node(cpu="2"))
    assert totals.capacity()["cpu"] == "6"
    totals.remove("b")
    totals.remove("b")
    assert (len(totals), totals.ready) == (1, 1)
    totals.remove("a")
    assert totals.capacity() == {}


def test_only_labels_that_all_nodes_share_are_the_clusters() -> None:
    totals = NodeTotals()
    totals.put("a", node(region="eu"))
    assert totals.shared_labels() == {"topology.kubernetes.io/region": "eu"}
    totals.put("b", node())
    assert totals.shared_labels() == {}
    totals.put("b", node(region="us"))
    assert totals.shared_labels() == {}
    totals.put("b", node(region="eu", zone="1"))
    assert totals.shared_labels() == {"topology.kubernetes.io/region": "eu"}


def test_what_cannot_be_read_counts_as_a_node_that_has_nothing() -> None:
    totals = NodeTotals()
    totals.put("a", b'{"metadata":{},"status":{"capacity":{"cpu":"lots","pods":"5"}}}')
    totals.put("b", b'{"metadata":{},"status":[]}')
    assert (len(totals), totals.ready, totals.capacity()) == (2, 0, {"pods": "5"})
