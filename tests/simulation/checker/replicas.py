"""No replica exists twice beyond what a rollout allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.model.identities import GENERATION_ANNOTATION, SCHEDULER_NAME
from tests.simulation.checker.clusters import is_alive, workload_of
from tests.simulation.checker.evidence import Evidence, Violation

Json = dict[str, Any]


def check(evidence: Evidence) -> list[Violation]:
    return list(_bound_twice(evidence))


def _bound_twice(evidence: Evidence) -> Iterator[Violation]:
    """A decision gives a replica one place. What a later one moves may start before the former is gone.

    A node that is lost takes its pods with it.
    """
    alive: dict[str, dict[str, tuple[str, str]]] = {}
    lost: set[tuple[str, str]] = set()
    told: set[str] = set()
    for write in evidence.history.writes:
        obj = write.object
        meta = obj["metadata"]
        if write.resource == "nodes":
            note_node(lost, (write.cluster, meta["name"]), obj, gone=write.verb == "DELETED")
            continue
        if write.resource != "pods" or obj["spec"].get("schedulerName") != SCHEDULER_NAME or not workload_of(obj):
            continue
        name = f"{meta['namespace']}/{meta['name']}"
        places = alive.setdefault(name, {})
        places.pop(write.cluster, None)
        if write.verb != "DELETED" and is_alive(obj) and obj["spec"].get("nodeName"):
            generation = (meta.get("annotations") or {}).get(GENERATION_ANNOTATION, "")
            places[write.cluster] = (obj["spec"]["nodeName"], generation)
        there = [(cluster, *place) for cluster, place in places.items() if (cluster, place[0]) not in lost]
        if len(there) > len({generation for _, _, generation in there}) and name not in told:
            told.add(name)
            yield Violation("twice", name, f"runs in {sorted(there)} at {write.at_ms}")


def note_node(lost: set[tuple[str, str]], where: tuple[str, str], node: Json, *, gone: bool) -> None:
    """Keeps `lost`, the nodes that run nothing that anybody could end."""
    conditions = node.get("status", {}).get("conditions") or ()
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    if gone or not ready:
        lost.add(where)
    else:
        lost.discard(where)
