"""The forecast: what it expects of a pattern, when it says nothing, and that it takes nothing from the metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from services.autoscaler.decision.forecast import Demand, Forecast
from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.learned import Learned
from services.autoscaler.decision.workloads import ScaledWorkloads
from shared.events.v1.forecasts import MAX_PERIODS, SLOTS, DemandHistory, ScalingForecast
from shared.events.v1.scaling import Scaling, WorkloadScaled
from shared.events.v1.usage import UsageLearned
from tests.autoscaling import scaled_workload
from tests.unit.autoscaler.test_workloads import KEY, Seen, placed, replicas

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
# A midnight.
BEGIN = 1_800_057_600_000
DAILY = ScalingForecast()


def office(at_ms: int) -> float:
    """Ten from eight to six, else two."""
    return 10.0 if 8 <= at_ms % DAY_MS / HOUR_MS < 18 else 2.0


def fill(demand: Demand, days: Iterable[int], factor: float = 1.0) -> None:
    for day in days:
        for minute in range(0, 24 * 60, 5):
            at_ms = BEGIN + day * DAY_MS + minute * MINUTE_MS
            demand.note(factor * office(at_ms), at_ms)


def learned(days: int, **terms: int) -> Demand:
    demand = Demand(ScalingForecast(**terms))
    fill(demand, range(days))
    return demand


def at(day: int, hour: float) -> int:
    return BEGIN + day * DAY_MS + round(hour * HOUR_MS)


def expected(demand: Demand, day: int, hour: float) -> float | None:
    return demand.forecast(at(day, hour)).replicas


def test_the_epoch_of_these_tests_is_a_midnight() -> None:
    assert BEGIN % DAY_MS == 0


def test_it_expects_what_was_needed_at_this_time_a_while_before() -> None:
    demand = learned(4)
    hours = (7, 7.75, 7.84, 8, 12, 17.99, 18.01)
    assert [expected(demand, 4, hour) for hour in hours] == [2, 2, 10, 10, 10, 10, 2]
    early = learned(4, ahead_seconds=3600)
    assert [expected(early, 4, hour) for hour in (6.9, 7.01)] == [2, 10]


def test_it_says_nothing_before_three_whole_periods_are_known() -> None:
    assert Demand(DAILY).forecast(BEGIN) == Forecast(None, 0, reason="0 of 3 whole periods are known")
    assert learned(2).forecast(at(2, 0)).reason == "2 of 3 whole periods are known"
    assert learned(2).forecast(at(2, 0)).told().replicas is None
    assert expected(learned(3), 3, 8) == 10
    # What it knew is too old by then.
    assert expected(learned(7), 12, 8) is None
    assert learned(7).forecast(at(13, 0)).reason == "2 of 3 whole periods are known"


@pytest.mark.parametrize("days", [3, 4, 7])
@pytest.mark.parametrize("factor", [0.0, 0.1, 8.0])
def test_one_odd_day_matters_to_nothing(days: int, factor: float) -> None:
    for odd in range(days):
        demand = Demand(DAILY)
        fill(demand, range(odd))
        fill(demand, [odd], factor)
        fill(demand, range(odd + 1, days))
        assert expected(demand, days, 9) == 10


def test_of_three_days_the_one_in_the_middle_counts() -> None:
    demand = Demand(DAILY)
    for day, factor in enumerate((1.0, 50.0, 1.0)):
        fill(demand, [day], factor)
    demand.note(2.0, at(3, 7.9))
    assert expected(demand, 3, 8) == 10


def test_a_day_that_is_missing_is_left_out() -> None:
    demand = Demand(DAILY)
    fill(demand, [0, 1, 2, 4])
    assert expected(demand, 5, 8) == 10
    assert demand.forecast(at(5, 8)).periods == 4
    few = Demand(DAILY)
    fill(few, [0, 2])
    assert expected(few, 3, 8) is None


def test_what_is_no_amount_is_a_gap() -> None:
    demand = learned(3)
    for wrong in (None, math.nan, math.inf, -math.inf, -1.0):
        demand.note(wrong, at(3, 0))
    assert demand.told() == learned(3).told()
    assert expected(demand, 3, 8) == 10


def test_the_last_hour_says_how_this_day_compares() -> None:
    for factor, level in ((0.7, 0.7), (1.5, 1.5), (0.01, 0.5), (100.0, 2.0)):
        demand = learned(4)
        for minute in range(0, 8 * 60, 5):
            demand.note(2 * factor, at(4, 0) + minute * MINUTE_MS)
        found = demand.forecast(at(4, 8))
        assert found.replicas == pytest.approx(10 * level)
        assert found.level == pytest.approx(level)
    # One value of an hour is none.
    spike = learned(4)
    for minute in range(0, 8 * 60, 5):
        spike.note(500.0 if minute == 450 else 2.0, at(4, 0) + minute * MINUTE_MS)
    assert expected(spike, 4, 8) == 10


def test_a_successor_goes_on_with_what_was_told() -> None:
    before = learned(5)
    told = before.told()
    assert told is not None
    after = Demand(DAILY)
    after.restore(DemandHistory.model_validate_json(told.to_json()))
    for hour in (0, 7.9, 12, 18):
        assert after.forecast(at(5, hour)) == before.forecast(at(5, hour))
    shorter = Demand(ScalingForecast(history_periods=3))
    shorter.restore(told)
    assert expected(shorter, 5, 8) == 10
    other = Demand(ScalingForecast(period_seconds=7 * 86_400))
    other.restore(told)
    assert other.told() is None


def test_what_is_remembered_is_bounded() -> None:
    demand = Demand(ScalingForecast(history_periods=MAX_PERIODS))
    for number in range(3 * MAX_PERIODS * SLOTS):
        demand.note(39_999.99 - number % 7, BEGIN + number * 5 * MINUTE_MS)
    told = demand.told()
    assert told is not None
    assert len(told.needed) == (MAX_PERIODS + 1) * SLOTS
    assert len(told.to_json()) < 40_000


def test_clocks_that_jump() -> None:
    demand = learned(4)
    # For an hour back, and there again: nothing is lost.
    demand.note(2.0, at(3, 23) - HOUR_MS)
    assert expected(demand, 4, 8) == 10
    # A year ahead nothing is known, and back again it learns anew.
    demand.note(2.0, at(365, 0))
    assert expected(demand, 365, 8) is None
    fill(demand, range(4, 7))
    assert expected(demand, 7, 8) == 10


# --- together with what is measured ---


def history(days: int = 4, uid: str = "u1") -> UsageLearned:
    return UsageLearned(uid=uid, learned_at=at(days, 0), pod_set="main", demand=learned(days).told())


class Forecasting(Seen):
    """A workload that needed ten replicas from eight to six, each of the last four days."""

    def __init__(self, pods: int = 2, days: int = 4, uid: str = "u1", **more: Any) -> None:
        learned = Learned()
        learned.restore(KEY, history(days, uid))
        self.workloads = ScaledWorkloads(Defaults(), 90_000, 60_000, learned)
        self.workloads.place(KEY, placed(scaled_workload(forecast={}, **more)))
        self.pods(pods)
        self.now = at(days, 7.9)


def test_it_asks_ahead_and_says_that_it_was_the_forecast() -> None:
    seen = Forecasting()
    said = seen.use(50)
    assert said is not None
    (pod_set,) = said.pod_sets
    assert (pod_set.before, pod_set.replicas) == (2, 10)
    assert pod_set.reason == "expected demand above target"
    active = pod_set.conditions[0]
    assert (active.status, active.reason) == (True, "ForecastAhead")
    assert active.message == "the forecast asks for 10 replicas, what is measured now for 2"
    assert pod_set.forecast is not None
    assert (pod_set.forecast.replicas, pod_set.forecast.periods, pod_set.forecast.level) == (10, 4, 100)
    assert [metric.proposal for metric in pod_set.metrics] == [2]


def test_never_below_what_is_measured_and_within_the_bounds() -> None:
    seen = Forecasting()
    seen.use(50)
    seen.pods(10)
    # 14 by what is measured, 10 by the forecast.
    assert replicas(seen.use(70, 10)) == 14
    assert replicas(Forecasting(maxReplicas=6).use(50)) == 6
    assert replicas(Forecasting(behavior=None).use(50)) == 4
    night = Forecasting()
    night.now = at(4, 2)
    assert replicas(night.use(200)) == 8


def test_it_goes_by_no_history_while_nothing_is_measured() -> None:
    said = Forecasting().workloads.look(KEY, at(4, 8))
    assert said is not None
    assert said.pod_sets[0].replicas is None
    assert [item.reason for item in said.pod_sets[0].conditions] == ["FailedGetResourceMetric"]


def test_another_workload_of_the_name_is_learned_anew() -> None:
    said = Forecasting(uid="of another").use(50)
    assert said is not None
    (pod_set,) = said.pod_sets
    assert pod_set.forecast is not None
    assert (pod_set.replicas, pod_set.forecast.reason) == (2, "0 of 3 whole periods are known")


def test_it_learns_what_is_needed_and_not_what_is_there() -> None:
    """Replicas that only the forecast wanted are no demand: else it would confirm itself."""
    seen = Forecasting()
    seen.use(50)
    seen.pods(10)
    seen.use(10, 10)
    seen.use(11, 10)
    demand = seen.workloads.learned.demand(KEY)
    assert demand is not None
    told = demand.told()
    assert told is not None
    assert told.needed[-1] == 220


def test_what_was_learned_is_told_in_its_time_and_ends_with_the_forecast() -> None:
    seen = Forecasting()
    learned = seen.workloads.learned
    assert learned.due(seen.now) == []
    seen.use(50)
    assert learned.due(seen.now + 299_999 - 15_000) == []
    ((key, told),) = learned.due(seen.now + 300_000)
    assert key == KEY
    assert told is not None
    assert (told.uid, told.pod_set) == ("u1", "main")
    assert told.demand is not None
    assert len(told.demand.needed) == 4 * SLOTS + 95
    assert learned.due(seen.now + 300_001) == []
    seen.workloads.place(KEY, placed(scaled_workload()))
    ((_, without),) = learned.due(seen.now + 600_000)
    assert without is not None
    assert without.demand is None
    assert learned.due(seen.now + 900_000) == []
    seen.workloads.place(KEY, None)
    assert learned.due(seen.now + 900_001) == [(KEY, None)]


def test_other_terms_of_the_forecast_keep_what_they_can_use() -> None:
    seen = Forecasting()
    seen.workloads.place(KEY, placed(scaled_workload(forecast={"aheadSeconds": 60, "historyPeriods": 3})))
    early = seen.use(50)
    assert early is not None
    assert early.pod_sets[0].replicas == 2
    seen.now = at(4, 8)
    assert replicas(seen.use(50)) == 10


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"periodSeconds": 60}, {"aheadSeconds": 7200}, {"historyPeriods": 2}, {"historyPeriods": 15}):
        with pytest.raises(ValidationError):
            Scaling.model_validate({"maxReplicas": 20, "forecast": wrong})


def test_records_of_workloads_without_a_forecast_are_as_before() -> None:
    said: WorkloadScaled | None = Seen().use(50)
    assert said is not None
    assert b"forecast" not in said.to_json()
