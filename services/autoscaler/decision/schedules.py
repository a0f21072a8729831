"""How many replicas there are at least by the schedules of a workload, at a moment.

A schedule holds for its duration from each moment that its cron expression names, in its time zone, with Debian
cron's rules for daylight saving: what falls into the hour that is left out happens behind it, what would happen twice
happens once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from services.autoscaler.decision.horizontal.evaluation import Condition, Evaluation
from shared.events.v1.scaling import UTC_ZONE, ScalingSchedule

_FOR_EVER = 2**63


class Floor(NamedTuple):
    """`schedule` is the name of the one that asks for the most."""

    replicas: int = 0
    schedule: str = ""


class Schedules:
    """Remembers until when its last answer holds, as the search for a moment may go far back."""

    def __init__(self, schedules: Iterable[ScalingSchedule]) -> None:
        self._schedules = tuple(schedules)
        self._floor = Floor()
        self._from_ms = self._until_ms = 0

    def at(self, now_ms: int) -> Floor:
        if not self._from_ms <= now_ms < self._until_ms:
            self._look(now_ms)
        return self._floor

    def _look(self, now_ms: int) -> None:
        best = Floor()
        since, until = 0, _FOR_EVER
        for schedule in self._schedules:
            zone = UTC if schedule.time_zone == UTC_ZONE else ZoneInfo(schedule.time_zone)
            began, comes = _around(schedule.schedule, zone, now_ms)
            ends = began + 1000 * schedule.duration_seconds if began is not None else 0
            active = began is not None and now_ms < ends
            since = max(since, began if active and began is not None else ends)
            until = min(until, comes, ends if active else _FOR_EVER)
            if active and schedule.min_replicas > best.replicas:
                best = Floor(schedule.min_replicas, schedule.name)
        self._floor = best
        self._from_ms, self._until_ms = since, until


def scheduled(result: Evaluation, asked: int, floor: Floor) -> Evaluation:
    """An evaluation, but no fewer replicas than are scheduled: also where what is measured says nothing."""
    reactive = asked if result.replicas is None else result.replicas
    if floor.replicas <= reactive:
        return result
    text = f"schedule {floor.schedule} asks for {floor.replicas} replicas at least"
    limited = Condition("ScalingLimited", status=True, reason="Scheduled", message=text)
    conditions = (*(item for item in result.conditions if item.type != limited.type), limited)
    reason = f"schedule {floor.schedule}" if floor.replicas != asked else ""
    return replace(result, replicas=floor.replicas, reason=reason, conditions=conditions)


def _around(expression: str, zone: tzinfo, now_ms: int) -> tuple[int | None, int]:
    """The last moment up to now, and the next one after it; Unix milliseconds."""
    second = now_ms // 1000
    # The search begins beside the moment that it is given.
    last = next(CronSim(expression, datetime.fromtimestamp(second + 1, zone), reverse=True), None)
    following = next(CronSim(expression, datetime.fromtimestamp(second, zone)), None)
    return _ms(last), _FOR_EVER if following is None else _ms(following) or 0


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
