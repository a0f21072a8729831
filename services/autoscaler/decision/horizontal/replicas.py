"""How many replicas one metric asks for.

Pods without a value, and those that are not ready, count so that they hold back whatever is about to happen: as if
they took all that they may where there would be fewer replicas, and nothing where there would be more.

Source: replica_calculator.go and metrics/utilization.go of k8s.io/kubernetes pkg/controller/podautoscaler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from services.autoscaler.decision.horizontal.seen import Pod, PodSamples, Reading, Sample, Seen, Unmeasured, Values
from services.autoscaler.decision.horizontal.terms import Defaults, Metric, MetricType, Tolerances

MOST_REPLICAS = 2**31 - 1
MOST_MILLI = 2**63 - 1
_CPU = "cpu"

# Of values by pod: the ratio of use to target, and the use as it is told: percent, or thousandths for each pod.
_Ratio = Callable[[Mapping[str, int]], tuple[float, int]]


class MetricError(Exception):
    """No count can be had from a metric; the message is for whoever asked for it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`replicas` to ask for; `current` is the use that was compared: percent, or thousandths.

    `needed` are the replicas that would be at their target, neither rounded nor within a tolerance; None where too
    little was measured to say it. The original has no such thing, and nothing here goes by it: forecasts learn from it.
    """

    replicas: int
    current: int
    needed: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What all metrics of one look are judged with."""

    seen: Seen
    tolerances: Tolerances
    defaults: Defaults
    now_ms: int


def propose(metric: Metric, reading: Reading, look: Look) -> Proposal:
    """Raises MetricError."""
    if isinstance(reading, Unmeasured):
        raise MetricError(f"unable to get metric {metric.name}: {reading.message}")
    target = metric.target
    match metric.type, reading:
        case MetricType.RESOURCE | MetricType.CONTAINER_RESOURCE, PodSamples():
            if target.average_milli is not None:
                return _by_pods(reading, look, metric.name, _to_value(target.average_milli), target.average_milli)
            if target.utilization is not None:
                return _by_utilization(metric, reading, look, target.utilization)
        case MetricType.PODS, PodSamples():
            if target.average_milli is not None:
                return _by_pods(reading, look, "", _to_value(target.average_milli), target.average_milli)
        case MetricType.OBJECT | MetricType.EXTERNAL, Values():
            return _by_value(metric, reading, look)
    raise MetricError(f"invalid {metric.type} metric source: no target was set that suits it")


def _by_utilization(metric: Metric, reading: PodSamples, look: Look, percent: int) -> Proposal:
    def requests() -> dict[str, int]:
        return {pod.key: _request(pod, metric.container, metric.name) for pod in look.seen.pods}

    def ratio(asked: Mapping[str, int], values: Mapping[str, int]) -> tuple[float, int]:
        total = sum(asked.get(key, 0) for key in values)
        if not total:
            raise MetricError("no metrics returned matched known pods")
        use = _quotient(100 * sum(value for key, value in values.items() if key in asked), total)
        return use / percent, use

    groups = _Groups.of(reading.samples, look, metric.name)
    asked = requests()
    fallback = {key: _quotient(asked[key] * max(100, percent), 100) for key in groups.missing}
    return _settled(groups, look, lambda values: ratio(asked, values), fallback)


def _by_pods(reading: PodSamples, look: Look, resource: str, ratio: _Ratio, target_milli: int) -> Proposal:
    groups = _Groups.of(reading.samples, look, resource)
    return _settled(groups, look, ratio, dict.fromkeys(groups.missing, target_milli))


def _to_value(target_milli: int) -> _Ratio:
    def ratio(values: Mapping[str, int]) -> tuple[float, int]:
        use = _quotient(sum(values.values()), len(values))
        return use / target_milli, use

    return ratio


@dataclass(frozen=True, slots=True)
class _Groups:
    """Values of the pods that count, how many of them are ready, and the keys of the others."""

    values: Mapping[str, int]
    ready: int
    unready: frozenset[str]
    missing: frozenset[str]

    @classmethod
    def of(cls, samples: Mapping[str, Sample], look: Look, resource: str) -> _Groups:
        """`resource` is empty for what is none. Raises MetricError where no pod counts."""
        if not look.seen.pods:
            raise MetricError("no pods returned by selector while calculating replica count")
        ready, unready, missing, ignored = 0, set(), set(), set()
        for pod in look.seen.pods:
            sample = samples.get(pod.key)
            if pod.deleting or pod.phase == "Failed":
                ignored.add(pod.key)
            elif pod.phase == "Pending":
                unready.add(pod.key)
            elif sample is None:
                missing.add(pod.key)
            elif resource == _CPU and _is_initializing(pod, sample, look):
                unready.add(pod.key)
            else:
                ready += 1
        values = {key: sample.milli for key, sample in samples.items() if key not in ignored and key not in unready}
        if not values:
            raise MetricError("did not receive metrics for targeted pods (pods might be unready)")
        return cls(values, ready, frozenset(unready), frozenset(missing))


def _is_initializing(pod: Pod, sample: Sample, look: Look) -> bool:
    """Whether what was measured of cpu says nothing yet: pods take more of it while they start."""
    if not pod.ready or pod.started_ms is None:
        return True
    if pod.started_ms + look.defaults.cpu_initialization_ms > look.now_ms:
        return pod.ready == "False" or sample.at_ms < pod.ready_since_ms + sample.window_ms
    return pod.ready == "False" and pod.started_ms + look.defaults.initial_readiness_ms > pod.ready_since_ms


def _settled(groups: _Groups, look: Look, ratio_of: _Ratio, fallback: Mapping[str, int]) -> Proposal:
    """`fallback` is what pods without a value count with where there would be fewer."""
    ratio, current = ratio_of(groups.values)
    # Pods without a value are taken to be as the others, where those are the most.
    sharing = groups.ready + len(groups.missing)
    needed = ratio * sharing if len(groups.missing) <= groups.ready else None
    return Proposal(_balanced(groups, look, ratio_of, fallback, ratio), current, needed)


def _balanced(groups: _Groups, look: Look, ratio_of: _Ratio, fallback: Mapping[str, int], ratio: float) -> int:
    asked = look.seen.asked
    values = dict(groups.values)
    grows_with_unready = bool(groups.unready) and ratio > 1.0
    if not grows_with_unready and not groups.missing:
        return asked if look.tolerances.allow(ratio) else _up(ratio * groups.ready)
    if ratio < 1.0:
        values |= fallback
    elif ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if grows_with_unready:
        values |= dict.fromkeys(groups.unready, 0)
    again, _ = ratio_of(values)
    turns = (ratio < 1.0 < again) or (again < 1.0 < ratio)
    if look.tolerances.allow(again) or turns:
        return asked
    replicas = _up(again * len(values))
    # The other number of values alone may not turn it round either.
    turns = (again < 1.0 and replicas > asked) or (again > 1.0 and replicas < asked)
    return asked if turns else replicas


def _by_value(metric: Metric, reading: Values, look: Look) -> Proposal:
    use, seen = min(sum(reading.milli), MOST_MILLI), look.seen
    if metric.target.average_milli is not None:
        each = metric.target.average_milli
        if metric.type is MetricType.EXTERNAL and any(total < 0 for total in accumulate(reading.milli)):
            # As in the original, which takes it for an overflow.
            use = MOST_MILLI
        ratio = _divided(use, each * float(seen.there))
        replicas = seen.there if look.tolerances.allow(ratio) else _up(use / each)
        current = use if use >= MOST_MILLI or not seen.there else math.ceil(use / seen.there)
        return Proposal(replicas, current, use / each if 0 <= use < MOST_MILLI else None)
    if metric.target.value_milli is None:
        raise MetricError(f"invalid {metric.type} metric source: neither a value nor an average value was set")
    ratio = use / metric.target.value_milli
    if not seen.asked:
        return Proposal(_up(ratio), use, ratio)
    ready = sum(pod.counts for pod in seen.pods)
    needed = ratio * ready if ready else None
    if look.tolerances.allow(ratio):
        return Proposal(seen.asked, use, needed)
    if not seen.pods:
        raise MetricError("unable to calculate ready pods: no pods returned by selector")
    return Proposal(_up(ratio * ready), use, needed)


def _request(pod: Pod, container: str, resource: str) -> int:
    """Raises MetricError where a request is missing: a part of nothing is not known."""
    if pod.own_requests is not None and not container:
        if resource not in pod.own_requests:
            raise MetricError(f"missing pod-level request for {resource} in Pod {pod.key}")
        return pod.own_requests[resource]
    found: Sequence[tuple[str, int | None]] = [
        (item.name, item.requests.get(resource)) for item in pod.containers if container in {"", item.name}
    ]
    if container and not found:
        raise MetricError(f"container {container} not found in Pod {pod.key}")
    for name, request in found:
        if request is None:
            raise MetricError(f"missing request for {resource} in container {name} of Pod {pod.key}")
    return sum(_known(request for _, request in found))


def _known(requests: Iterable[int | None]) -> Iterable[int]:
    return (request for request in requests if request is not None)


def _up(count: float) -> int:
    """The next whole number, within what a replica count can be."""
    return math.ceil(count) if count <= MOST_REPLICAS else MOST_REPLICAS


def _quotient(amount: int, by: int) -> int:
    """Whole, towards zero."""
    return amount // by if amount >= 0 else -(-amount // by)


def _divided(amount: int, by: float) -> float:
    """As floating point divides: by zero it is infinite, or nothing that can be compared."""
    if by:
        return amount / by
    return math.copysign(math.inf, amount) if amount else math.nan
