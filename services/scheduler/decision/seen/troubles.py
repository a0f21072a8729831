"""What is wrong with which cluster, and since when: the taints that drive replicas out of it.

A cluster is left for its `NoExecute` taints, as a node is left in Kubernetes: those that were declared
(`flotilla.dev/draining` is one by convention), and `flotilla.dev/silent`, which is implied while a cluster is lost. A
pod set that tolerates a taint with `tolerationSeconds` stays for so long, and for ever without. What does not speak of
silence is given `tolerate_loss_ms`, as Kubernetes gives every pod five minutes for a node that is lost. A cluster whose
watcher is heard, and its API server is not, is lost at once; the taint begins when it would have been called silent.

Only a taint that stays for the whole time counts: one that goes and comes back begins anew. While most clusters are
lost at once, time does not pass for any of them: it is more likely that nothing reaches the scheduler.

Times are of the leader's own clock and no part of the folded state. A new leader knows since when clusters are silent,
and begins anew for all else: it is later, never sooner, than its predecessor.
"""

from __future__ import annotations

from services.scheduler.decision.clusters import Cluster, ClusterTable
from services.scheduler.decision.config import SchedulerConfig
from shared.model.taints import SILENT, Taint, Toleration

DRAINING_KEY = "flotilla.dev/draining"

_Tolerations = tuple[Toleration, ...]


class Troubles:
    """`troubled` are the clusters with a taint that drives replicas out, sooner or later."""

    def __init__(self, config: SchedulerConfig, clusters: ClusterTable) -> None:
        self._config = config
        self._clusters = clusters
        self._since: dict[str, dict[Taint, int]] = {}
        self._well_since: dict[str, int] = {}
        self._due: dict[tuple[str, _Tolerations], bool] = {}
        self._now_ms = 0
        self._looked_at = -1
        self.troubled: frozenset[str] = frozenset()
        # Whether so many clusters are lost that it is rather us who are.
        self.cut_off = False

    @property
    def now_ms(self) -> int:
        """When was looked last."""
        return self._now_ms

    def look(self, now_ms: int) -> None:
        """Follows what is wrong with the clusters now."""
        self._now_ms = now_ms
        self._due.clear()
        if not self._since and self._looked_at == self._clusters.version:
            # Nothing was wrong, and nothing is otherwise than it was.
            return
        self._looked_at = self._clusters.version
        self.cut_off = self._most_are_lost()
        for cluster in self._clusters:
            taints = self._taints(cluster)
            since = self._since.get(cluster.name, {})
            if taints:
                self._since[cluster.name] = {taint: self._begun(taint, cluster, since) for taint in taints}
            else:
                self._since.pop(cluster.name, None)
            if cluster.heard and not taints:
                self._well_since.setdefault(cluster.name, now_ms)
            else:
                self._well_since.pop(cluster.name, None)
        self.troubled = frozenset(self._since)

    def is_due(self, cluster: str, tolerations: _Tolerations) -> bool:
        """Whether what tolerates no more than this has to leave a cluster by now."""
        if cluster not in self._since:
            return False
        due = self._due.get((cluster, tolerations))
        if due is None:
            taints = self._since[cluster].items()
            due = any(self._is_over(taint, since, tolerations) for taint, since in taints)
            self._due[cluster, tolerations] = due
        return due

    def repels(self, cluster: Cluster, tolerations: _Tolerations) -> bool:
        """Whether a cluster that would take such replicas would not keep them."""
        since = self._since.get(cluster.name, {})
        return any(taint in since and self._is_over(taint, since[taint], tolerations) for taint in cluster.taints)

    def is_stable(self, cluster: str) -> bool:
        """Whether a cluster has been heard for a while, and nothing was wrong with it."""
        since = self._well_since.get(cluster)
        return since is not None and self._now_ms - since >= self._config.stable_ms

    def _most_are_lost(self) -> bool:
        known = [cluster for cluster in self._clusters if cluster.heartbeat is not None and not cluster.gone]
        lost = sum(cluster.lost for cluster in known)
        return lost > 0 and lost >= self._config.most_lost * len(known)

    def _taints(self, cluster: Cluster) -> list[Taint]:
        if cluster.gone:
            return []
        declared = [taint for taint in cluster.taints if taint.effect == "NoExecute"]
        return [*declared, SILENT] if cluster.lost else declared

    def _begun(self, taint: Taint, cluster: Cluster, since: dict[Taint, int]) -> int:
        if taint != SILENT:
            return since.get(taint, self._now_ms)
        # Where its watcher is heard, and says that the API server does not answer, that has as long to come back as a
        # watcher has until it is called silent.
        first = self._now_ms if cluster.silent else self._now_ms + self._config.silent_after_ms
        if self.cut_off:
            return first
        return since.get(taint, min(cluster.silent_since, first) if cluster.silent else first)

    def _is_over(self, taint: Taint, since: int, tolerations: _Tolerations) -> bool:
        patience = self._patience(taint, tolerations)
        return patience is not None and self._now_ms - since >= patience

    def _patience(self, taint: Taint, tolerations: _Tolerations) -> int | None:
        """For how many milliseconds a taint is tolerated; None is for ever."""
        tolerating = [item for item in tolerations if item.tolerates(taint)]
        if not tolerating:
            return self._config.tolerate_loss_ms if taint == SILENT else 0
        limits = [item.toleration_seconds for item in tolerating if item.toleration_seconds is not None]
        return max(min(limits), 0) * 1000 if limits else None
