"""Schedules: when they hold, in their time zones, and that they never take away what the metrics ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from services.autoscaler.decision.schedules import Floor, Schedules
from shared.events.v1.scaling import Scaling, ScalingSchedule
from tests.autoscaling import Json, scaled_workload
from tests.unit.autoscaler.test_measured import LAG, Fleet, units
from tests.unit.autoscaler.test_workloads import KEY, NOW, Seen, placed, replicas

HOUR_MS = 3_600_000


def schedule(cron: str = "0 8 * * 1-5", hours: float = 10, at_least: int = 10, **more: Any) -> Json:
    facts = {"name": "office", "schedule": cron, "durationSeconds": round(hours * 3600), "minReplicas": at_least}
    return {**facts, **more}


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def floor(moment: str, *schedules: Json) -> Floor:
    return Schedules(ScalingSchedule.model_validate(item) for item in schedules).at(at(moment))


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        ("2026-11-27 07:59:59.999", 0),
        ("2026-11-27 08:00:00", 10),
        ("2026-11-27 17:59:59.999", 10),
        ("2026-11-27 18:00:00", 0),
        ("2026-11-28 12:00:00", 0),
    ],
)
def test_it_holds_from_its_moment_for_its_duration(moment: str, wanted: int) -> None:
    assert floor(moment, schedule()).replicas == wanted


def test_it_holds_over_days_and_the_most_of_several_counts() -> None:
    week_end = schedule("0 20 * * 5", 60, 3, name="weekend")
    assert floor("2026-11-29 07:59", week_end, schedule()) == Floor(3, "weekend")
    assert floor("2026-11-27 20:30", week_end, schedule(hours=24)) == Floor(10, "office")


def test_time_zones_and_daylight_saving() -> None:
    berlin = schedule("0 8 * * *", 1, timeZone="Europe/Berlin")
    assert [floor(f"2026-07-01 0{hour}:30", berlin).replicas for hour in (5, 6, 7)] == [0, 10, 0]
    assert [floor(f"2026-12-01 0{hour}:30", berlin).replicas for hour in (6, 7, 8)] == [0, 10, 0]
    # 2:30 is left out on March 29, and happens when that hour is over; on October 25 it comes twice, and counts once.
    night = schedule("30 2 * * *", 0.25, timeZone="Europe/Berlin")
    spring = [floor(f"2026-03-29 {time}", night).replicas for time in ("00:35", "01:05", "01:35")]
    assert spring == [0, 10, 0]
    autumn = [floor(f"2026-10-25 {time}", night).replicas for time in ("00:35", "01:35")]
    assert autumn == [10, 0]


def test_what_is_remembered_of_an_answer_is_what_a_new_one_would_be() -> None:
    """Through a whole week in steps of seven minutes, and with a clock that jumps."""
    given = [
        ScalingSchedule.model_validate(item)
        for item in (
            schedule(timeZone="America/New_York"),
            schedule("*/45 3-5 * * *", 0.5, 4, name="night"),
            schedule("0 0 29 2 *", 24, 20, name="leap"),
        )
    ]
    kept = Schedules(given)
    begin, seen = at("2026-03-05 00:00"), set()
    for step in range(7 * 24 * 60 // 7):
        now_ms = begin + step * 7 * 60_000 - (3 * HOUR_MS if step % 50 == 49 else 0)
        seen.add(kept.at(now_ms).replicas)
        assert kept.at(now_ms) == Schedules(given).at(now_ms)
    assert seen == {0, 4, 10}


def test_never_below_what_the_metrics_ask_for() -> None:
    always = schedule("* * * * *", 1, 5)
    seen = Seen(schedules=[always])
    said = seen.use(50)
    assert replicas(said) == 5
    assert said is not None
    assert said.pod_sets[0].reason == "schedule office"
    limited = said.pod_sets[0].conditions[-1]
    assert (limited.status, limited.reason) == (True, "Scheduled")
    assert limited.message == "schedule office asks for 5 replicas at least"
    seen.pods(5)
    assert replicas(seen.use(100, 5)) == 10
    seen.pods(10)
    # Down again, as far as it goes, and no further.
    assert replicas(seen.use(1, 10)) == 5


def test_a_schedule_needs_no_metric_that_works() -> None:
    seen = Seen(schedules=[schedule("* * * * *", 1, 5)])
    said = seen.workloads.look(KEY, NOW)
    assert replicas(said) == 5
    assert said is not None
    assert [item.reason for item in said.pod_sets[0].conditions] == ["FailedGetResourceMetric", "Scheduled"]


def test_it_starts_what_was_scaled_to_zero_and_not_what_was_parked() -> None:
    soon = schedule("0 8 * * *", 1, 5)
    fleet = Fleet(LAG, minReplicas=0, schedules=[soon])
    fleet.now = at("2026-11-27 07:59")
    fleet.tell(units(0))
    assert replicas(fleet.after(0)) == 0
    fleet.now += 60_000
    fleet.tell(units(0))
    assert replicas(fleet.after(0)) == 5
    fleet.pods(5)
    fleet.now += HOUR_MS
    fleet.tell(units(0))
    assert replicas(fleet.after(0)) == 0
    parked = Fleet(LAG, pods=0, minReplicas=0, schedules=[soon])
    parked.workloads.place(KEY, placed(scaled_workload(metrics=[LAG], minReplicas=0, schedules=[soon]), desired=0))
    parked.now = at("2026-11-27 08:10")
    assert replicas(parked.after(0)) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (schedule("61 * * * *"), "Bad minute"),
        (schedule("0 0 31 2 *"), "Bad day-of-month"),
        (schedule("0 8 * * * *"), "want minute, hour"),
        (schedule("1/L 8 * * *"), "Bad minute"),
        (schedule(timeZone="Mars/Base"), "no time zone"),
        (schedule(timeZone="America"), "no time zone"),
        (schedule(timeZone="../../etc/passwd"), "no time zone"),
        (schedule(at_least=21), "must not be more than maxReplicas 20"),
        (schedule(hours=0), "greater than or equal to 60"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Json, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Scaling.model_validate({"maxReplicas": 20, "schedules": [wrong]})
    with pytest.raises(ValidationError, match="a name of its own"):
        Scaling.model_validate({"maxReplicas": 20, "schedules": [schedule(), schedule()]})
