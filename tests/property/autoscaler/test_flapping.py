"""Metrics that flap, are missing, old or no numbers, and clocks that jump: what is asked for then, judged by a plain
history of what happened, without the autoscaler's own code.

- A change obeys every policy and both windows of its workload, also across restarts and clocks that are set.
- Nothing changes by what was first heard of longer ago than its limit.
- What was told last says whether the workload can be scaled now, and if not, why.
- When all of it is over, the workload gets what its metric asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.workloads import ScaledWorkloads
from services.autoscaler.observed import owned_pod
from shared.adapters.clock import SteadyClock
from shared.events.registry import decode
from shared.events.v1.metrics import AskedMetricsSampled, MetricSampled, SampledValue
from shared.events.v1.scaling import ConditionType, WorkloadScaled
from tests.autoscaling import CLUSTER, Json, pod_json, scaled_workload
from tests.unit.autoscaler.test_workloads import KEY, NOW, placed

STALE_S, REMEMBER_S, DOWN_S = 90, 60, 300
LEAST, MOST, EACH = 1, 20, 5
METRIC: Json = {
    "type": "External",
    "external": {"metric": {"name": "lag"}, "target": {"type": "AverageValue", "averageValue": str(EACH)}},
}
CLUSTERS = ("east", "west")
_POD = orjson.dumps(pod_json("web"))

policies = st.lists(
    st.one_of(
        st.tuples(st.just("Pods"), st.sampled_from([1, 4]), st.sampled_from([15, 60])),
        # Of what floating point divides exactly.
        st.tuples(st.just("Percent"), st.sampled_from([50, 100]), st.sampled_from([15, 60])),
    ),
    min_size=1,
    max_size=2,
)
rules = st.fixed_dictionaries(
    {"policies": policies, "select": st.sampled_from(["Max", "Max", "Min", "Disabled"])},
    optional={"window": st.sampled_from([0, 30, 300])},
)
behaviors = st.none() | st.fixed_dictionaries({"up": rules, "down": rules})
seconds = st.sampled_from([1, 15, 15, 31, 89, 91, 301, 1000])
jumps = st.sampled_from([-86_400, -3_600, -20, 20, 3_600, 86_400])
clusters = st.sampled_from(CLUSTERS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), clusters, st.sampled_from([0, 1, 4, 5, 27, 50, 51, 99, 10**12, -7])),
        st.tuples(st.just("tell"), clusters, st.sampled_from([0, 99])),
        st.tuples(st.just("repeat"), clusters, st.none()),
        st.tuples(st.just("fail"), clusters, st.sampled_from(["Prometheus says NaN or infinity", "Timeout"])),
        st.tuples(st.just("absent"), clusters, st.none()),
        st.tuples(st.just("set_theirs"), clusters, jumps),
        st.tuples(st.just("set_ours"), st.none(), jumps),
        st.tuples(st.just("pass"), st.none(), seconds),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    min_size=15,
    max_size=60,
)


def asked_behavior(behavior: Json | None) -> Json | None:
    """As a workload has it."""

    def asked(rules: Json) -> Json:
        found = [{"type": kind, "value": value, "periodSeconds": period} for kind, value, period in rules["policies"]]
        window = {"stabilizationWindowSeconds": rules["window"]} if "window" in rules else {}
        return {"policies": found, "selectPolicy": rules["select"], **window}

    return None if behavior is None else {"scaleUp": asked(behavior["up"]), "scaleDown": asked(behavior["down"])}


class Clock:
    """One that is set now and then: a port."""

    def __init__(self) -> None:
        self.passed_s, self.set_by_s = 0, 0

    def now_ms(self) -> int:
        return NOW + 1000 * (self.passed_s + self.set_by_s)

    def monotonic(self) -> float:
        return float(self.passed_s)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Measured(NamedTuple):
    """By a cluster, at a moment of its own clock; no two have one number."""

    number: int
    value: int
    at_s: int


class Told(NamedTuple):
    """What counts of a cluster, and since when that was heard of."""

    measured: Measured
    heard_s: int


class Changed(NamedTuple):
    at_s: int
    replicas: int


@dataclass
class History:
    """What happened, in seconds that truly passed."""

    behavior: Json | None
    asked: int = 2
    changes: list[Changed] = field(default_factory=lambda: [Changed(-1, 2)])
    wanted: list[Changed] = field(default_factory=list)
    unknown_until_s: int = 0

    def count_at(self, at_s: int) -> int:
        return next((item.replicas for item in reversed(self.changes) if item.at_s <= at_s), self.changes[0].replicas)

    def check(self, after: int, now_s: int) -> None:
        assert LEAST <= after <= MOST
        if now_s <= self.unknown_until_s:
            return
        most, least = self._reach(now_s)
        up_s, down_s = self._windows()
        if after > self.asked:
            assert after <= most
            # Without a behavior what was wanted in the window is wanted still, and is on its way.
            still = max(self._wanted_since(now_s - down_s)) if self.behavior is None else 0
            assert after <= max(min(self._wanted_since(now_s - up_s)), still)
        if after < self.asked:
            assert after >= least
            assert after >= min(max(self._wanted_since(now_s - down_s)), MOST)

    def _wanted_since(self, at_s: int) -> list[int]:
        return [self.wanted[-1].replicas, *(item.replicas for item in self.wanted if item.at_s > at_s)]

    def _windows(self) -> tuple[int, int]:
        if self.behavior is None:
            return 0, DOWN_S
        return self.behavior["up"].get("window", 0), self.behavior["down"].get("window", DOWN_S)

    def _reach(self, now_s: int) -> tuple[int, int]:
        """As many, and as few, as the policies allow."""
        if self.behavior is None:
            return max(2 * self.asked, 4), 0
        found = []
        for rules, sign in ((self.behavior["up"], 1), (self.behavior["down"], -1)):
            reached = []
            for kind, value, period_s in rules["policies"]:
                start = self.count_at(now_s - period_s)
                part = value if kind == "Pods" else start * value / 100
                reached.append(math.ceil(start + part) if sign > 0 else math.floor(start - part))
            widest: Callable[..., int] = max if (rules["select"] == "Max") == (sign > 0) else min
            found.append(self.asked if rules["select"] == "Disabled" else widest(reached))
        return found[0], found[1]


class World:
    def __init__(self, behavior: Json | None) -> None:
        self.clock = Clock()
        self.history = History(behavior)
        self.document = scaled_workload(behavior=asked_behavior(behavior), maxReplicas=MOST, metrics=[METRIC])
        self.told: dict[str, Told] = {}
        self.ahead_s = dict.fromkeys(CLUSTERS, 0)
        self.refused: dict[str, int] = {}
        self.sent: dict[str, Measured] = {}
        self.measured = 0
        self.heard: set[tuple[str, Measured]] = set()
        self.last: WorkloadScaled | None = None
        self.told_s = 0
        self.begin()

    # --- the autoscaler, and what it has to do with ---

    def begin(self) -> None:
        """A life, from what was told."""
        self.steady = SteadyClock(self.clock)
        self.began_by_s = self.clock.set_by_s
        for known in (self.told, self.refused, self.heard):
            known.clear()
        self.workloads = ScaledWorkloads(Defaults(), 1000 * STALE_S, 1000 * REMEMBER_S)
        self.workloads.restore(KEY, self.last)
        self.workloads.place(KEY, placed(self.document))
        (self.metric,) = self.workloads.sampled(KEY)
        self.pods = 0

    def restart(self) -> None:
        former = self.began_by_s
        self.begin()
        if self.last is not None:
            # What was wanted since it was told last is lost, within `remember_ms`.
            self.history.wanted = [item for item in self.history.wanted if item.at_s <= self.told_s]
        if self.clock.set_by_s != former:
            # By the clock that it has now, all of it was long ago, or just now: for as long as windows reach.
            self.history.unknown_until_s = self.clock.passed_s + DOWN_S

    def send(self, cluster: str, **answer: Any) -> None:
        told = MetricSampled(metric=self.metric, **answer)
        sample = AskedMetricsSampled(cluster=cluster, sampled_at=self.clock.now_ms(), metrics=(told,))
        self.workloads.observe_asked(decode(AskedMetricsSampled, sample.to_json()), self.steady.now_ms())

    def tell(self, cluster: str, measured: Measured) -> None:
        """Of a clock that was set back counts what moves on, once the former is too old."""
        self.send(cluster, values=(SampledValue(milli=1000 * measured.value, at=1000 * measured.at_s),))
        self.sent[cluster], known, at_s = measured, self.told.get(cluster), measured.at_s
        again = (cluster, measured) in self.heard
        self.heard.add((cluster, measured))
        if known is not None and at_s <= known.measured.at_s:
            if at_s == known.measured.at_s:
                return
            moves = at_s > self.refused.get(cluster, -1)
            self.refused[cluster] = at_s
            if not moves or self.is_fresh(known):
                return
        self.refused.pop(cluster, None)
        self.told[cluster] = Told(measured, self.clock.passed_s)
        assert not again

    def tell_new(self, cluster: str, value: int) -> None:
        self.measured += 1
        self.tell(cluster, Measured(self.measured, value, NOW // 1000 + self.clock.passed_s + self.ahead_s[cluster]))

    def is_fresh(self, told: Told) -> bool:
        return self.clock.passed_s - told.heard_s <= STALE_S

    # --- a look ---

    def wanted(self) -> int | None:
        """What the metric asks for, of what is not too old; None where there is nothing."""
        fresh = [told.measured.value for told in self.told.values() if self.is_fresh(told)]
        if not fresh:
            return None
        value, asked = max(fresh), self.history.asked
        if value < 0:
            # As in Kubernetes, which takes it for an overflow.
            return 2**31 - 1
        return asked if 0.9 <= value / (EACH * asked) <= 1.1 else math.ceil(value / EACH)

    def look(self) -> None:
        history, now_s = self.history, self.clock.passed_s
        self.count_pods(history.asked)
        wanted = self.wanted()
        said = self.workloads.look(KEY, self.steady.now_ms(), self.clock.now_ms())
        if self.last is None:
            # The first look counts what there is as wanted.
            history.wanted.append(Changed(now_s, history.asked))
        if said is not None:
            self.last, self.told_s = decode(WorkloadScaled, said.to_json()), now_s
        assert self.last is not None
        (pod_set,) = self.last.pod_sets
        after = history.asked if pod_set.replicas is None else pod_set.replicas
        active = {item.type: item for item in pod_set.conditions}[ConditionType.ACTIVE]
        assert active.status is (wanted is not None)
        if wanted is None:
            assert after == history.asked
            assert active.reason == "FailedGetExternalMetric"
            assert active.message
            assert pod_set.error
            return
        history.wanted.append(Changed(now_s, wanted))
        history.check(after, now_s)
        if after != history.asked:
            history.asked = after
            history.changes.append(Changed(now_s, after))

    def count_pods(self, count: int) -> None:
        """All that are asked for are there, and ready."""
        for number in range(min(count, self.pods), max(count, self.pods)):
            key = f"{CLUSTER}/default/web-{number}"
            self.workloads.observe_pod(key, owned_pod(key, _POD) if number < count else None)
        self.pods = count

    def step(self, kind: str, cluster: str | None, value: Any) -> None:
        match kind, cluster:
            case "tell", str():
                self.clock.passed_s += 1
                self.tell_new(cluster, value)
            case "repeat", str() if cluster in self.sent:
                self.tell(cluster, self.sent[cluster])
            case "fail", str():
                self.send(cluster, error=value)
            case "absent", str():
                self.send(cluster, absent=True, error="NotFound: no such metric")
                self.told.pop(cluster, None)
                self.sent.pop(cluster, None)
                self.refused.pop(cluster, None)
            case "set_theirs", str():
                self.ahead_s[cluster] += value
            case "set_ours", _:
                self.clock.set_by_s += value
            case "pass", _:
                self.clock.passed_s += value
            case "restart", _:
                self.restart()
        self.look()


@given(behaviors, steps)
def test_what_flaps_is_missing_or_old_scales_no_further_than_the_policy(
    behavior: Json | None, taken: list[tuple[str, str | None, Any]]
) -> None:
    world = World(behavior)
    for step in taken:
        world.step(*step)
    # All is well from now on, for as long as windows and the slowest rates take.
    world.ahead_s = dict.fromkeys(CLUSTERS, 0)
    for _ in range(120):
        world.clock.passed_s += 15
        for cluster in CLUSTERS:
            world.tell_new(cluster, 37)
        world.look()
    asked, last = world.history.asked, world.history.changes[-1]
    assert last.at_s < world.clock.passed_s - 15
    disabled = behavior is not None and "Disabled" in {behavior["up"]["select"], behavior["down"]["select"]}
    assert disabled or asked in {7, 8}
