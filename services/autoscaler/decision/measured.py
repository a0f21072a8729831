"""What clusters say of the metrics that workloads ask for beside cpu and memory, as long as it says anything.

A metric of an object is added up over clusters. A series of an external metric is about no cluster: where several
clusters tell one with the same labels it is one series, of which the highest value counts, so that a cluster that
sees less of a queue never takes replicas away. How old a value is, is the time since we first heard of it, whatever
clock its source has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.autoscaler.decision.heard import Heard
from services.autoscaler.decision.horizontal.seen import PodSamples, Reading, Sample, Unmeasured, Values
from shared.events.v1.metrics import AskedMetricsSampled, MetricSampled, SampledValue
from shared.events.v1.sampling import SampledMetric

# As Kubernetes has it for a metric that tells no window.
_WINDOW_MS = 60_000
# A cluster that was heard of says nothing for so many limits of age: then it counts no more, and no less is known.
_FORGOTTEN = 10
_SHOWN = 3

_Series = str | frozenset[tuple[str, str]]
# In thousandths.
_Held = Heard[int]


@dataclass(frozen=True, slots=True)
class Measured:
    """A reading, of how many values, and when the newest was taken; `lacking` says what part of it is not known."""

    reading: Reading
    newest_ms: int | None = None
    count: int = 0
    lacking: str = ""


@dataclass(slots=True)
class _Told:
    """By one cluster of one metric; `error` of the last answer that was none."""

    values: dict[_Series, _Held] = field(default_factory=dict)
    error: str = ""


class MeasuredSeen:
    """`stale_ms`: age of a value from which on it says nothing."""

    def __init__(self, stale_ms: int) -> None:
        self._stale_ms = stale_ms
        self._told: dict[SampledMetric, dict[str, _Told]] = {}
        self._asked: Counter[SampledMetric] = Counter()

    def ask(self, metrics: Iterable[SampledMetric]) -> None:
        """Somebody asks for these; what nobody asks for is not kept."""
        self._asked.update(metrics)

    def unask(self, metrics: Iterable[SampledMetric]) -> None:
        self._asked.subtract(metrics)
        for metric in [metric for metric, askers in self._asked.items() if askers <= 0]:
            del self._asked[metric]
            self._told.pop(metric, None)

    def take(self, sample: AskedMetricsSampled, now_ms: int) -> set[SampledMetric]:
        """The metrics of which there is something newer."""
        return {
            answer.metric
            for answer in sample.metrics
            if answer.metric in self._asked and self._note(sample.cluster, answer, sample.sampled_at, now_ms)
        }

    def _note(self, cluster: str, answer: MetricSampled, sampled_ms: int, now_ms: int) -> bool:
        told = self._told.setdefault(answer.metric, {}).setdefault(cluster, _Told())
        told.error = answer.error
        known = told.values
        if answer.absent:
            # It is not there any more: that is known, and nothing old.
            told.values = {}
        elif answer.values:
            # Also by what is forgotten: an adapter that is stuck for that long has nothing newer.
            newest = {_series(value): self._newer(known, value, sampled_ms, now_ms) for value in answer.values}
            if answer.metric.type == "Pods":
                # An answer may be a part.
                newest = {key: held for key, held in known.items() if not self._is_forgotten(held, now_ms)} | newest
            told.values = newest
        return any(held is not known.get(key) for key, held in told.values.items())

    def _newer(self, known: Mapping[_Series, _Held], value: SampledValue, sampled_ms: int, now_ms: int) -> _Held:
        held = known.get(_series(value))
        at_ms = sampled_ms if value.at is None else value.at
        if held is not None and not held.gives_way(at_ms, now_ms, self._stale_ms):
            return held
        return Heard(value.milli, at_ms, now_ms)

    # --- what it comes to ---

    def reading(self, metric: SampledMetric, pods: Iterable[str], now_ms: int) -> Measured:
        """`pods` by their keys, for metrics of type Pods."""
        told = self._told.get(metric, {})
        if metric.type == "Pods":
            return self._of_pods(metric, told, pods, now_ms)
        fresh: dict[tuple[str, _Series], _Held] = {}
        for cluster, series, held in _all(told):
            # Of an object each cluster has its own; a series of the world is one, whoever tells it.
            key = (cluster if metric.type == "Object" else "", series)
            if not held.is_stale(now_ms, self._stale_ms) and (key not in fresh or held.value > fresh[key].value):
                fresh[key] = held
        if not fresh:
            return Measured(Unmeasured(self._why(metric, told, now_ms)))
        values = Values(tuple(held.value for _, held in sorted(fresh.items(), key=lambda item: str(item[0]))))
        lacking = sorted(
            {
                cluster
                for cluster, series, held in _all(told)
                if held.is_stale(now_ms, self._stale_ms)
                and not self._is_forgotten(held, now_ms)
                and (cluster if metric.type == "Object" else "", series) not in fresh
            }
        )
        newest = max(held.at_ms for held in fresh.values())
        return Measured(values, newest, len(fresh), self._silence(told, lacking) if lacking else "")

    def _of_pods(self, metric: SampledMetric, told: Mapping[str, _Told], pods: Iterable[str], now_ms: int) -> Measured:
        found: dict[str, Sample] = {}
        for key in pods:
            cluster, _, rest = key.partition("/")
            namespace, _, name = rest.partition("/")
            held = told[cluster].values.get(name) if cluster in told and namespace == metric.namespace else None
            if held is not None and not held.is_stale(now_ms, self._stale_ms):
                found[key] = Sample(held.value, held.at_ms, _WINDOW_MS)
        if not found:
            return Measured(Unmeasured(self._why(metric, told, now_ms)))
        return Measured(PodSamples(found), max(sample.at_ms for sample in found.values()), len(found))

    def _why(self, metric: SampledMetric, told: Mapping[str, _Told], now_ms: int) -> str:
        old = sorted({cluster for cluster, _, held in _all(told) if not self._is_forgotten(held, now_ms)})
        if old:
            return self._silence(told, old)
        said = [f"{cluster}: {one.error}" for cluster, one in sorted(told.items()) if one.error]
        api = "external" if metric.type == "External" else "custom"
        if not said:
            return f"no metrics returned from {api} metrics API: no cluster has said anything of it"
        more = f", and {len(said) - _SHOWN} clusters more" if len(said) > _SHOWN else ""
        return f"no metrics returned from {api} metrics API ({'; '.join(said[:_SHOWN])}{more})"

    def _silence(self, told: Mapping[str, _Told], clusters: list[str]) -> str:
        shown = [f"{name} ({told[name].error})" if told[name].error else name for name in clusters[:_SHOWN]]
        more = f" and {len(clusters) - _SHOWN} more" if len(clusters) > _SHOWN else ""
        return f"the newest values are older than {self._stale_ms // 1000} s, of {', '.join(shown)}{more}"

    def _is_forgotten(self, held: _Held, now_ms: int) -> bool:
        return now_ms - held.heard_ms > _FORGOTTEN * self._stale_ms


def _series(value: SampledValue) -> _Series:
    return value.pod or frozenset(value.labels.items())


def _all(told: Mapping[str, _Told]) -> Iterator[tuple[str, _Series, _Held]]:
    for cluster, one in told.items():
        for series, held in one.values.items():
            yield cluster, series, held
