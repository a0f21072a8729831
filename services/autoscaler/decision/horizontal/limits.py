"""What of a recommendation is carried out at once: within bounds, at most so fast, and not before it has lasted.

Times are Unix milliseconds of one clock. What is remembered is bounded: an entry that no window reaches is replaced.

Source: horizontal.go of k8s.io/kubernetes pkg/controller/podautoscaler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from services.autoscaler.decision.horizontal.replicas import MOST_REPLICAS
from services.autoscaler.decision.horizontal.terms import (
    Behavior,
    Defaults,
    Policy,
    PolicyType,
    Rules,
    SelectPolicy,
    Terms,
)

# Without a behavior, at one look.
_UP_FACTOR = 2.0
_UP_LEAST = 4.0

_RATE_UP = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_RATE_DOWN = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_READY = ("ReadyForNewScale", "recommended size matches current size")
_HELD_UP = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_HELD_DOWN = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)


class At(NamedTuple):
    """A recommendation, or by how much was scaled, and when."""

    replicas: int
    at_ms: int


@dataclass(slots=True)
class Memory:
    """What one workload's autoscaler remembers between looks. `zeroed`: it was this that scaled to zero."""

    recommendations: list[At] = field(default_factory=list)
    ups: list[At] = field(default_factory=list)
    downs: list[At] = field(default_factory=list)
    zeroed: bool = False

    def copy(self) -> Memory:
        return Memory(self.recommendations.copy(), self.ups.copy(), self.downs.copy(), self.zeroed)

    def began(self, asked: int, now_ms: int) -> None:
        """The first look counts what there is as a recommendation."""
        if not self.recommendations:
            self.recommendations.append(At(asked, now_ms))

    def not_after(self, now_ms: int) -> None:
        """Whoever remembered it had a clock that was ahead: it counts as of now, or windows would last as long."""
        for known in (self.recommendations, self.ups, self.downs):
            known[:] = [At(item.replicas, min(item.at_ms, now_ms)) for item in known]

    def scaled(self, behavior: Behavior | None, before: int, after: int, now_ms: int) -> None:
        """To be called when a workload is asked to have another number of replicas."""
        if behavior is None:
            return
        events, rules = (self.ups, behavior.up) if after > before else (self.downs, behavior.down)
        cutoff = now_ms - 1000 * max((policy.period_s for policy in rules.policies), default=0)
        _keep(events, At(abs(after - before), now_ms), (event.at_ms < cutoff for event in events))


@dataclass(frozen=True, slots=True)
class Limited:
    """`stabilized` and `limited` say whether the windows, and the rates and bounds, made a difference, and why."""

    replicas: int
    stabilized: bool
    stable_reason: tuple[str, str]
    limited: bool
    limit_reason: tuple[str, str]


def limit(terms: Terms, defaults: Defaults, memory: Memory, asked: int, wanted: int, now_ms: int) -> Limited:
    """Of `wanted` replicas as many as may be asked for now, where `asked` are; the recommendation is remembered."""
    if terms.behavior is None:
        stable = _stable(memory, wanted, now_ms - 1000 * defaults.down_stabilization_s, now_ms)
        held = _HELD_DOWN
        replicas, why = _bounded(terms, asked, stable)
    else:
        stable = _stable_both_ways(terms.behavior, defaults, memory, asked, wanted, now_ms)
        held = _HELD_UP if wanted >= asked else _HELD_DOWN
        replicas, why = _at_rate(terms, terms.behavior, memory, asked, stable, now_ms)
    changed = stable != wanted
    return Limited(replicas, changed, held if changed else _READY, replicas != stable, why)


# --- stabilisation ---


def _stable(memory: Memory, wanted: int, cutoff: int, now_ms: int) -> int:
    """The highest of the window, so that nothing is taken away that was wanted a moment ago."""
    recent = [item.replicas for item in memory.recommendations if item.at_ms >= cutoff]
    _keep(memory.recommendations, At(wanted, now_ms), (item.at_ms < cutoff for item in memory.recommendations))
    return max(wanted, *recent) if recent else wanted


def _stable_both_ways(
    behavior: Behavior, defaults: Defaults, memory: Memory, asked: int, wanted: int, now_ms: int
) -> int:
    """Up no further than the lowest of its window, down no further than the highest of its own."""
    down_s = behavior.down.stabilization_s
    up_cutoff = now_ms - 1000 * (behavior.up.stabilization_s or 0)
    down_cutoff = now_ms - 1000 * (defaults.down_stabilization_s if down_s is None else down_s)
    known = memory.recommendations
    lowest = min([wanted, *(item.replicas for item in known if item.at_ms > up_cutoff)])
    highest = max([wanted, *(item.replicas for item in known if item.at_ms > down_cutoff)])
    _keep(known, At(wanted, now_ms), (item.at_ms < min(up_cutoff, down_cutoff) for item in known))
    return min(max(asked, lowest), highest)


def _keep(known: list[At], new: At, outdated: Iterable[bool]) -> None:
    """In the place of the last one that is outdated, else behind all of them."""
    places = [index for index, is_old in enumerate(outdated) if is_old]
    if places:
        known[places[-1]] = new
    else:
        known.append(new)


# --- bounds and rates ---


def _bounded(terms: Terms, asked: int, wanted: int) -> tuple[int, tuple[str, str]]:
    rate = int(max(_UP_FACTOR * asked, _UP_LEAST))
    most, why = (rate, _RATE_UP) if terms.max_replicas > rate else (terms.max_replicas, _TOO_MANY)
    if wanted < terms.min_replicas:
        return terms.min_replicas, _TOO_FEW
    return (most, why) if wanted > most else (wanted, _WITHIN)


def _at_rate(
    terms: Terms, behavior: Behavior, memory: Memory, asked: int, wanted: int, now_ms: int
) -> tuple[int, tuple[str, str]]:
    if wanted > asked:
        rate = max(_reach(behavior.up, memory, asked, now_ms, up=True), asked)
        most, why = (rate, _RATE_UP) if terms.max_replicas > rate else (terms.max_replicas, _TOO_MANY)
        return (most, why) if wanted > most else (wanted, _WITHIN)
    if wanted < asked:
        rate = min(_reach(behavior.down, memory, asked, now_ms, up=False), asked)
        least, why = (rate, _RATE_DOWN) if terms.min_replicas < rate else (terms.min_replicas, _TOO_FEW)
        return (least, why) if wanted < least else (wanted, _WITHIN)
    return wanted, _WITHIN


def _reach(rules: Rules, memory: Memory, asked: int, now_ms: int, *, up: bool) -> int:
    """How far the policies go in one direction, from where each one's period began."""
    if rules.select is SelectPolicy.DISABLED:
        return asked
    reached = [_proposed(policy, memory, asked, now_ms, up=up) for policy in rules.policies]
    # The greatest change is the highest count upwards, and the lowest downwards.
    highest = (rules.select is SelectPolicy.MIN) is not up
    if not reached:
        return -MOST_REPLICAS - 1 if highest else MOST_REPLICAS
    return max(reached) if highest else min(reached)


def _proposed(policy: Policy, memory: Memory, asked: int, now_ms: int, *, up: bool) -> int:
    cutoff = now_ms - 1000 * policy.period_s
    start = asked - _changed(memory.ups, cutoff) + _changed(memory.downs, cutoff)
    if policy.type is PolicyType.PODS:
        return start + policy.value if up else start - policy.value
    if up:
        return math.ceil(start * (1 + policy.value / 100))
    return int(start * (1 - policy.value / 100))


def _changed(events: Iterable[At], cutoff: int) -> int:
    return sum(event.replicas for event in events if event.at_ms > cutoff)
