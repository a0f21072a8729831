"""Everything that is known of the workloads that are scaled, and one look at one of them.

`asked` is what this autoscaler said last, which the scheduler follows; until it has said anything, what was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.autoscaler.decision import basis
from services.autoscaler.decision.asked import sampled_by, terms_of
from services.autoscaler.decision.deciding import Inputs, decide
from services.autoscaler.decision.forecast import Forecast
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import Pod, PodSamples
from services.autoscaler.decision.horizontal.terms import Defaults, Metric, Terms
from services.autoscaler.decision.learned import Learned
from services.autoscaler.decision.measured import Measured, MeasuredSeen
from services.autoscaler.decision.samples import PodSamplesSeen, pod_key
from services.autoscaler.decision.schedules import Schedules
from services.autoscaler.decision.telling import cause, gist, remembered
from services.autoscaler.decision.vertical.applying import Applying
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.metrics import AskedMetricsSampled, PodMetricsSampled
from shared.events.v1.sampling import SampledMetric
from shared.events.v1.scaling import PodSetScaled, Scaling, WorkloadScaled
from shared.events.v1.scaling_decisions import ScalingDecided
from shared.events.v1.vertical import PodSetRequests

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
    terms: Terms | None
    decided: int
    sampled: tuple[SampledMetric | None, ...] = ()
    scaling: Scaling | None = None
    schedules: Schedules = field(default_factory=lambda: Schedules(()))
    said: WorkloadScaled | None = None
    memory: Memory = field(default_factory=Memory)
    evaluated_ms: int | None = None
    # The cause of the last decision, and when that was written, as far as this autoscaler knows.
    cause: object = None
    decided_ms: int | None = None

    @property
    def former(self) -> int | None:
        """How many replicas were said last, if any were."""
        return self.said.pod_sets[0].replicas if self.said is not None and self.said.pod_sets else None

    @property
    def asked(self) -> int:
        return self.decided if self.former is None else self.former


class ScaledWorkloads:
    """`stale_ms`: age of a sample from which on it says nothing. Times are Unix milliseconds of one clock. `life` is
    what decisions say of who made them.
    """

    def __init__(
        self,
        defaults: Defaults,
        stale_ms: int,
        remember_ms: int,
        learned: Learned | None = None,
        life: str = "",
        applying: Applying | None = None,
    ) -> None:
        self._defaults = defaults
        self.learned = learned or Learned()
        self.applying = applying or Applying()
        self.life = life
        self._decided: list[ScalingDecided] = []
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
        self.applying.restore(key, said)
        if said is None:
            self._restored.pop(key, None)
        else:
            self._restored[key] = said

    def forgotten(self) -> list[str]:
        """Workloads of which something was said that are scaled no more: to be asked when all was read."""
        return sorted(self._restored.keys() - self._tracked.keys())

    def place(self, key: str, placed: WorkloadPlaced | None, generation: int = 0) -> bool:
        """A workload as it was decided upon, by which entry of the journal; whether it is scaled no more, though
        something was said of it.
        """
        self.learned.place(key, placed)
        self.applying.place(key, placed, generation)
        if placed is None or placed.deleting or not (placed.workload.scaling or key in self.applying):
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
            known.terms = terms_of(known.scaling) if known.scaling is not None else None
            known.schedules = Schedules(known.scaling.schedules if known.scaling is not None else ())
        self._ask(key, known, sampled_by(known.scaling, key, name) if known.scaling is not None else ())
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
        terms = self._tracked[key].terms
        return terms is not None and terms.behavior is not None

    def since_ms(self, key: str, now_ms: int) -> int | None:
        """How long ago it was looked at; None if it never was, or a clock was set back."""
        at_ms = self._tracked[key].evaluated_ms
        return None if at_ms is None or now_ms < at_ms else now_ms - at_ms

    def look(self, key: str, now_ms: int, calendar_ms: int | None = None) -> WorkloadScaled | None:
        """What there is to be told of a workload after a look at it, if anything is; see also `take_decided`.

        `calendar_ms` is what schedules and days go by, where that is a clock which may be set.
        """
        tracked, calendar_ms = self._tracked[key], now_ms if calendar_ms is None else calendar_ms
        if tracked.evaluated_ms is None:
            tracked.memory.not_after(now_ms)
        tracked.evaluated_ms = now_ms
        requests = self._requests(key, now_ms)
        said = WorkloadScaled(
            uid=tracked.uid,
            workload_generation=tracked.generation,
            evaluated_at=now_ms,
            pod_sets=self._scaled(key, tracked, now_ms, calendar_ms),
            requests=requests,
        )
        if tracked.said is not None and not self._is_news(tracked.said, said):
            return None
        tracked.said = said
        return said

    def _scaled(self, key: str, tracked: _Tracked, now_ms: int, calendar_ms: int) -> tuple[PodSetScaled, ...]:
        """Of a workload whose replicas are scaled."""
        if tracked.terms is None or tracked.scaling is None:
            return ()
        demand = self.learned.demand(key)
        forecast = demand.forecast(calendar_ms) if demand is not None else None
        inputs = self._inputs(key, tracked, tracked.terms, forecast, now_ms, calendar_ms)
        outcome = decide(inputs, tracked.terms, tracked.schedules.at(calendar_ms), self._defaults)
        tracked.memory = outcome.memory
        if demand is not None:
            demand.note(outcome.needed, calendar_ms)
        said = WorkloadScaled(
            uid=tracked.uid,
            workload_generation=tracked.generation,
            evaluated_at=now_ms,
            pod_sets=(outcome.said,),
        )
        if self._is_decision(tracked, said):
            tracked.cause, tracked.decided_ms = _cause(said), now_ms
            origin = basis.Origin(self.life, self._defaults, tracked.scaling)
            self._decided.append(basis.decided(key, said, inputs, origin))
        return said.pod_sets

    def _requests(self, key: str, now_ms: int) -> tuple[PodSetRequests, ...]:
        if key not in self.applying:
            return ()
        pods: dict[str, list[Pod]] = {}
        for owned in self._of_workload.get(key, {}).values():
            pods.setdefault(owned.pod_set, []).append(owned.pod)
        return self.applying.look(key, self.learned, pods, now_ms)

    def take_decided(self) -> list[ScalingDecided]:
        """What looks decided since the last call, each to stand in the log before what is told of it."""
        found, self._decided = self._decided, []
        return found

    def _inputs(
        self,
        key: str,
        tracked: _Tracked,
        terms: Terms,
        forecast: Forecast | None,
        now_ms: int,
        calendar_ms: int,
    ) -> Inputs:
        pods = {
            pod_key: owned.pod
            for pod_key, owned in self._of_workload.get(key, {}).items()
            if owned.pod_set == tracked.pod_set
        }
        return Inputs(
            pod_set=tracked.pod_set,
            now_ms=now_ms,
            calendar_ms=calendar_ms,
            asked=tracked.asked,
            there=sum(pod.phase not in _GONE and not pod.deleting for pod in pods.values()),
            former=tracked.former,
            memory=tracked.memory,
            pods=tuple(pods.values()),
            measured=tuple(
                self._reading(metric, sampled, pods, now_ms)
                for metric, sampled in zip(terms.metrics, tracked.sampled, strict=True)
            ),
            expected=forecast.replicas if forecast is not None else None,
            forecast=forecast.told() if forecast is not None else None,
        )

    def _reading(self, metric: Metric, sampled: SampledMetric | None, pods: Iterable[str], now_ms: int) -> Measured:
        if sampled is not None:
            return self._measured.reading(sampled, pods, now_ms)
        reading = self._samples.reading(metric, pods, now_ms)
        samples = reading.samples.values() if isinstance(reading, PodSamples) else ()
        return Measured(reading, max((sample.at_ms for sample in samples), default=None), len(samples))

    def _begin(self, key: str, placed: WorkloadPlaced) -> _Tracked:
        name = placed.workload.scaled_pod_set
        tracked = _Tracked(placed.uid, placed.workload_generation, name, None, 0)
        said = self._restored.pop(key, None)
        if said is not None and said.uid == placed.uid and [item.name for item in said.pod_sets] == [name] * bool(name):
            tracked.said = said
            if said.pod_sets:
                tracked.memory, tracked.cause = remembered(said.pod_sets[0].memory), _cause(said)
        return tracked

    def _is_decision(self, tracked: _Tracked, said: WorkloadScaled) -> bool:
        """Another number is one, and so is another cause of the same; but of causes that come and go with every sample
        no more are written than one in so long as what is remembered is told again.
        """
        if said.pod_sets[0].replicas != tracked.former:
            return True
        if _cause(said) == tracked.cause:
            return False
        since_ms = tracked.decided_ms
        return since_ms is None or not 0 <= said.evaluated_at - since_ms < self._remember_ms

    def _is_news(self, before: WorkloadScaled, after: WorkloadScaled) -> bool:
        if not 0 <= after.evaluated_at - before.evaluated_at < self._remember_ms:
            return True
        replicas = [gist(item) for item in before.pod_sets] != [gist(item) for item in after.pod_sets]
        requests = before.requests != after.requests
        return replicas or requests or before.workload_generation != after.workload_generation


def _cause(said: WorkloadScaled) -> object:
    return cause(said.pod_sets[0]), said.workload_generation
