"""How many replicas will be needed soon, by what was needed at the same time of former periods.

The seasonal naive forecast, each value that of the same place in the last period (Hyndman and Athanasopoulos,
Forecasting: Principles and Practice, 3rd edition, 5.2), made robust: in the place of the last period's value the
median of those of the latest periods, and times a level, as in Holt-Winters' multiplicative method (8.3), which here
is the median of how the last slots compare to those medians of their places. So of three periods the one in the middle
counts, and one odd one does not; what is missing is no value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.events.v1.forecasts import LEAST_PERIODS, SLOTS, DemandHistory, ForecastMade, ScalingForecast

_Floats = npt.NDArray[np.float64]

# What may be missing of the periods that are known, of one. Each place needs its values in any case.
_MISSING = 0.25
# The last slots that the level is told by, an hour of a day; how many of them have to be known; how far it goes.
_LEVEL_SLOTS = SLOTS // 24
_LEVEL_KNOWN = _LEVEL_SLOTS // 2
_LEVELS = (0.5, 2.0)
_HUNDREDTHS = 100
_UNKNOWN = -1
# More replicas than a workload may have are as many as it may have.
_MOST = 1e9


@dataclass(frozen=True, slots=True)
class Forecast:
    """`replicas` that will be needed, not rounded; None while that cannot be said, for a `reason`."""

    replicas: float | None
    periods: int
    level: float | None = None
    reason: str = ""

    def told(self) -> ForecastMade:
        return ForecastMade(
            replicas=None if self.replicas is None else math.ceil(self.replicas),
            periods=self.periods,
            level=None if self.level is None else round(100 * self.level),
            reason=self.reason,
        )


class Demand:
    """What a workload needed over the latest periods and in this one: a ring of their slots, of the most in each.

    A slot is known by its number since the Unix epoch. Times are Unix milliseconds of one clock: where that goes back
    by more than the ring holds, it begins anew.
    """

    def __init__(self, terms: ScalingForecast) -> None:
        self.terms = terms
        self._slot_ms = terms.period_seconds * 1000 // SLOTS
        self._ring: _Floats = np.full((terms.history_periods + 1) * SLOTS, np.nan)
        self._newest: int | None = None
        self._made: tuple[tuple[int, int], Forecast] | None = None

    def note(self, needed: float | None, now_ms: int) -> None:
        """So many replicas were needed at a look; None, or what is no amount, is a gap."""
        if needed is None or not 0 <= needed < math.inf:
            return
        slot = now_ms // self._slot_ms
        newest, size = self._newest, len(self._ring)
        if newest is None or abs(slot - newest) >= size:
            self._ring[:] = np.nan
            self._newest = slot
        elif slot > newest:
            self._ring[np.arange(newest + 1, slot + 1) % size] = np.nan
            self._newest = slot
        at = slot % size
        self._ring[at] = np.fmax(self._ring[at], min(needed, _MOST))

    def forecast(self, now_ms: int) -> Forecast:
        """The most that will be needed between now and so far ahead."""
        span = now_ms // self._slot_ms, (now_ms + 1000 * self.terms.ahead_seconds) // self._slot_ms
        if self._made is None or self._made[0] != span:
            # It rests on slots that are over.
            self._made = span, self._look(*span)
        return self._made[1]

    def _look(self, now: int, until: int) -> Forecast:
        whole = self._whole(now)
        if whole < LEAST_PERIODS:
            return Forecast(None, whole, reason=f"{whole} of {LEAST_PERIODS} whole periods are known")
        expected = _medians(self._former(np.arange(now, until + 1)))
        expected = expected[~np.isnan(expected)]
        if not len(expected):
            return Forecast(None, whole, reason="this time of the former periods was not measured often enough")
        level = self._level(now)
        return Forecast(float(expected.max()) * level, whole, level)

    def _whole(self, now: int) -> int:
        """How many periods the slots that were measured come to."""
        known = ~np.isnan(self._at(np.arange(now - len(self._ring), now)))
        return min(int(known.sum() / SLOTS + _MISSING), self.terms.history_periods)

    def _level(self, now: int) -> float:
        """How the last slots compare to the same ones of former periods; 1 where that is not known."""
        slots = np.arange(now - _LEVEL_SLOTS, now)
        usual = _medians(self._former(slots))
        seen = self._at(slots)
        known = ~np.isnan(seen) & (usual > 0)
        if known.sum() < _LEVEL_KNOWN:
            return 1.0
        return float(np.clip(np.median(seen[known] / usual[known]), *_LEVELS))

    def _former(self, slots: npt.NDArray[np.int64]) -> _Floats:
        """Shape (periods, slots): the values of the same places in each of the periods before."""
        return np.stack([self._at(slots - SLOTS * back) for back in range(1, self.terms.history_periods + 1)])

    def _at(self, slots: npt.NDArray[np.int64]) -> _Floats:
        """NaN where nothing is known."""
        if self._newest is None:
            return np.full(len(slots), np.nan)
        size = len(self._ring)
        held = (slots > self._newest - size) & (slots <= self._newest)
        return np.where(held, self._ring[slots % size], np.nan)

    # --- as it is told ---

    def told(self) -> DemandHistory | None:
        """None while there is nothing to tell."""
        if self._newest is None:
            return None
        size = len(self._ring)
        values = self._at(np.arange(self._newest - size + 1, self._newest + 1))
        begin = int(np.flatnonzero(~np.isnan(values))[0])
        hundredths = np.where(np.isnan(values[begin:]), _UNKNOWN, np.rint(values[begin:] * _HUNDREDTHS))
        needed = tuple(hundredths.astype(np.int64).tolist())
        return DemandHistory(slot_ms=self._slot_ms, first=self._newest - size + 1 + begin, needed=needed)

    def restore(self, told: DemandHistory | None) -> None:
        """Goes on with what was told; of another length of period it means nothing."""
        if told is None or told.slot_ms != self._slot_ms:
            return
        for number, value in enumerate(told.needed, told.first):
            if value != _UNKNOWN:
                self.note(value / _HUNDREDTHS, number * self._slot_ms)


def _medians(values: _Floats) -> _Floats:
    """Of the known values of each column, the lower of two; NaN where too few are known."""
    ordered = np.sort(values, axis=0)
    known = (~np.isnan(values)).sum(axis=0)
    middle = np.maximum(known - 1, 0) // 2
    found: _Floats = np.take_along_axis(ordered, middle[None, :], axis=0)[0]
    return np.where(known >= LEAST_PERIODS, found, np.nan)
