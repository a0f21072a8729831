"""What runs at most once never runs in two clusters at once: by the pods that there truly are, at each write.

What runs by a lease is stopped by its executor. So that is judged where this can be: its executor ran for all of the
time since it may last have been heard, its API server answered, and the pod's node is there to end it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from tests.simulation.checker.clusters import workload_of
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.checker.replicas import note_node
from tests.simulation.history import Lived

_ENDED = frozenset({"Succeeded", "Failed"})
# So long before a workload is started elsewhere something may have kept an executor from stopping it.
_SINCE_MS = 120_000
_DOWN = frozenset({"killed", "paused", "failed", "told to stop", "stopped"})


class _Pods:
    """The pods of one workload, by cluster, and where they are."""

    def __init__(self) -> None:
        self.by_cluster: dict[str, dict[str, str]] = defaultdict(dict)

    def clusters(self, lost: set[tuple[str, str]]) -> list[str]:
        """Those with pods on nodes that are not lost."""
        return sorted(
            cluster
            for cluster, pods in self.by_cluster.items()
            if any((cluster, node) not in lost for node in pods.values())
        )


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    asked: dict[str, bool] = {}
    leased: set[str] = set()
    for (_, key), placed in evidence.journal.decided.items():
        # Who asks for it only now and then is not judged.
        asked[key] = asked.get(key, True) and placed.workload.placement.at_most_once
        if placed.workload.placement.leased:
            leased.add(key)
    hindered = _hindered(evidence.history.lives)
    pods: dict[str, _Pods] = defaultdict(_Pods)
    lost: set[tuple[str, str]] = set()
    told: set[str] = set()
    for write in evidence.history.writes:
        meta = write.object["metadata"]
        if write.resource == "nodes":
            note_node(lost, (write.cluster, meta["name"]), write.object, gone=write.verb == "DELETED")
            continue
        if write.resource != "pods" or not asked.get(key := workload_of(write.object), False):
            continue
        there = pods[key].by_cluster[write.cluster]
        # One that is being deleted runs until it is gone.
        if write.verb == "DELETED" or write.object.get("status", {}).get("phase") in _ENDED:
            there.pop(meta["uid"], None)
            continue
        there[meta["uid"]] = write.object["spec"].get("nodeName", "")
        where = pods[key].clusters(lost if key in leased else set())
        if key in leased:
            where = [name for name in where if name == write.cluster or not _was_hindered(hindered, name, write.at_ms)]
        if len(where) > 1 and key not in told:
            told.add(key)
            yield Violation("runs twice", key, f"has pods in {', '.join(where)} at {write.at_ms}")


def _hindered(lives: list[Lived]) -> dict[str, list[int]]:
    """By executor without its number, and by cluster, when something befell it or its API server."""
    found: dict[str, list[int]] = defaultdict(list)
    for life in lives:
        if life.event in _DOWN or (life.event == "befallen" and "api" in life.detail):
            found[life.process.partition("#")[0]].append(life.at_ms)
    return found


def _was_hindered(hindered: dict[str, list[int]], cluster: str, at_ms: int) -> bool:
    for name in (cluster, f"executor-{cluster}", "executor-all"):
        times = hindered.get(name, [])
        begin = bisect_left(times, at_ms - _SINCE_MS)
        if begin < bisect_left(times, at_ms + 1):
            return True
    return False
