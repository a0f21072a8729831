"""How far the replicas of one pod set are apart: a cost for each domain, which is a zone of a cluster."""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.table.arrays import FloatArray, IntArray, grown
from services.scheduler.decision.table.nodes import NodeTable

_NOWHERE: IntArray = np.zeros(0, np.int64)


class Spread:
    """`(replicas in the cluster + replicas in the zone) / (2 · desired)`, in [0, 1], times the weight."""

    def __init__(self, table: NodeTable, desired: int, weight: float) -> None:
        self._table = table
        self._desired = max(desired, 1)
        self._weight = weight
        self._in_domain = _NOWHERE
        self._in_cluster: dict[int, int] = {}
        self._cost: FloatArray | None = None

    def add(self, row: int) -> None:
        """One more replica is on that node."""
        if self._desired == 1 or not self._weight:
            # One replica alone is apart from all others.
            return
        self._fit_domains()
        self._in_domain[self._table.domain_of(row)] += 1
        self.add_to_cluster(self._table.cluster_of(row))

    def add_to_cluster(self, cluster: int) -> None:
        """One more replica is in that cluster; on which node is not known."""
        self._in_cluster[cluster] = self._in_cluster.get(cluster, 0) + 1
        self._cost = None

    def costs(self) -> FloatArray | None:
        """The weighted cost by domain; None while it is the same for all."""
        if not self._in_cluster or not self._weight:
            return None
        if self._cost is None:
            self._fit_domains()
            by_cluster = np.zeros(self._table.clusters_with_domains, np.int64)
            for cluster, count in self._in_cluster.items():
                if cluster < len(by_cluster):
                    by_cluster[cluster] = count
            counts = by_cluster[self._table.domain_cluster] + self._in_domain
            self._cost = self._weight * (counts / (2 * self._desired))
        return self._cost

    def _fit_domains(self) -> None:
        if len(self._in_domain) != self._table.domains:
            self._in_domain = grown(self._in_domain, (self._table.domains,))
