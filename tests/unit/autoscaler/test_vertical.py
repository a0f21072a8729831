"""Recommended requests: by what is used, how much of it is remembered for how long, and where it is told.

The figures of the algorithm itself are the original's: tests/integration/autoscaler/vertical asks it.
"""

from __future__ import annotations

import pytest

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.learned import Learned
from services.autoscaler.decision.vertical.estimates import recommended
from services.autoscaler.decision.vertical.histogram import CPU, MEMORY, DecayingHistogram
from services.autoscaler.decision.vertical.use import ContainerUse, Instance
from services.autoscaler.decision.workloads import ScaledWorkloads
from shared.events.v1.metrics import ContainerUsage, PodMetricsSampled
from shared.events.v1.usage import ContainerLearned, UsageLearned
from tests.autoscaling import sample, scaled_workload
from tests.unit.autoscaler.test_workloads import KEY, NOW, Seen, placed

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MIB = 1 << 20


def used(days: float, milli: int = 100, memory: int = 1000 * MIB, use: ContainerUse | None = None) -> ContainerUse:
    """A sample a minute."""
    use, instance = use or ContainerUse(), Instance()
    begin = use.last_ms or NOW
    for minute in range(1, round(days * 24 * 60) + 1):
        use.add(instance, milli, memory, begin + minute * MINUTE_MS)
    return use


def test_the_target_is_what_is_used_and_a_margin() -> None:
    made = recommended(used(7), 1)
    # The upper bound of the bucket, which is 5 % wide and ten thousandths of a core, and 15 %.
    assert 115 <= made.target.cpu <= (100 * 1.05 + 10) * 1.15
    assert 1150 * MIB <= made.target.memory <= 1000 * MIB * 1.05 * 1.15
    assert made.lower.cpu <= made.target.cpu <= made.upper.cpu <= 1.2 * made.target.cpu


def test_nine_of_ten_samples_of_cpu_are_below_the_target_and_the_peak_of_memory() -> None:
    use, instance = ContainerUse(), Instance()
    for minute in range(1, 2 * 24 * 60):
        # Of memory one minute of the day matters.
        memory = 4000 * MIB if minute % 1440 == 100 else 500 * MIB
        use.add(instance, 1000 if minute % 20 == 0 else 50, memory, NOW + minute * MINUTE_MS)
    made = recommended(use, 1)
    assert made.target.cpu < 70
    assert made.upper.cpu < 200
    assert made.target.memory > 4000 * MIB


def test_little_history_bounds_are_far_apart() -> None:
    made = recommended(used(0.01), 1)
    assert made.upper.cpu > 50 * made.target.cpu
    first = ContainerUse()
    first.add(Instance(), 100, 1000 * MIB, NOW)
    unsure = recommended(first, 1)
    assert (unsure.upper.cpu, unsure.lower.cpu) == (10**14, 25)
    assert recommended(ContainerUse(), 1).target.cpu == 25


def test_containers_share_what_a_pod_requests_at_least() -> None:
    idle = used(1, 0, 0)
    assert recommended(idle, 1).target.memory == 250 * MIB
    assert (recommended(idle, 2).target.cpu, recommended(idle, 2).target.memory) == (12, 125 * MIB)


def test_what_is_old_weighs_half_for_each_day() -> None:
    use = used(2, 2000)
    assert recommended(use, 1).target.cpu >= 2300
    # Three days later a ninth of the weight is of before: nine tenths are of now.
    assert recommended(used(3.3, 100, use=use), 1).target.cpu < 130


def test_a_memory_peak_counts_once_a_day_for_each_container() -> None:
    histogram = DecayingHistogram(MEMORY)
    histogram.add(1e9, 1.0, NOW)
    use, instance = ContainerUse(), Instance()
    for minute, mib in enumerate((100, 900, 300, 900, 1000, 20)):
        use.add(instance, 1, mib * MIB, NOW + minute * MINUTE_MS)
    told = use.memory.told()
    assert list(told.weights.values()) == [10_000]
    assert MEMORY.find(1000 * MIB) in told.weights
    use.add(instance, 1, 5 * MIB, NOW + DAY_MS)
    assert sorted(use.memory.told().weights) == [MEMORY.find(5 * MIB), MEMORY.find(1000 * MIB)]


def test_samples_that_come_again_count_once_and_a_clock_set_back_matters_for_a_day() -> None:
    use, instance = ContainerUse(), Instance()
    for at_ms in (NOW, NOW, NOW - MINUTE_MS, NOW + 1):
        use.add(instance, 100, MIB, at_ms)
    assert use.samples == 2
    use.add(instance, 100, 900 * MIB, NOW - 100 * DAY_MS)
    assert use.samples == 3
    assert instance.window_end_ms == NOW - 99 * DAY_MS


@pytest.mark.parametrize("days", [0.2, 3])
def test_a_successor_recommends_the_same(days: float) -> None:
    use = used(days, 123, 456 * MIB)
    for milli in range(0, 5000, 7):
        use.cpu.add(milli / 1000, 0.1, use.last_ms)
    told = use.told("main", recommended(use, 1))
    again = ContainerUse.restored(ContainerLearned.model_validate_json(told.to_json()))
    assert recommended(again, 1) == recommended(use, 1)
    assert len(told.to_json()) < 5000


def test_what_another_version_told_is_no_failure() -> None:
    told = DecayingHistogram(CPU).told()
    histogram = DecayingHistogram(CPU)
    histogram.restore(told)
    assert histogram.is_empty
    histogram.restore(told.model_copy(update={"weights": {10_000: 5, -1: 3}}))
    assert histogram.is_empty


# --- of a workload ---


def due(seen: Seen) -> UsageLearned | None:
    seen.now += 300_000
    return dict(seen.workloads.learned.due(seen.now)).get(KEY)


def test_every_workload_has_a_recommendation_also_one_that_is_not_scaled() -> None:
    seen = Seen()
    document = scaled_workload()
    del document["scaling"]
    seen.workloads.place(KEY, placed(document))
    assert due(seen) is None
    assert due(seen) is None
    seen.workloads.observe_samples(_sample(seen), seen.now)
    told = due(seen)
    assert told is not None
    ((container,),) = (pod_set.containers for pod_set in told.pod_sets)
    assert (container.name, container.samples) == ("main", 2)
    assert container.recommended.target.cpu >= 345
    # Nobody is told what did not change.
    assert due(seen) is None


def test_it_survives_a_restart_and_ends_with_the_workload() -> None:
    seen = Seen()
    seen.use(300)
    seen.workloads.learned.due(seen.now)
    told = due(seen)
    learned = Learned()
    learned.restore(KEY, told)
    after = Seen()
    after.workloads = ScaledWorkloads(Defaults(), 90_000, 60_000, learned)
    after.workloads.place(KEY, placed(scaled_workload()))
    after.pods(2)
    after.now = seen.now
    after.use(300)
    learned.due(after.now)
    again = due(after)
    assert again is not None
    assert [pod_set.containers[0].samples for pod_set in again.pod_sets] == [4]
    other = Learned()
    other.restore(KEY, told)
    other.place(KEY, placed(scaled_workload(), uid="u2"))
    assert other.due(after.now) == []
    other.place(KEY, None)
    assert other.due(after.now) == [(KEY, None)]


def test_what_is_kept_is_bounded() -> None:
    learned = Learned()
    learned.place(KEY, placed(scaled_workload()))
    learned.due(NOW)
    for number in range(100):
        names = [ContainerUsage(name=f"c{number}-{part}", cpu=1, memory=1) for part in range(3)]
        learned.use(KEY, "main", f"pod-{number}", names, NOW)
        learned.forget(f"pod-{number}")
    ((_, told),) = learned.due(NOW + 300_000)
    assert told is not None
    assert len(told.pod_sets[0].containers) == 64
    assert not learned._instances


def _sample(seen: Seen) -> PodMetricsSampled:
    return sample(300, 2, seen.now)
