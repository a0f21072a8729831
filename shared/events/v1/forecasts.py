"""Scaling ahead of a pattern that comes again, and what the autoscaler tells of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.events.v1.policies import is_empty
from shared.model.base import StrictValue, Value

DAY_S = 86_400
# Places in a period: what is remembered is bounded by so many times the periods.
SLOTS = 288
# As few periods do not tell a pattern from an odd day.
LEAST_PERIODS = 3
MAX_PERIODS = 14


class ScalingForecast(StrictValue):
    """Asks for what was needed at this time of the latest periods, a while before; never for less than is measured."""

    period_seconds: Annotated[int, Field(ge=3600, le=7 * DAY_S)] = Field(
        default=DAY_S, description="after how long the pattern comes again, in UTC: it knows no daylight saving"
    )
    ahead_seconds: Annotated[int, Field(ge=60, le=3600)] = Field(
        default=600, description="how long before they are needed replicas are asked for"
    )
    history_periods: Annotated[int, Field(ge=LEAST_PERIODS, le=MAX_PERIODS)] = Field(
        default=7, description=f"the latest that are looked at; before {LEAST_PERIODS} are known nothing is asked for"
    )


class ForecastMade(Value):
    """What was expected at an evaluation, and from how much; `reason` says why nothing was."""

    replicas: int | None = Field(default=None, description="the most that will be needed within `aheadSeconds`")
    periods: int = Field(description="whole periods that are known")
    level: int | None = Field(default=None, description="the last hours beside those of former periods, in percent")
    reason: str = Field(default="", exclude_if=is_empty)


class DemandHistory(Value):
    """How many replicas were needed, the most in each slot of time, the oldest first."""

    slot_ms: int = Field(ge=1)
    first: int = Field(description="number of the first slot: its beginning is `first * slotMs` Unix milliseconds")
    needed: tuple[int, ...] = Field(
        max_length=SLOTS * (MAX_PERIODS + 1), description="hundredths of a replica; -1 where nothing was measured"
    )
