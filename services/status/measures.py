"""What is measured every few seconds: how far behind the service is, and how its clusters and workloads are."""

from __future__ import annotations

from collections.abc import Mapping

from services.status import metrics
from services.status.decision.consistency import Drift
from services.status.decision.machine import StatusMachine
from services.status.positions import lag
from shared.ports.event_log import Partition

# Nobody looks more often, and a fleet may have thousands of clusters.
_TAKE_S = 5.0
# Counting takes the time of all workloads.
_COUNT_S = 15.0
_OF_CLUSTERS = (metrics.HEARTBEAT_AGE_SECONDS, metrics.UNLIKE, metrics.DRIFTING)


class Measures:
    def __init__(self, machine: StatusMachine) -> None:
        self._machine = machine
        self._taken_at = self._counted_at = float("-inf")
        self._clusters: set[str] = set()
        self._dropped = 0
        # An earlier session may have known others.
        self._forget()

    def take(
        self, positions: Mapping[Partition, int], ends: Mapping[Partition, int], *, now_ms: int, now_s: float
    ) -> None:
        """`ends` are those of the log at `now_ms`; `now_s` is the monotonic clock."""
        if now_s - self._taken_at < _TAKE_S:
            return
        self._taken_at = now_s
        machine = self._machine
        for topic, behind in lag(positions, ends).items():
            metrics.LAG.labels(topic).set(behind)
        if now_s - self._counted_at >= _COUNT_S:
            self._counted_at = now_s
            metrics.WORKLOADS.clear()
            for phase, number in machine.phases().items():
                metrics.WORKLOADS.labels(phase.value).set(number)
        self._take_clusters(now_ms)
        metrics.STALE_WORKLOADS.set(machine.stale())
        metrics.EARLY_REPORTS.set(len(machine.early))
        metrics.DROPPED_REPORTS.inc(machine.early.dropped - self._dropped)
        self._dropped = machine.early.dropped

    def _take_clusters(self, now_ms: int) -> None:
        roster, silent = self._machine.roster, 0
        heard = dict(roster.heard())
        if not self._clusters <= heard.keys():
            self._forget()
        self._clusters = set(heard)
        for cluster, state in heard.items():
            silent += state.silent
            metrics.HEARTBEAT_AGE_SECONDS.labels(cluster).set(max(0, now_ms - state.heard_at) / 1000)
            metrics.UNLIKE.labels(cluster).set(len(roster.consistency(cluster).unlike))
        for cluster, counts in roster.drifts():
            for drift in Drift:
                metrics.DRIFTING.labels(cluster, drift.value).set(counts[drift])
        metrics.SILENT_CLUSTERS.set(silent)

    @staticmethod
    def _forget() -> None:
        for gauge in _OF_CLUSTERS:
            gauge.clear()
