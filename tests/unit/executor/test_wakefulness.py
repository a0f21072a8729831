"""An executor that was paused makes no call out of what it knew before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.executor.calls import Caller
from services.executor.decision.identity import NAMESPACE, ObjectId
from services.executor.decision.instructions import CreateNamespace
from services.executor.wakefulness import SuspendedError, Wakefulness, was_suspended
from shared.testing.clock import FakeClock

LIMIT_S = 10.0


class LeapingClock(FakeClock):
    """Its process may be stopped: time goes on, and nothing of it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.stopped_s


class Api:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.applied = 0

    async def apply(self, *_: Any) -> dict[str, Any]:
        self.applied += 1
        return {}


def call() -> CreateNamespace:
    return CreateNamespace(cause="t", subject="workload/a/b", target=ObjectId(NAMESPACE, "", "a"))


async def test_a_call_that_was_decided_before_a_pause_is_not_made() -> None:
    clock, api = LeapingClock(), Api()
    awake = Wakefulness(clock, LIMIT_S)
    caller = Caller(api, {}, asyncio.Semaphore(1), awake, lambda _: True)  # type: ignore[arg-type]
    watching = asyncio.create_task(awake.watch())
    for _ in range(20):
        await asyncio.sleep(0)
        await clock.advance(LIMIT_S / 4)
    await caller.carry_out(call())
    assert api.applied == 1
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

    clock.stopped_s = LIMIT_S + 1
    with pytest.raises(SuspendedError):
        await caller.carry_out(call())
    assert api.applied == 1


async def test_a_pause_is_noticed_without_any_call() -> None:
    clock = LeapingClock()
    watching = asyncio.create_task(Wakefulness(clock, LIMIT_S).watch())
    await asyncio.sleep(0)
    clock.stopped_s = 3 * LIMIT_S
    await clock.advance(LIMIT_S)
    with pytest.raises(SuspendedError):
        async with asyncio.timeout(30):
            await watching


def test_a_pause_is_recognised_in_a_group() -> None:
    assert was_suspended(ExceptionGroup("", [ExceptionGroup("", [SuspendedError("x")]), ValueError("y")]))
    assert not was_suspended(ExceptionGroup("", [ValueError("y")]))
