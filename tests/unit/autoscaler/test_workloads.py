"""What is seen of a workload, and what a look at it leads to; the algorithm itself is tested elsewhere."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.autoscaler.decision.asked import terms_of
from services.autoscaler.decision.horizontal.terms import Defaults, PolicyType, SelectPolicy
from services.autoscaler.decision.workloads import ScaledWorkloads
from services.autoscaler.observed import owned_pod
from shared.events.registry import DecodeError
from shared.events.v1.decisions import PodSetPlacement, RequestRef, WorkloadPlaced
from shared.events.v1.scaling import Scaling, WorkloadScaled
from shared.events.v1.workloads import Workload
from tests.autoscaling import AT_ONCE, CLUSTER, Json, pod_json, sample, scaled_workload

NOW = 1_800_000_000_000
KEY = "default/web"


def placed(document: Json, desired: int = 2, uid: str = "u1", *, deleting: bool = False) -> WorkloadPlaced:
    pod_sets = () if deleting else (PodSetPlacement(name="main", desired=desired),)
    workload = Workload.model_validate(document)
    ref = RequestRef(id="r", published_at=NOW)
    return WorkloadPlaced(
        workload=workload, uid=uid, workload_generation=1, request=ref, pod_sets=pod_sets, deleting=deleting
    )


class Seen:
    def __init__(self, pods: int = 2, **more: Any) -> None:
        self.now = NOW
        self.workloads = ScaledWorkloads(Defaults(), 90_000, 60_000)
        self.workloads.place(KEY, placed(scaled_workload(**more)))
        self.pods(pods)

    def pods(self, count: int, **facts: Any) -> None:
        for number in range(count):
            self.pod(f"web-{number}", pod_json("web", **facts))

    def pod(self, name: str, document: Json | None) -> None:
        key = f"{CLUSTER}/default/{name}"
        self.workloads.observe_pod(key, owned_pod(key, orjson.dumps(document)) if document is not None else None)

    def use(self, milli: int, pods: int = 2, after_ms: int = 15_000) -> WorkloadScaled | None:
        self.now += after_ms
        self.workloads.observe_samples(sample(milli, pods, self.now), self.now)
        return self.workloads.look(KEY, self.now)


def replicas(said: WorkloadScaled | None) -> int | None:
    assert said is not None
    return said.pod_sets[0].replicas


def test_it_follows_what_its_pods_use() -> None:
    seen = Seen()
    said = seen.use(100)
    assert said is not None
    (pod_set,) = said.pod_sets
    assert (pod_set.before, pod_set.replicas, pod_set.ready) == (2, 4, 2)
    assert pod_set.reason == "cpu resource utilization (percentage of request) above target"
    (metric,) = pod_set.metrics
    assert (metric.proposal, metric.current, metric.samples, metric.newest) == (4, 100, 2, seen.now)
    # What was said is what is asked from then on, also before the scheduler has decided it.
    seen.pods(4)
    assert replicas(seen.use(100, 4)) == 8


def test_what_does_not_change_is_told_once_and_then_in_its_time() -> None:
    seen = Seen()
    assert seen.use(50) is not None
    assert [seen.use(50) is not None for _ in range(5)] == [False, False, False, True, False]


def test_pods_of_others_do_not_count() -> None:
    seen = Seen()
    seen.pod("other-0", pod_json("other"))
    seen.pod("web-9", {**pod_json("web"), "metadata": {}})
    assert seen.workloads.observe_samples(sample(100, 1, NOW, workload="other"), NOW) == set()
    said = seen.use(100)
    assert said is not None
    assert said.pod_sets[0].ready == 2


def test_old_samples_scale_nothing_and_say_so() -> None:
    seen = Seen()
    seen.use(100)
    said = seen.workloads.look(KEY, seen.now + 90_001)
    assert said is not None
    assert said.pod_sets[0].replicas == 4
    assert "older than 90 s, of 2 pods" in said.pod_sets[0].error
    (condition,) = said.pod_sets[0].conditions
    assert (condition.type, condition.status, condition.reason) == ("ScalingActive", False, "FailedGetResourceMetric")


def test_a_sample_that_comes_again_is_not_newer() -> None:
    """A metrics server that is stuck says the same for ever."""
    seen = Seen()
    seen.use(100)
    stuck = sample(100, 2, seen.now)
    for after in (30_000, 60_000, 90_001):
        assert seen.workloads.observe_samples(stuck, seen.now + after) == set()
    said = seen.workloads.look(KEY, seen.now + 90_001)
    assert said is not None
    assert said.pod_sets[0].error


def test_a_clusters_clock_that_was_set_back_matters_for_a_moment() -> None:
    seen = Seen()
    seen.use(50)
    back = NOW - 3_600_000
    assert seen.workloads.observe_samples(sample(100, 2, back), seen.now + 1000) == set()
    # It has to move: what says the same moment again is old.
    assert seen.workloads.observe_samples(sample(100, 2, back), seen.now + 90_001) == set()
    assert seen.workloads.observe_samples(sample(100, 2, back + 89_000), seen.now + 90_001) == {KEY}


def test_without_any_sample_nothing_is_known() -> None:
    seen = Seen()
    said = seen.workloads.look(KEY, NOW)
    assert said is not None
    assert said.pod_sets[0].replicas is None
    assert "no metrics returned" in said.pod_sets[0].error


def test_a_successor_goes_on_with_what_was_remembered() -> None:
    """The window of the highest recommendation goes on through a restart."""
    before = Seen(behavior=None)
    said = before.use(100)
    after = Seen(pods=4, behavior=None)
    restored = ScaledWorkloads(Defaults(), 90_000, 60_000)
    after.workloads = restored
    restored.restore(KEY, said)
    restored.place(KEY, placed(scaled_workload(behavior=None)))
    after.pods(4)
    after.now = before.now + 280_000
    held = after.use(10, 4)
    assert held is None or held.pod_sets[0].replicas == 4
    # It ends when it would have ended, and not so long after the restart.
    assert replicas(after.use(10, 4)) == 1


def test_what_was_remembered_by_a_clock_that_was_ahead_lasts_no_longer() -> None:
    """Its own is right again: rates go on, and are not used up for an hour."""
    before = Seen(maxReplicas=400)
    before.now += 3_600_000
    said = before.use(1000)
    assert replicas(said) == 40
    after = Seen(pods=40, maxReplicas=400)
    after.workloads = ScaledWorkloads(Defaults(), 90_000, 60_000)
    after.workloads.restore(KEY, said)
    after.workloads.place(KEY, placed(scaled_workload(maxReplicas=400)))
    after.pods(40)
    # 100 a second, of which 38 count as just now; a second later nothing of it counts.
    assert replicas(after.use(1000, 40, after_ms=0)) == 102
    assert replicas(after.use(1000, 40, after_ms=1000)) == 202


def test_schedules_go_by_the_calendar_and_windows_do_not() -> None:
    schedule = {"name": "late", "schedule": "0 9 * * *", "durationSeconds": 3600, "minReplicas": 9}
    seen = Seen(schedules=[schedule])
    nine = NOW - NOW % 86_400_000 + 9 * 3_600_000
    assert replicas(seen.workloads.look(KEY, NOW, nine - 1)) is None
    assert replicas(seen.workloads.look(KEY, NOW + 1, nine)) == 9


def test_what_was_said_of_another_workload_of_that_name_counts_for_nothing() -> None:
    said = Seen().use(100)
    restored = ScaledWorkloads(Defaults(), 90_000, 60_000)
    restored.restore(KEY, said)
    restored.place(KEY, placed(scaled_workload(), uid="u2"))
    look = restored.look(KEY, NOW)
    assert look is not None
    assert (look.uid, look.pod_sets[0].before) == ("u2", 2)


def test_what_is_scaled_no_more_is_told_to_be_so() -> None:
    seen = Seen()
    seen.use(100)
    assert seen.workloads.place(KEY, placed(scaled_workload(), deleting=True))
    assert list(seen.workloads) == []
    restored = ScaledWorkloads(Defaults(), 90_000, 60_000)
    restored.restore("default/gone", Seen().use(100))
    assert restored.forgotten() == ["default/gone"]


def test_only_a_workload_whose_rates_are_by_time_reacts() -> None:
    assert Seen().workloads.reacts(KEY)
    assert not Seen(behavior=None).workloads.reacts(KEY)


def test_terms_have_kubernetes_defaults() -> None:
    terms = terms_of(Scaling(max_replicas=3))
    assert (terms.min_replicas, terms.behavior, terms.metrics[0].target.utilization) == (1, None, 80)
    behavior = terms_of(Scaling.model_validate({"maxReplicas": 3, "behavior": AT_ONCE})).behavior
    assert behavior is not None
    assert (behavior.up.policies[0].type, behavior.up.stabilization_s) == (PolicyType.PODS, 0)
    assert (behavior.down.stabilization_s, behavior.down.select) == (0, SelectPolicy.MAX)
    lax = terms_of(
        Scaling.model_validate({"maxReplicas": 3, "behavior": {"scaleDown": {"tolerance": "0.05"}}})
    ).behavior
    assert lax is not None
    assert (lax.down.tolerance, lax.down.stabilization_s, lax.up.tolerance) == (0.05, None, None)
    assert [policy.value for policy in lax.down.policies] == [100]


def test_a_pods_requests_count_what_lasts() -> None:
    document = pod_json("web")
    document["spec"]["initContainers"] = [
        {"name": "once", "resources": {"requests": {"cpu": "5"}}},
        {"name": "beside", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m", "memory": "1Ki"}}},
    ]
    owned = owned_pod("k", orjson.dumps(document))
    assert owned is not None
    assert [(item.name, dict(item.requests)) for item in owned.pod.containers] == [
        ("beside", {"cpu": 50, "memory": 1_024_000}),
        ("main", {"cpu": 100}),
    ]
    document["spec"]["resources"] = {"requests": {"cpu": "1"}}
    owned = owned_pod("k", orjson.dumps(document))
    assert owned is not None
    assert owned.pod.own_requests == {"cpu": 1000, "memory": 1_024_000}


@pytest.mark.parametrize("wrong", [b"{", b'{"metadata": 1}', b"\xff"])
def test_what_is_no_pod_is_refused(wrong: bytes) -> None:
    with pytest.raises(DecodeError):
        owned_pod("k", wrong)
