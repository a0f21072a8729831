"""A clock that somebody sets, and one that does not jump with it."""

from __future__ import annotations

import pytest

from shared.adapters.clock import SteadyClock
from shared.testing.clock import FakeClock


class SetClock(FakeClock):
    """`set_by` milliseconds, forwards or back."""

    set_by = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.set_by


@pytest.mark.parametrize("set_by", [-3_600_000, 60_000])
async def test_a_steady_clock_goes_on_when_its_clock_is_set(set_by: int) -> None:
    clock = SetClock()
    steady = SteadyClock(clock)
    began = steady.now_ms()
    clock.set_by = set_by
    await clock.advance(2.5)
    assert steady.now_ms() == began + 2_500
    assert SteadyClock(clock).now_ms() == clock.now_ms() == began + 2_500 + set_by
