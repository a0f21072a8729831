"""Pods that their cluster cannot schedule, and clusters that a pod set keeps away from for a while.

Known to the leader alone, and not part of the folded state: a new leader sees the same pods and comes to the same
moves.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.reservations import ShareKey

_PodSetKey = tuple[str, str]
# How often in the time that a pod is given it is looked at.
_LOOKS_PER_WAIT = 10


class Moves:
    """`version` rises when a cluster is avoided no longer: then what waits is worth another look."""

    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self._avoided: dict[_PodSetKey, dict[str, int]] = {}
        # Since when each pod is known to find no node, by our own clock: those of the clusters may be wrong.
        self._since: dict[str, int] = {}
        self._tried: dict[str, int] = {}
        self._next_ms = 0
        self.version = 0

    def due(self, unschedulable: Mapping[str, ShareKey], now_ms: int) -> dict[ShareKey, int]:
        """How many replicas of each share are to be moved now. A pod that was tried in vain has its turn later."""
        if now_ms < self._next_ms:
            return {}
        wait = self._config.move_after_ms
        self._next_ms = now_ms + wait // _LOOKS_PER_WAIT
        self._expire(now_ms)
        self._since = {pod: self._since.get(pod, now_ms) for pod in unschedulable}
        self._tried = {pod: at for pod, at in self._tried.items() if pod in unschedulable and at > now_ms - wait}
        counts: dict[ShareKey, int] = {}
        for pod, share in unschedulable.items():
            if now_ms - self._since[pod] >= wait and pod not in self._tried:
                self._tried[pod] = now_ms
                counts[share] = counts.get(share, 0) + 1
        return counts

    def avoid(self, share: ShareKey, now_ms: int) -> None:
        """The pod set of this share keeps away from its cluster for a while."""
        clusters = self._avoided.setdefault((share.workload, share.pod_set), {})
        clusters[share.cluster] = now_ms + self._config.avoid_ms

    @property
    def any_avoided(self) -> bool:
        return bool(self._avoided)

    def avoided(self, workload: str, pod_set: str, now_ms: int) -> list[str]:
        """The clusters that a pod set keeps away from now."""
        clusters = self._avoided.get((workload, pod_set)) if self._avoided else None
        if clusters is None:
            return []
        return [name for name, until in clusters.items() if until > now_ms]

    def forget(self, workload: str) -> None:
        if self._avoided:
            self._avoided = {key: value for key, value in self._avoided.items() if key[0] != workload}

    def _expire(self, now_ms: int) -> None:
        for key, clusters in list(self._avoided.items()):
            current = {name: until for name, until in clusters.items() if until > now_ms}
            if len(current) < len(clusters):
                self.version += 1
            if current:
                self._avoided[key] = current
            else:
                del self._avoided[key]
