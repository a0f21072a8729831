"""The newest sample of each pod, as long as it says anything: the window that metrics are judged by.

Samples are periodic, so one that is lost or comes twice is put right by the next. Which is newer says the cluster's own
clock; how old it is, the time since we first heard of it, whatever that clock shows.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.autoscaler.decision.heard import Heard
from services.autoscaler.decision.horizontal.seen import PodSamples, Reading, Sample, Unmeasured
from services.autoscaler.decision.horizontal.terms import Metric, MetricType
from shared.events.v1.metrics import PodMetricsSampled, PodUsage

_THOUSAND = 1000
# What metrics-server says where it says nothing.
_WINDOW_MS = 30_000


def pod_key(cluster: str, usage: PodUsage) -> str:
    return f"{cluster}/{usage.namespace}/{usage.name}"


class PodSamplesSeen:
    def __init__(self, stale_ms: int) -> None:
        self._stale_ms = stale_ms
        self._held: dict[str, Heard[PodUsage]] = {}

    def take(self, sample: PodMetricsSampled, now_ms: int, known: Iterable[str] | None = None) -> set[str]:
        """The keys of pods of which there is something newer now."""
        fresh: set[str] = set()
        for usage in sample.pods:
            key = pod_key(sample.cluster, usage)
            if known is not None and key not in known:
                continue
            at_ms = usage.sampled_at if usage.sampled_at is not None else sample.sampled_at
            held = self._held.get(key)
            if held is None or held.gives_way(at_ms, now_ms, self._stale_ms):
                self._held[key] = Heard(usage, at_ms, now_ms)
                fresh.add(key)
        return fresh

    def forget(self, key: str) -> None:
        self._held.pop(key, None)

    def reading(self, metric: Metric, pods: Iterable[str], now_ms: int) -> Reading:
        """What these pods use of a resource; a pod of which nothing recent is known has no sample."""
        found, stale = dict[str, Sample](), 0
        for key in pods:
            held = self._held.get(key)
            if held is None:
                continue
            if held.is_stale(now_ms, self._stale_ms):
                stale += 1
                continue
            amount = _amount(metric, held.value)
            if amount is not None:
                window = held.value.window if held.value.window is not None else _WINDOW_MS
                found[key] = Sample(amount, held.at_ms, window)
        if found:
            return PodSamples(found)
        if stale:
            return Unmeasured(f"the newest samples are older than {self._stale_ms // _THOUSAND} s, of {stale} pods")
        return Unmeasured("no metrics returned from resource metrics API")


def _amount(metric: Metric, usage: PodUsage) -> int | None:
    """In thousandths; None where it was not measured."""
    if metric.type is MetricType.CONTAINER_RESOURCE:
        part = next((item for item in usage.containers if item.name == metric.container), None)
        if part is None:
            return None
        return part.cpu if metric.name == "cpu" else part.memory * _THOUSAND
    return usage.cpu if metric.name == "cpu" else usage.memory * _THOUSAND
