"""Metrics beside cpu and memory: what is asked for, what clusters say of it together, and when it is too old."""

from __future__ import annotations

from typing import Any

from services.autoscaler.decision.horizontal.seen import Unmeasured, Values
from services.autoscaler.decision.measured import MeasuredSeen
from shared.events.v1.metrics import AskedMetricsSampled, MetricSampled, SampledValue
from shared.events.v1.sampling import SampledMetric, SampledObject
from shared.events.v1.scaling import WorkloadScaled
from tests.autoscaling import CLUSTER, Json, scaled_workload
from tests.unit.autoscaler.test_workloads import KEY, NOW, Seen, placed, replicas

STALE_MS = 90_000
EACH_5: Json = {"type": "AverageValue", "averageValue": "5"}
LAG: Json = {
    "type": "External",
    "external": {"metric": {"name": "lag", "selector": {"matchLabels": {"topic": "orders"}}}, "target": EACH_5},
}
REQUESTS: Json = {"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": EACH_5}}
INGRESS: Json = {
    "type": "Object",
    "object": {
        "metric": {"name": "hits"},
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web"},
        "target": {"type": "Value", "value": "10"},
    },
}


class Fleet(Seen):
    """One workload that is scaled by one metric, and clusters that say something of it."""

    def __init__(self, metric: Json, pods: int = 2, **more: Any) -> None:
        super().__init__(pods, metrics=[metric], **more)
        (self.metric,) = self.workloads.sampled(KEY)

    def tell(self, *values: SampledValue, cluster: str = CLUSTER, **answer: Any) -> set[str]:
        told = MetricSampled(metric=self.metric, values=values, **answer)
        sample = AskedMetricsSampled(cluster=cluster, sampled_at=self.now, metrics=(told,))
        return self.workloads.observe_asked(sample, self.now)

    def after(self, ms: int) -> WorkloadScaled | None:
        self.now += ms
        return self.workloads.look(KEY, self.now)


def units(count: float, **more: Any) -> SampledValue:
    return SampledValue(milli=round(count * 1000), **more)


def error(said: WorkloadScaled | None) -> str:
    assert said is not None
    return said.pod_sets[0].error


def test_what_is_asked_for_is_what_the_metrics_apis_take() -> None:
    assert Fleet(LAG).metric == SampledMetric(type="External", namespace="default", name="lag", selector="topic=orders")
    pods = "flotilla.dev/pod-set=main,flotilla.dev/workload=web,flotilla.dev/workload-namespace=default"
    assert Fleet(REQUESTS).metric == SampledMetric(type="Pods", namespace="default", name="requests", pods=pods)
    about = SampledObject(api_version="networking.k8s.io/v1", kind="Ingress", name="web")
    assert Fleet(INGRESS).metric == SampledMetric(type="Object", namespace="default", name="hits", object=about)
    assert Seen().workloads.sampled(KEY) == ()


def test_pods_follow_their_own_metric() -> None:
    fleet = Fleet(REQUESTS)
    assert fleet.tell(units(10, pod="web-0"), units(20, pod="web-1"), units(900, pod="other")) == {KEY}
    said = fleet.after(0)
    assert replicas(said) == 6
    assert said is not None
    assert said.pod_sets[0].reason == "pods metric requests above target"
    assert (said.pod_sets[0].metrics[0].samples, said.pod_sets[0].metrics[0].newest) == (2, NOW)


def test_many_pods_come_in_parts() -> None:
    fleet = Fleet(REQUESTS)
    fleet.tell(units(10, pod="web-0"))
    fleet.tell(units(10, pod="web-1"))
    assert replicas(fleet.after(0)) == 4


def test_an_object_is_added_up_over_clusters() -> None:
    fleet = Fleet(INGRESS)
    fleet.tell(units(10))
    fleet.tell(units(20), cluster="west")
    assert replicas(fleet.after(0)) == 6


def test_a_series_that_several_clusters_tell_is_one() -> None:
    fleet = Fleet(LAG)
    fleet.tell(units(20, labels={"partition": "0"}), units(10, labels={"partition": "1"}))
    fleet.tell(units(15, labels={"partition": "0"}), units(11, labels={"partition": "1"}), cluster="west")
    # 20 and 11, the most that anybody says of each.
    assert replicas(fleet.after(0)) == 7


def test_from_zero_and_to_zero() -> None:
    fleet = Fleet(LAG, minReplicas=0)
    fleet.tell(units(0))
    assert replicas(fleet.after(0)) == 0
    for number in range(2):
        fleet.pod(f"web-{number}", None)
    fleet.now += 15_000
    assert fleet.tell(units(0)) == {KEY}
    assert fleet.after(0) is None
    fleet.now += 15_000
    fleet.tell(units(12))
    said = fleet.after(0)
    assert replicas(said) == 3
    assert said is not None
    assert said.pod_sets[0].before == 0


def test_who_was_set_to_zero_by_hand_stays_there() -> None:
    fleet = Fleet(LAG, pods=0, minReplicas=0, replicas=0)
    fleet.workloads.place(KEY, placed(scaled_workload(metrics=[LAG], minReplicas=0), desired=0))
    fleet.tell(units(50))
    said = fleet.after(0)
    assert replicas(said) == 0
    assert said is not None
    assert said.pod_sets[0].conditions[0].reason == "ScalingDisabled"


def test_at_zero_what_is_not_known_scales_nothing() -> None:
    fleet = Fleet(LAG, minReplicas=0)
    fleet.tell(units(0))
    assert replicas(fleet.after(0)) == 0
    fleet.tell(error="Timeout: external.metrics.k8s.io does not answer")
    said = fleet.after(STALE_MS + 1)
    assert replicas(said) == 0
    assert "older than 90 s, of east (Timeout: external.metrics.k8s.io does not answer)" in error(said)


def test_an_adapter_that_is_stuck_says_nothing_any_more() -> None:
    """It tells the same value with the same time for ever, or an older one."""
    fleet = Fleet(LAG)
    assert fleet.tell(units(20, at=NOW)) == {KEY}
    assert replicas(fleet.after(0)) == 4
    for _ in range(6):
        fleet.now += 15_000
        assert fleet.tell(units(99, at=NOW - 1)) == fleet.tell(units(99, at=NOW)) == set()
    said = fleet.after(1)
    assert replicas(said) == 4
    assert "older than 90 s, of east" in error(said)


def test_an_adapter_that_is_stuck_for_longer_than_anything_is_remembered_has_nothing_newer() -> None:
    fleet = Fleet(LAG)
    fleet.tell(units(20, at=NOW))
    fleet.after(0)
    for _ in range(80):
        fleet.now += 15_000
        assert fleet.tell(units(99, at=NOW)) == set()
    fleet.tell(error="Timeout: external.metrics.k8s.io does not answer")
    assert fleet.tell(units(99, at=NOW)) == set()
    assert replicas(fleet.workloads.look(KEY, fleet.now + 61_000)) == 4


def test_a_clock_that_was_set_back_matters_for_a_moment() -> None:
    fleet = Fleet(LAG)
    fleet.tell(units(20, at=NOW))
    assert fleet.tell(units(40, at=NOW - 3_600_000)) == set()
    fleet.now += STALE_MS + 1
    assert fleet.tell(units(40, at=NOW - 3_600_000 + STALE_MS)) == {KEY}
    assert replicas(fleet.after(0)) == 8


def test_our_own_clock_that_was_set_back_scales_nothing() -> None:
    fleet = Fleet(LAG)
    fleet.tell(units(20))
    fleet.after(0)
    said = fleet.after(-10_000)
    assert replicas(said) == 4
    assert "older than" in error(said)


def test_by_a_part_of_an_object_nothing_is_scaled_down_but_up() -> None:
    fleet = Fleet(INGRESS)
    fleet.tell(units(10))
    fleet.tell(units(10), cluster="west")
    assert replicas(fleet.after(0)) == 4
    fleet.pods(4)
    fleet.now += STALE_MS + 1
    fleet.tell(units(5))
    said = fleet.after(0)
    assert replicas(said) == 4
    assert "older than 90 s, of west" in error(said)
    assert said is not None
    assert said.pod_sets[0].conditions[0].reason == "FailedGetObjectMetric"
    fleet.now += 15_000
    fleet.tell(units(30))
    assert replicas(fleet.after(0)) == 12


def test_a_cluster_that_is_gone_for_long_counts_no_more() -> None:
    fleet = Fleet(INGRESS)
    fleet.tell(units(10))
    fleet.tell(units(10), cluster="west")
    fleet.after(0)
    fleet.pods(4)
    fleet.now += 10 * STALE_MS + 1
    fleet.tell(units(5))
    assert replicas(fleet.after(0)) == 2


def test_what_a_cluster_says_that_it_has_no_more_is_known() -> None:
    fleet = Fleet(INGRESS)
    fleet.tell(units(10))
    fleet.tell(units(10), cluster="west")
    fleet.after(0)
    fleet.pods(4)
    fleet.now += 15_000
    fleet.tell(units(5))
    fleet.tell(cluster="west", absent=True, error="NotFound: no such metric")
    assert replicas(fleet.after(0)) == 2


def test_why_nothing_is_measured_is_said_by_cluster() -> None:
    fleet = Fleet(LAG)
    for number in range(5):
        fleet.tell(cluster=f"c{number}", absent=True, error="NotFound: external.metrics.k8s.io is not served")
    text = error(fleet.after(0))
    assert "c0: NotFound: external.metrics.k8s.io is not served" in text
    assert text.endswith("and 2 clusters more)")


def test_what_flaps_moves_no_further_than_its_windows() -> None:
    """Up at once, and down no earlier than the highest of five minutes allows."""
    fleet = Fleet(LAG, behavior=None)
    asked = []
    for turn in range(20):
        fleet.now += 15_000
        fleet.tell(units(50 if turn % 2 else 0))
        fleet.after(0)
        asked.append(fleet.workloads._tracked[KEY].asked)
        fleet.pods(asked[-1])
    assert asked == sorted(asked)
    assert asked[-1] == 10


def test_what_nobody_asks_for_is_not_kept() -> None:
    fleet = Fleet(LAG)
    fleet.tell(units(20))
    fleet.workloads.place(KEY, placed(scaled_workload()))
    assert fleet.workloads.sampled(KEY) == ()
    assert fleet.tell(units(20)) == set()
    seen = MeasuredSeen(STALE_MS)
    metric = SampledMetric(type="External", namespace="a", name="b")
    seen.ask([metric])
    seen.ask([metric])
    seen.unask([metric])
    told = AskedMetricsSampled(cluster="c", sampled_at=1, metrics=(MetricSampled(metric=metric, values=(units(1),)),))
    assert seen.take(told, NOW) == {metric}
    assert seen.reading(metric, (), NOW).reading == Values((1000,))
    seen.unask([metric])
    assert seen.take(told, NOW) == set()
    assert isinstance(seen.reading(metric, (), NOW).reading, Unmeasured)


def test_what_only_an_earlier_workload_of_that_name_asked_for_is_not_kept() -> None:
    fleet = Fleet(LAG)
    fleet.workloads.place(KEY, placed(scaled_workload(metrics=[LAG]), uid="u2"))
    assert fleet.tell(units(20)) == {KEY}
    fleet.workloads.place(KEY, placed(scaled_workload(metrics=[LAG]), uid="u2", deleting=True))
    assert fleet.tell(units(20)) == set()
    assert fleet.workloads._measured._asked == {}
