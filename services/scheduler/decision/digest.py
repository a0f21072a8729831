"""A hash of the state that is kept by difference, so that every entry of the journal can have it.

Three sums of 64 bits over what a state holds, whatever the order in which it came: of nodes (what they are, and what is
free on each, which is the sum of all pods and reservations), of workloads, and of clusters. It tells states apart, as a
checksum does; it keeps nobody from making two that look alike. Left out is what follows from how a replica came to its
state and not from what it is: since when a cluster is tainted or a pod unschedulable, what was tried in vain.

Of nodes only those are looked at that are in the node table's change logs; of workloads those that were decided upon.
"""

from __future__ import annotations

import zlib
from hashlib import blake2b
from operator import mul

import numpy as np
import numpy.typing as npt

from services.scheduler.decision.clusters import Cluster, ClusterTable
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.table.arrays import IntArray, Rows
from services.scheduler.decision.table.classes import NodeClass
from services.scheduler.decision.table.devices import ABSENT
from services.scheduler.decision.table.nodes import NodeTable
from shared.events.v1.decisions import WorkloadPlaced

Words = npt.NDArray[np.uint64]

_MASK = (1 << 64) - 1


class StateDigest:
    def __init__(self, table: NodeTable, workloads: Workloads, clusters: ClusterTable) -> None:
        self._nodes = _NodesDigest(table)
        self._workloads = workloads
        self._clusters = clusters
        self._clusters_at = -1
        self._of_clusters = 0
        self._words: dict[str, int] = {}
        self._of_workloads = 0

    def value(self) -> str:
        """The hash now, 48 hexadecimal digits in three groups."""
        return f"{self._nodes.value():016x}-{self._sum_of_workloads():016x}-{self._sum_of_clusters():016x}"

    def _sum_of_workloads(self) -> int:
        changed = self._workloads.changed
        for key in changed:
            record = self._workloads.get(key)
            word = _word_of(record.placed) if record is not None else 0
            self._of_workloads += word - (self._words.pop(key, 0))
            if word:
                self._words[key] = word
        changed.clear()
        self._of_workloads &= _MASK
        return self._of_workloads

    def _sum_of_clusters(self) -> int:
        if self._clusters_at != self._clusters.version:
            self._clusters_at = self._clusters.version
            self._of_clusters = sum(map(_word_of_cluster, self._clusters)) & _MASK
        return self._of_clusters


class _NodesDigest:
    """Of each node a key made of what it is, times what is free on it. Plain numbers: few rows change at a time."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._keys: list[int] = []
        self._words: list[int] = []
        self._sum = 0
        self._usage_at = self._facts_at = 0
        self._free: list[int] = []
        self._allocatable: IntArray = np.zeros(0, np.int64)
        self._classes: dict[int, tuple[NodeClass, int]] = {}

    def value(self) -> int:
        table = self._table
        if (table.usage_log.end, table.facts_log.end) == (self._usage_at, self._facts_at):
            return self._sum & _MASK
        usage, facts = table.usage_log.since(self._usage_at), table.facts_log.since(self._facts_at)
        self._usage_at, self._facts_at = table.usage_log.end, table.facts_log.end
        if usage is None or facts is None or len(self._free) != table.columns.width:
            self._begin()
            facts = usage = np.arange(table.rows, dtype=np.intp)
        if len(facts):
            self._look_at(np.unique(facts))
        for row in {*usage.tolist(), *facts.tolist()}:
            self._renew(row)
        return self._sum & _MASK

    def _begin(self) -> None:
        names = self._table.columns.names
        self._free = [_word_of_text(f"free/{name}") for name in names]
        allocatable = [_word_of_text(f"allocatable/{name}") for name in names]
        self._allocatable = np.array(allocatable, np.uint64).view(np.int64)

    def _look_at(self, rows: Rows) -> None:
        """What nodes are has changed."""
        more = self._table.rows - len(self._keys)
        self._keys += [0] * more
        self._words += [0] * more
        for row, key in zip(rows.tolist(), self._keys_of(rows).tolist(), strict=True):
            self._keys[row] = key

    def _renew(self, row: int) -> None:
        table, key = self._table, self._keys[row]
        word = 0
        if key:
            word = sum(map(mul, table.free[row].tolist(), self._free)) + 1
            if table.devices.count(row):
                # Which of a node's devices has how much makes no difference.
                word += sum((amount + _DEVICE) ** 3 for amount in table.devices.free[row].tolist() if amount != ABSENT)
            word = word * key & _MASK
        self._sum += word - self._words[row]
        self._words[row] = word

    def _keys_of(self, rows: Rows) -> Words:
        """Zero where there is no node."""
        table = self._table
        keys = (table.allocatable[rows] @ self._allocatable).view(np.uint64)
        keys += table.price[rows].view(np.uint64) * _PRICE + table.load[rows].view(np.uint64) * _LOAD
        keys += table.ready[rows] * _READY + table.unschedulable[rows] * _UNSCHEDULABLE
        keys += np.array([self._word_of_class(number) for number in table.node_class[rows].tolist()], np.uint64)
        names = _mixed(table.order[rows].view(np.uint64))
        return np.where(table.alive[rows], _mixed(keys ^ names), _ZERO)

    def _word_of_class(self, number: int) -> int:
        known, current = self._classes.get(number), self._table.classes[number]
        if known is None or known[0] is not current:
            text = f"{sorted(current.labels.items())} {current.taints} {current.named}"
            known = self._classes[number] = (current, _word_of_text(text))
        return known[1]


def _word_of_text(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


_ZERO = np.uint64(0)
_PRICE, _LOAD, _READY, _UNSCHEDULABLE = (
    np.uint64(_word_of_text(text)) for text in ("price", "load", "ready", "unschedulable")
)
_SHIFT, _FACTOR = np.uint64(31), np.uint64(0x9E3779B97F4A7C15)
_FACTOR_OF_WORKLOADS, _DEVICE = 0x9E3779B97F4A7C15, 40_961


def _mixed(words: Words) -> Words:
    """Every bit of a word has its part in every other (the finalizer of SplitMix64, halved)."""
    words = (words ^ (words >> _SHIFT)) * _FACTOR
    return words ^ (words >> _SHIFT)


def _word_of(placed: WorkloadPlaced) -> int:
    """Which workload, how often it was accepted, and how many replicas it has in its clusters; never zero."""
    total = placed.workload_generation * 2 + placed.deleting
    for item in placed.pod_sets:
        for share in item.shares:
            total = total * 1_000_003 + share.replicas * 64 + (share.leaving or 0)
    total = total * 1_000_003 + len(placed.withdrawn)
    return (zlib.crc32(placed.uid.encode()) * _FACTOR_OF_WORKLOADS + total) * (2 * total + 1) & _MASK | 1


def _word_of_cluster(cluster: Cluster) -> int:
    taints = [str(taint) for taint in cluster.taints]
    return _word_of_text(f"{cluster.name} {cluster.refusal} {sorted(cluster.labels.items())} {taints}")
