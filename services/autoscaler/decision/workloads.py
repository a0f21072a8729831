"""Everything that is known of the workloads that are scaled, and one look at one of them.

`asked` is what this autoscaler said last, which the scheduler follows; until it has said anything, what was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from services.autoscaler.decision.asked import sampled_by, terms_of
from services.autoscaler.decision.horizontal.evaluation import evaluate, settle
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import Pod, PodSamples, Reading, Seen, Unmeasured
from services.autoscaler.decision.horizontal.terms import Defaults, Metric, Terms
from services.autoscaler.decision.learned import Learned
from services.autoscaler.decision.measured import Measured, MeasuredSeen
from services.autoscaler.decision.samples import PodSamplesSeen, pod_key
from services.autoscaler.decision.schedules import Schedules, scheduled
from services.autoscaler.decision.telling import Looked, gist, remembered, told
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.metrics import AskedMetricsSampled, PodMetricsSampled
from shared.events.v1.sampling import SampledMetric
from shared.events.v1.scaling import Scaling, WorkloadScaled

_GONE = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class OwnedPod:
    """A pod of the fleet, and whose it is."""

    workload: str
    pod_set: str
    pod: Pod


@dataclass(slots=True)
class _Tracked:
    uid: str
    generation: int
    pod_set: str
    terms: Terms
    decided: int
    sampled: tuple[SampledMetric | None, ...] = ()
    scaling: Scaling | None = None
    schedules: Schedules = field(default_factory=lambda: Schedules(()))
    said: WorkloadScaled | None = None
    memory: Memory = field(default_factory=Memory)
    evaluated_ms: int | None = None

    @property
    def asked(self) -> int:
        said = self.said.pod_sets[0].replicas if self.said is not None else None
        return self.decided if said is None else said


class ScaledWorkloads:
    """`stale_ms`: age of a sample from which on it says nothing. Times are Unix milliseconds of one clock."""

    def __init__(self, defaults: Defaults, stale_ms: int, remember_ms: int, learned: Learned | None = None) -> None:
        self._defaults = defaults
        self.learned = learned or Learned()
        self._remember_ms = remember_ms
        self._tracked: dict[str, _Tracked] = {}
        self._restored: dict[str, WorkloadScaled] = {}
        self._pods: dict[str, OwnedPod] = {}
        self._of_workload: dict[str, dict[str, OwnedPod]] = {}
        self._samples = PodSamplesSeen(stale_ms)
        self._measured = MeasuredSeen(stale_ms)
        self._askers: dict[SampledMetric, set[str]] = {}

    def __len__(self) -> int:
        return len(self._tracked)

    def __contains__(self, key: str) -> bool:
        return key in self._tracked

    def __iter__(self) -> Iterator[str]:
        return iter(self._tracked)

    # --- what is observed ---

    def restore(self, key: str, said: WorkloadScaled | None) -> None:
        """What was said last, as it stands in the log at the start. None is a tombstone."""
        if said is None or not said.pod_sets:
            self._restored.pop(key, None)
        else:
            self._restored[key] = said

    def forgotten(self) -> list[str]:
        """Workloads of which something was said that are scaled no more: to be asked when all was read."""
        return sorted(self._restored.keys() - self._tracked.keys())

    def place(self, key: str, placed: WorkloadPlaced | None) -> bool:
        """A workload as it was decided upon; whether it is scaled no more, though something was said of it."""
        self.learned.place(key, placed)
        if placed is None or placed.deleting or placed.workload.scaling is None:
            tracked = self._tracked.pop(key, None)
            self._ask(key, tracked, ())
            return tracked is not None and tracked.said is not None
        name = placed.workload.scaled_pod_set
        decided = next((item.desired for item in placed.pod_sets if item.name == name), 0)
        known = self._tracked.get(key)
        if known is None or known.uid != placed.uid or known.pod_set != name:
            self._ask(key, known, ())
            known = self._tracked[key] = self._begin(key, placed)
        if known.scaling != placed.workload.scaling:
            known.scaling = placed.workload.scaling
            known.terms, known.schedules = terms_of(known.scaling), Schedules(known.scaling.schedules)
        self._ask(key, known, sampled_by(placed.workload.scaling, key, name))
        known.generation, known.decided = placed.workload_generation, decided
        return False

    def _ask(self, key: str, tracked: _Tracked | None, sampled: tuple[SampledMetric | None, ...]) -> None:
        if tracked is None or tracked.sampled == sampled:
            return
        before, after = set(filter(None, tracked.sampled)), set(filter(None, sampled))
        self._measured.ask(after)
        self._measured.unask(before)
        for metric in before - after:
            self._askers[metric].discard(key)
            if not self._askers[metric]:
                del self._askers[metric]
        for metric in after:
            self._askers.setdefault(metric, set()).add(key)
        tracked.sampled = sampled

    def sampled(self, key: str) -> tuple[SampledMetric, ...]:
        """What watchers are to measure for a workload, each once."""
        tracked = self._tracked.get(key)
        return tuple(dict.fromkeys(filter(None, tracked.sampled))) if tracked is not None else ()

    def observe_pod(self, key: str, owned: OwnedPod | None) -> None:
        former = self._pods.pop(key, None)
        if former is not None:
            self._of_workload[former.workload].pop(key, None)
        if owned is None:
            self._samples.forget(key)
            self.learned.forget(key)
            return
        self._pods[key] = owned
        self._of_workload.setdefault(owned.workload, {})[key] = owned

    def observe_samples(self, sample: PodMetricsSampled, now_ms: int) -> set[str]:
        """The workloads of whose pods there is something newer."""
        fresh = self._samples.take(sample, now_ms, self._pods)
        for usage in sample.pods:
            key = pod_key(sample.cluster, usage)
            if key in fresh:
                owned = self._pods[key]
                self.learned.use(owned.workload, owned.pod_set, key, usage.containers, now_ms)
        return {self._pods[key].workload for key in fresh} & self._tracked.keys()

    def observe_asked(self, sample: AskedMetricsSampled, now_ms: int) -> set[str]:
        """The workloads that are scaled by something of which there is something newer."""
        return {key for metric in self._measured.take(sample, now_ms) for key in self._askers.get(metric, ())}

    # --- what is decided ---

    def reacts(self, key: str) -> bool:
        """Whether it may be looked at whenever samples come: without a behavior it grows by so much at each look."""
        return self._tracked[key].terms.behavior is not None

    def since_ms(self, key: str, now_ms: int) -> int | None:
        """How long ago it was looked at; None if it never was, or a clock was set back."""
        at_ms = self._tracked[key].evaluated_ms
        return None if at_ms is None or now_ms < at_ms else now_ms - at_ms

    def look(self, key: str, now_ms: int) -> WorkloadScaled | None:
        """What there is to be told of a workload after a look at it, if anything is."""
        tracked = self._tracked[key]
        tracked.evaluated_ms = now_ms
        asked = tracked.asked
        pods = {
            pod_key: owned.pod
            for pod_key, owned in self._of_workload.get(key, {}).items()
            if owned.pod_set == tracked.pod_set
        }
        there = sum(pod.phase not in _GONE and not pod.deleting for pod in pods.values())
        measured = tuple(
            self._reading(metric, sampled, pods, now_ms)
            for metric, sampled in zip(tracked.terms.metrics, tracked.sampled, strict=True)
        )
        terms, readings = _with_gaps(tracked.terms, measured)
        seen = Seen(asked, there, tuple(pods.values()), readings)
        # Who was set to zero by hand is started by no schedule either.
        parked = not asked and not tracked.memory.zeroed
        demand = self.learned.demand(key)
        forecast = demand.forecast(now_ms) if demand is not None else None
        expected = forecast.replicas if forecast is not None else None
        result = evaluate(terms, self._defaults, seen, tracked.memory, now_ms, expected)
        if demand is not None:
            demand.note(result.needed, now_ms)
        if not parked:
            result = scheduled(result, asked, tracked.schedules.at(now_ms))
        if result.replicas is not None and result.replicas != asked:
            settle(tracked.terms, tracked.memory, asked, result.replicas, now_ms)
        said = _said(tracked, Looked(seen, tracked.terms.metrics, measured, forecast, result), now_ms)
        if tracked.said is not None and not self._is_news(tracked.said, said):
            return None
        tracked.said = said
        return said

    def _reading(self, metric: Metric, sampled: SampledMetric | None, pods: Iterable[str], now_ms: int) -> Measured:
        if sampled is not None:
            return self._measured.reading(sampled, pods, now_ms)
        reading = self._samples.reading(metric, pods, now_ms)
        samples = reading.samples.values() if isinstance(reading, PodSamples) else ()
        return Measured(reading, max((sample.at_ms for sample in samples), default=None), len(samples))

    def _begin(self, key: str, placed: WorkloadPlaced) -> _Tracked:
        assert placed.workload.scaling is not None
        name = placed.workload.scaled_pod_set
        tracked = _Tracked(placed.uid, placed.workload_generation, name, terms_of(placed.workload.scaling), 0)
        said = self._restored.pop(key, None)
        if said is not None and said.uid == placed.uid and said.pod_sets[0].name == name:
            tracked.said, tracked.memory = said, remembered(said.pod_sets[0].memory)
        return tracked

    def _is_news(self, before: WorkloadScaled, after: WorkloadScaled) -> bool:
        old, new = before.pod_sets[0], after.pod_sets[0]
        if not 0 <= after.evaluated_at - before.evaluated_at < self._remember_ms:
            return True
        return gist(old) != gist(new) or before.workload_generation != after.workload_generation


def _with_gaps(terms: Terms, measured: tuple[Measured, ...]) -> tuple[Terms, tuple[Reading, ...]]:
    """Where a part of a metric is not known, it counts as one more that failed: by the rest nothing is scaled down."""
    gaps = [
        (metric, Unmeasured(one.lacking)) for metric, one in zip(terms.metrics, measured, strict=True) if one.lacking
    ]
    metrics = (*terms.metrics, *(metric for metric, _ in gaps))
    return replace(terms, metrics=metrics), (*(one.reading for one in measured), *(gap for _, gap in gaps))


def _said(tracked: _Tracked, looked: Looked, now_ms: int) -> WorkloadScaled:
    former = tracked.said.pod_sets[0].replicas if tracked.said is not None else None
    pod_set = told(tracked.pod_set, looked, tracked.memory, former)
    return WorkloadScaled(
        uid=tracked.uid, workload_generation=tracked.generation, evaluated_at=now_ms, pod_sets=(pod_set,)
    )
