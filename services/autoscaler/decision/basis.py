"""What a decision went by, as `fleet.decisions` has it, and back: `derive` decides by it once more.

Written are values within their windows, not the records that they came in: those are many, come through faust and are
not read again exactly as they were (docs/adr/0032).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, groupby, repeat
from typing import Any, NamedTuple, TypeVar

import orjson

from services.autoscaler.decision.asked import terms_of
from services.autoscaler.decision.deciding import Inputs, decide
from services.autoscaler.decision.hashes import short_hash
from services.autoscaler.decision.horizontal.limits import At, Memory
from services.autoscaler.decision.horizontal.seen import Container, Pod, PodSamples, Reading, Sample, Unmeasured, Values
from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.measured import Measured
from services.autoscaler.decision.schedules import Schedules
from shared.events.v1.scaling import PodSetScaled, Scaling, ScalingMemory, WorkloadScaled
from shared.events.v1.scaling_decisions import (
    ContainerSeen,
    MemorySeen,
    MetricSeen,
    Noted,
    PodKind,
    PodsSeen,
    ScalingBasis,
    ScalingDecided,
)

# Pods, samples and what is remembered, together: about 2 MB.
MOST_VALUES = 50_000
T = TypeVar("T")


class Origin(NamedTuple):
    """What a decision went by beside its inputs: whose life it was, its configuration, and what the workload asks."""

    life: str
    defaults: Defaults
    scaling: Scaling


def decided(workload: str, said: WorkloadScaled, inputs: Inputs, origin: Origin) -> ScalingDecided:
    """The record of a decision."""
    (pod_set,) = said.pod_sets
    # The state's hash is of what is remembered behind it, which `basis` leads to.
    short = pod_set.model_copy(update={"memory": ScalingMemory()})
    memory = inputs.memory
    remembered = len(memory.recommendations) + len(memory.ups) + len(memory.downs)
    values = len(inputs.pods) + sum(one.count for one in inputs.measured) + remembered
    basis = ScalingBasis(
        life=origin.life,
        config=config_hash(origin.defaults),
        spec=spec_hash(origin.scaling),
        state=state_hash(pod_set),
        scaling=origin.scaling,
        calendar=inputs.calendar_ms if inputs.calendar_ms != inputs.now_ms else None,
        asked=inputs.asked,
        there=inputs.there,
        former=inputs.former,
        expected=inputs.expected,
        whole=values <= MOST_VALUES,
        **(_values(inputs) if values <= MOST_VALUES else {}),
    )
    return ScalingDecided(workload=workload, scaled=said.model_copy(update={"pod_sets": (short,)}), basis=basis)


def derive(record: ScalingDecided, defaults: Defaults) -> tuple[WorkloadScaled, str]:
    """What follows from the basis of a record, as its `scaled`, and the hash of the state behind it.

    Raises ValueError where the columns of the basis do not fit together.
    """
    (pod_set,) = record.scaled.pod_sets
    inputs, scaling = inputs_of(record), record.basis.scaling
    outcome = decide(inputs, terms_of(scaling), Schedules(scaling.schedules).at(inputs.calendar_ms), defaults)
    short = outcome.said.model_copy(update={"memory": ScalingMemory(), "name": pod_set.name})
    return record.scaled.model_copy(update={"pod_sets": (short,)}), state_hash(outcome.said)


def inputs_of(record: ScalingDecided) -> Inputs:
    """Raises ValueError, as `derive`."""
    (pod_set,) = record.scaled.pod_sets
    basis = record.basis
    pods = tuple(_pods(basis.pods))
    memory = basis.memory
    return Inputs(
        pod_set=pod_set.name,
        now_ms=record.scaled.evaluated_at,
        calendar_ms=record.scaled.evaluated_at if basis.calendar is None else basis.calendar,
        asked=basis.asked,
        there=basis.there,
        former=basis.former,
        memory=Memory(
            recommendations=[At(*item) for item in memory.recommendations],
            ups=[At(*item) for item in memory.ups],
            downs=[At(*item) for item in memory.downs],
            zeroed=memory.zeroed,
        ),
        pods=pods,
        measured=tuple(_measured(metric, pods) for metric in basis.metrics),
        expected=basis.expected,
        forecast=pod_set.forecast,
    )


# --- hashes ---


def config_hash(defaults: Defaults) -> str:
    """Equal for configurations that decide alike."""
    return short_hash(orjson.dumps(asdict(defaults), option=orjson.OPT_SORT_KEYS))


def spec_hash(scaling: Scaling) -> str:
    return short_hash(scaling.to_json())


def state_hash(said: PodSetScaled) -> str:
    """Of what is asked from then on, and what is remembered."""
    return short_hash(b"%d/" % (-1 if said.replicas is None else said.replicas) + said.memory.to_json())


# --- as it is written ---


def _values(inputs: Inputs) -> dict[str, Any]:
    memory = inputs.memory
    return {
        "memory": MemorySeen(
            recommendations=_noted(memory.recommendations),
            ups=_noted(memory.ups),
            downs=_noted(memory.downs),
            zeroed=memory.zeroed,
        ),
        "pods": _pods_seen(inputs.pods),
        "metrics": tuple(_metric_seen(one, inputs.pods) for one in inputs.measured),
    }


def _noted(items: Iterable[At]) -> Noted:
    return tuple((item.replicas, item.at_ms) for item in items)


def _pods_seen(pods: tuple[Pod, ...]) -> PodsSeen:
    kinds: dict[object, int] = {}
    known: list[PodKind] = []
    numbers = []
    for pod in pods:
        key = _kind_key(pod)
        if key not in kinds:
            kinds[key] = len(known)
            known.append(_kind(pod))
        numbers.append(kinds[key])
    return PodsSeen(
        names=tuple(pod.key for pod in pods),
        kinds=tuple(known),
        kind=_runs(numbers),
        ready_since=_runs(pod.ready_since_ms for pod in pods),
        started=_runs(pod.started_ms for pod in pods),
    )


def _kind_key(pod: Pod) -> object:
    containers = tuple((item.name, tuple(item.requests.items())) for item in pod.containers)
    own = None if pod.own_requests is None else tuple(pod.own_requests.items())
    return pod.phase, pod.ready, pod.deleting, containers, own


def _kind(pod: Pod) -> PodKind:
    return PodKind(
        phase=pod.phase,
        ready=pod.ready,
        deleting=pod.deleting,
        containers=tuple(ContainerSeen(name=item.name, requests=dict(item.requests)) for item in pod.containers),
        own_requests=None if pod.own_requests is None else dict(pod.own_requests),
    )


def _metric_seen(one: Measured, pods: tuple[Pod, ...]) -> MetricSeen:
    match one.reading:
        case PodSamples(samples):
            found = [samples[pod.key] for pod in pods if pod.key in samples]
            return MetricSeen(
                of="pods",
                milli=tuple(sample.milli for sample in found),
                missing=tuple(number for number, pod in enumerate(pods) if pod.key not in samples),
                at=_runs(sample.at_ms for sample in found),
                window=_runs(sample.window_ms for sample in found),
                newest=one.newest_ms,
                lacking=one.lacking,
            )
        case Values(milli):
            return MetricSeen(of="series", milli=milli, newest=one.newest_ms, lacking=one.lacking)
        case Unmeasured(message):
            return MetricSeen(of="nothing", error=message, newest=one.newest_ms, lacking=one.lacking)


def _runs(values: Iterable[T]) -> tuple[tuple[T, int], ...]:
    return tuple((value, sum(1 for _ in same)) for value, same in groupby(values))


# --- and as it is read ---


def _pods(seen: PodsSeen) -> Iterator[Pod]:
    columns = zip(seen.names, _each(seen.kind), _each(seen.ready_since), _each(seen.started), strict=True)
    for name, number, ready_since, started in columns:
        if not 0 <= number < len(seen.kinds):
            raise ValueError(f"pod {name} is of kind {number}, of {len(seen.kinds)}")
        kind = seen.kinds[number]
        yield Pod(
            key=name,
            phase=kind.phase,
            containers=tuple(Container(item.name, item.requests) for item in kind.containers),
            own_requests=kind.own_requests,
            deleting=kind.deleting,
            ready=kind.ready,
            ready_since_ms=ready_since,
            started_ms=started,
        )


def _measured(seen: MetricSeen, pods: tuple[Pod, ...]) -> Measured:
    return Measured(_reading(seen, pods), seen.newest, len(seen.milli), seen.lacking)


def _reading(seen: MetricSeen, pods: tuple[Pod, ...]) -> Reading:
    if seen.of == "nothing":
        return Unmeasured(seen.error)
    if seen.of == "series":
        return Values(seen.milli)
    missing = set(seen.missing)
    keys = [pod.key for number, pod in enumerate(pods) if number not in missing]
    columns = zip(keys, seen.milli, _each(seen.at), _each(seen.window), strict=True)
    return PodSamples({key: Sample(milli, at_ms, window_ms) for key, milli, at_ms, window_ms in columns})


def _each(runs: Iterable[tuple[T, int]]) -> Iterator[T]:
    return chain.from_iterable(repeat(value, count) for value, count in runs)
