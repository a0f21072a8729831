"""One look at a workload: what its metrics propose together, and how many replicas are asked for then."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from services.autoscaler.decision.horizontal.limits import Memory, limit
from services.autoscaler.decision.horizontal.replicas import Look, MetricError, Proposal, propose
from services.autoscaler.decision.horizontal.seen import Seen
from services.autoscaler.decision.horizontal.terms import Defaults, Terms, Tolerances

_ABOVE = "Current number of replicas above Spec.MaxReplicas"
_BELOW = "Current number of replicas below Spec.MinReplicas"


@dataclass(frozen=True, slots=True)
class Condition:
    """As of an `autoscaling/v2` HorizontalPodAutoscaler: `ScalingActive`, `AbleToScale` or `ScalingLimited`."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`replicas` to be asked for, None where it cannot be said; `reason` for another number than is asked for now.

    `proposals` are those of the metrics, in their order; None for one that failed. `error` is the first failure, also
    where others were enough to go on.
    """

    replicas: int | None
    reason: str = ""
    proposals: tuple[Proposal | None, ...] = ()
    conditions: tuple[Condition, ...] = ()
    error: str = ""

    @property
    def needed(self) -> float | None:
        """Replicas by which every metric would be at its target; None where a metric could not be measured."""
        found = [None if proposal is None else proposal.needed for proposal in self.proposals]
        known = [needed for needed in found if needed is not None]
        return max(known) if known and len(known) == len(found) else None


def evaluate(
    terms: Terms, defaults: Defaults, seen: Seen, memory: Memory, now_ms: int, expected: float | None = None
) -> Evaluation:
    """What the HorizontalPodAutoscaler would do at this moment; `memory` goes on with it.

    `expected` replicas by a forecast count as one more metric does, as long as the others can be measured: the highest
    counts, within the same windows, rates and bounds. Whoever carries it out tells `memory` by `settle`.
    """
    memory.began(seen.asked, now_ms)
    if not seen.asked and not (memory.zeroed and (terms.min_replicas or terms.scales_from_zero)):
        message = "scaling is disabled since the replica count of the target is zero"
        return Evaluation(0, conditions=(Condition("ScalingActive", False, "ScalingDisabled", message),))
    if seen.asked > terms.max_replicas:
        return Evaluation(terms.max_replicas, _ABOVE)
    if 0 < seen.asked < terms.min_replicas:
        return Evaluation(terms.min_replicas, _BELOW)
    look = Look(seen, Tolerances.of(terms.behavior, defaults), defaults, now_ms)
    found = _by_metrics(terms, look)
    if found.replicas is None:
        return found
    if expected is not None:
        found = _with_expected(found, expected, look)
    wanted = max(found.replicas or 0, 0)
    limited = limit(terms, defaults, memory, seen.asked, wanted, now_ms)
    conditions = (
        *found.conditions,
        Condition("AbleToScale", True, *limited.stable_reason),
        Condition("ScalingLimited", limited.limited, *limited.limit_reason),
    )
    replicas, reason = limited.replicas, ""
    if wanted > seen.asked:
        reason = f"{found.reason} above target"
    elif wanted < seen.asked:
        reason = "All metrics below target"
    if not seen.asked and terms.min_replicas and replicas < terms.min_replicas:
        replicas, reason = terms.min_replicas, reason or _BELOW
    return Evaluation(replicas, reason if replicas != seen.asked else "", found.proposals, conditions, found.error)


def settle(terms: Terms, memory: Memory, before: int, after: int, now_ms: int) -> None:
    """Another number of replicas is asked for from now on, by an evaluation."""
    memory.scaled(terms.behavior, before, after, now_ms)
    memory.zeroed = before > 0 and not after and not terms.min_replicas and terms.scales_from_zero


def _with_expected(found: Evaluation, expected: float, look: Look) -> Evaluation:
    asked, measured = look.seen.asked, found.replicas or 0
    replicas = asked if asked and look.tolerances.allow(expected / asked) else math.ceil(expected)
    if replicas <= measured:
        return found
    message = f"the forecast asks for {replicas} replicas, what is measured now for {measured}"
    condition = Condition("ScalingActive", True, "ForecastAhead", message)
    return replace(found, replicas=replicas, reason="expected demand", conditions=(condition,))


def _by_metrics(terms: Terms, look: Look) -> Evaluation:
    """The highest of what metrics propose, `reason` names the metric; with one that fails nothing is scaled down."""
    replicas, by = 0, ""
    proposals: list[Proposal | None] = []
    failures: list[Condition] = []
    for metric, reading in zip(terms.metrics, look.seen.readings, strict=True):
        try:
            proposal = propose(metric, reading, look)
        except MetricError as failure:
            message = f"the HPA was unable to compute the replica count: {failure}"
            failures.append(Condition("ScalingActive", False, f"FailedGet{metric.type}Metric", message))
            proposals.append(None)
            continue
        proposals.append(proposal)
        if not replicas or proposal.replicas > replicas:
            replicas, by = proposal.replicas, metric.described
    error = ""
    if failures:
        count = f"{len(failures)} invalid out of {len(terms.metrics)}"
        error = f"invalid metrics ({count}), first error is: {failures[0].message}"
    if len(failures) == len(terms.metrics) or (failures and replicas < look.seen.asked):
        return Evaluation(None, "", tuple(proposals), (failures[0],), error)
    message = f"the HPA was able to successfully calculate a replica count from {by}"
    return Evaluation(
        replicas, by, tuple(proposals), (Condition("ScalingActive", True, "ValidMetricFound", message),), error
    )
