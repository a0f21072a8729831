"""No replica exists twice beyond what a rollout allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.model.identities import SCHEDULER_NAME
from tests.simulation.checker.clusters import is_alive, workload_of
from tests.simulation.checker.evidence import Evidence, Violation

Json = dict[str, Any]


def check(evidence: Evidence) -> list[Violation]:
    return list(_bound_twice(evidence))


def _bound_twice(evidence: Evidence) -> Iterator[Violation]:
    """A replica that we bind ourselves runs in one place; a node that is lost takes its pods with it."""
    alive: dict[str, dict[str, str]] = {}
    lost: set[tuple[str, str]] = set()
    told: set[str] = set()
    for write in evidence.history.writes:
        obj = write.object
        meta = obj["metadata"]
        if write.resource == "nodes":
            _note_node(lost, (write.cluster, meta["name"]), obj, gone=write.verb == "DELETED")
            continue
        if write.resource != "pods" or obj["spec"].get("schedulerName") != SCHEDULER_NAME or not workload_of(obj):
            continue
        name = f"{meta['namespace']}/{meta['name']}"
        places = alive.setdefault(name, {})
        places.pop(write.cluster, None)
        if write.verb != "DELETED" and is_alive(obj) and obj["spec"].get("nodeName"):
            places[write.cluster] = obj["spec"]["nodeName"]
        there = [(cluster, node) for cluster, node in places.items() if (cluster, node) not in lost]
        if len(there) > 1 and name not in told:
            told.add(name)
            yield Violation("twice", name, f"runs in {sorted(there)} at {write.at_ms}")


def _note_node(lost: set[tuple[str, str]], where: tuple[str, str], node: Json, *, gone: bool) -> None:
    conditions = node.get("status", {}).get("conditions") or ()
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    if gone or not ready:
        lost.add(where)
    else:
        lost.discard(where)
