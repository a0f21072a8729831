"""The clusters of the fleet: which of them take new replicas, and their labels, taints and price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from services.scheduler.decision.config import SchedulerConfig
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.objects import LEFT, UNREACHABLE, ClusterObserved
from shared.model.identities import CLUSTER_LABEL, PRICE_LABEL
from shared.model.taints import OUT_OF_SERVICE_KEY, Taint


class Cluster:
    """One cluster, as its watcher reports it and as the hub's users declare it.

    `index` is its place in arrays; `heard_at` is when its last heartbeat was heard, by the scheduler's clock, and
    `silent_since` when it was overdue.
    """

    __slots__ = ("declared", "gone", "heard_at", "heartbeat", "index", "name", "silent", "silent_since")

    def __init__(self, name: str, index: int) -> None:
        self.name = name
        self.index = index
        self.heartbeat: ClusterObserved | None = None
        self.heard_at = 0
        self.declared: ClusterDeclared | None = None
        self.silent = False
        self.silent_since = 0
        self.gone = False

    @property
    def labels(self) -> Mapping[str, str]:
        """What was declared goes before what was observed; every cluster has its name as a label."""
        observed = self.heartbeat.labels if self.heartbeat else {}
        declared = self.declared.labels if self.declared else {}
        return {**observed, **declared, CLUSTER_LABEL: self.name}

    @property
    def taints(self) -> tuple[Taint, ...]:
        return self.declared.taints if self.declared else ()

    def price_of(self, labels: Mapping[str, str]) -> float | None:
        """What was declared that a node with these labels costs, if anything was."""
        if self.declared is None:
            return None
        own = (item.price_per_hour for item in self.declared.node_prices if item.applies(labels))
        return next(own, self.declared.price_per_hour)

    @property
    def heard(self) -> bool:
        """Whether what is known of its nodes and pods can be believed to be so now."""
        return self.heartbeat is not None and self.heartbeat.ready and not self.silent

    @property
    def lost(self) -> bool:
        """Whether neither its watcher nor its API server is heard; one that is still listed anew is not lost."""
        if self.heartbeat is None or self.gone:
            return False
        return self.silent or (not self.heartbeat.ready and self.heartbeat.reason == UNREACHABLE)

    @property
    def runs_nothing(self) -> bool:
        """Whether somebody says that nothing runs there: it was taken out of the fleet, or out of service."""
        return self.gone or any(taint.key == OUT_OF_SERVICE_KEY for taint in self.taints)

    @property
    def refusal(self) -> str:
        """Why it takes no new replicas, in words that follow `node(s) in clusters that`; empty if it takes them."""
        if self.gone:
            return "have left the fleet"
        if self.heartbeat is None:
            return "have not reported yet"
        if self.silent:
            return "are silent"
        if not self.heartbeat.ready:
            return "are not ready"
        return "are unschedulable" if self.declared is not None and self.declared.unschedulable else ""


class ClusterTable:
    """`version` rises with every change that may matter to a placement.

    `gone` are the clusters whose watchers said that they left the fleet. A cluster that is merely silent is not gone,
    nor is one of which nothing is known: a log that lost its records must not empty the fleet.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self._clusters: dict[str, Cluster] = {}
        self._ordered: list[Cluster] = []
        self._due_ms = 0
        self.version = 0
        self.gone: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._ordered)

    def __len__(self) -> int:
        return len(self._ordered)

    def get(self, name: str) -> Cluster | None:
        return self._clusters.get(name)

    def runs_nothing(self, name: str) -> bool:
        """Whether somebody says that nothing runs there. Of a cluster that is not known nobody says anything."""
        cluster = self._clusters.get(name)
        return cluster is not None and cluster.runs_nothing

    def node_price(self, name: str, labels: Mapping[str, str]) -> tuple[bool, float]:
        """A node's price per hour, and whether its own label has it. A label that is no price does not count."""
        text = labels.get(PRICE_LABEL)
        try:
            price = float(text) if text is not None else -1.0
        except ValueError:
            price = -1.0
        if 0 <= price < float("inf"):
            return True, price
        return False, self.declared_price(name, labels)

    def declared_price(self, name: str, labels: Mapping[str, str]) -> float:
        """What was declared of such a node of the cluster, or else the fleet's default."""
        cluster = self._clusters.get(name)
        price = cluster.price_of(labels) if cluster is not None else None
        return self._config.default_price if price is None else price

    def ensure(self, name: str) -> Cluster:
        cluster = self._clusters.get(name)
        if cluster is None:
            cluster = self._clusters[name] = Cluster(name, len(self._ordered))
            self._ordered.append(cluster)
            self.version += 1
        return cluster

    def observe(self, heartbeat: ClusterObserved, heard_at: int) -> None:
        cluster = self.ensure(heartbeat.cluster)
        before = (cluster.refusal, cluster.lost, cluster.labels)
        cluster.heartbeat, cluster.heard_at = heartbeat, heard_at
        self._mark_gone(cluster, gone=heartbeat.reason == LEFT)
        # Silence is judged against the time of the next decision.
        self._due_ms = 0
        if before != (cluster.refusal, cluster.lost, cluster.labels):
            self.version += 1

    def forget(self, name: str) -> None:
        """The heartbeat's tombstone, which is the last that is heard of a cluster that left."""
        cluster = self.ensure(name)
        cluster.heartbeat = None
        self._mark_gone(cluster, gone=True)
        self.version += 1

    def _mark_gone(self, cluster: Cluster, *, gone: bool) -> None:
        if cluster.gone != gone:
            cluster.gone = gone
            self.gone = self.gone | {cluster.name} if gone else self.gone - {cluster.name}

    def declare(self, name: str, declared: ClusterDeclared | None) -> None:
        self.ensure(name).declared = declared
        self.version += 1

    def watch_silence(self, now_ms: int) -> None:
        """Marks clusters whose heartbeat is overdue, and unmarks those that are heard again.

        What counts is when it was heard: the watcher's clock may be wrong for as long as it lives.
        """
        if now_ms < self._due_ms:
            return
        self._due_ms = now_ms + self._config.silent_after_ms
        for cluster in self._ordered:
            if cluster.heartbeat is None:
                continue
            due = cluster.heard_at + self._patience(cluster.heartbeat)
            silent = now_ms >= due
            if silent != cluster.silent:
                cluster.silent, cluster.silent_since = silent, due
                self.version += 1
            if not silent:
                self._due_ms = min(self._due_ms, due)

    def _patience(self, heartbeat: ClusterObserved) -> int:
        intervals = heartbeat.interval_ms * self._config.silent_after_intervals
        return max(int(intervals), self._config.silent_after_ms)
