"""How leadership changes hands: by resigning, by silence, and never because a replica slept itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.journal import decode_entry
from services.scheduler.leadership import _why_over
from services.scheduler.publisher import FencedError
from services.scheduler.settings import SchedulerSettings
from services.scheduler.shell import SchedulerService
from shared.adapters.clock import SystemClock
from shared.events.topics import DECISIONS, SOLE_WRITERS
from shared.events.v1.decisions import DecisionsMade, EpochStarted
from shared.ports.event_log import LogError, NewRecord, WriterReplacedError
from tests.integration.scheduler.world import World, apply_request, scheduler, start_scheduler

LONG_LEASE_S = 30.0


class JumpingClock(SystemClock):
    """Monotonic time that leaps, as it does for a process that was paused."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def entries(world: World) -> list[EpochStarted | DecisionsMade]:
    return [decode_entry(record) for record in await world.records(DECISIONS.name)]


async def until(world: World, condition: Callable[[list[EpochStarted | DecisionsMade]], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not condition(await entries(world)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def settled(world: World) -> list[str]:
    """The leaders so far, once there was no further one for a while."""
    deadline = time.monotonic() + 60
    known, since = list[str](), time.monotonic()
    while not known or time.monotonic() - since < 1.5:
        found = leaders(await entries(world))
        if found != known:
            known, since = found, time.monotonic()
        assert time.monotonic() < deadline, known
        await asyncio.sleep(0.05)
    return known


def leaders(found: list[EpochStarted | DecisionsMade]) -> list[str]:
    return [entry.leader for entry in found if isinstance(entry, EpochStarted)]


def replica(world: World, name: str, clock: SystemClock | None = None) -> tuple[asyncio.Task[None], asyncio.Event]:
    settings = SchedulerSettings(scheduler_id=name, scheduler_renew_s=0.2, scheduler_lease_s=LONG_LEASE_S, http_port=-1)
    service = SchedulerService(world.log, clock or SystemClock(), settings, SchedulerConfig())
    stop = asyncio.Event()
    return asyncio.create_task(service.run(stop)), stop


async def test_a_leader_that_stops_hands_over_long_before_its_lease_ends(world: World) -> None:
    await world.prepare()
    first, stop_first = replica(world, "first")
    await until(world, lambda found: bool(leaders(found)), 60)
    second, stop_second = replica(world, "second")
    await asyncio.sleep(0.5)
    began = time.monotonic()
    stop_first.set()
    await first
    await until(world, lambda found: leaders(found) == ["first", "second"], LONG_LEASE_S / 2)
    assert time.monotonic() - began < LONG_LEASE_S / 2
    stop_second.set()
    await second


async def test_a_standby_that_slept_itself_does_not_replace_a_leader_that_renews(world: World) -> None:
    await world.prepare()
    first, stop_first = replica(world, "first")
    await until(world, lambda found: bool(leaders(found)), 60)
    clock = JumpingClock()
    second, stop_second = replica(world, "second", clock)
    await asyncio.sleep(1)
    clock.ahead += 10 * LONG_LEASE_S
    await asyncio.sleep(1.5)
    assert leaders(await entries(world)) == ["first"]
    for task, stop in ((second, stop_second), (first, stop_first)):
        stop.set()
        await task


async def test_a_marker_that_came_second_is_followed_by_one_that_counts(world: World) -> None:
    """Its publisher replaced the winner's, so nobody could write if it gave way."""
    await world.prepare()
    name = f"{SOLE_WRITERS['scheduler']}journal-0"
    usurper = await world.log.sole_publisher("usurper", name)
    running = start_scheduler(world.log, "first")
    await world.request(apply_request("one"))
    await until(world, lambda found: leaders(found) == ["first"], 60)
    late = EpochStarted(cell="0", epoch=1, leader="usurper")
    with pytest.raises(WriterReplacedError):
        await (await usurper.send(NewRecord(DECISIONS.name, None, late.to_json(), partition=0)))
    await usurper.close()
    await running.stop()


async def test_three_replicas_that_start_at_once_have_one_leader(world: World) -> None:
    """Each may start an epoch, since nobody leads yet; with this lease none is taken for dead on a busy machine."""
    await world.prepare()
    running = [replica(world, f"r{number}") for number in range(3)]
    before = await settled(world)
    await world.request(apply_request("one"))
    await until(world, lambda found: any(isinstance(entry, DecisionsMade) and entry.decisions for entry in found), 60)
    assert leaders(await entries(world)) == before
    for task, stop in running:
        stop.set()
        await task


async def test_a_replaced_leader_is_told_by_the_broker_at_its_next_append(world: World) -> None:
    await world.prepare()
    async with scheduler(world.log, "first"):
        await until(world, lambda found: bool(leaders(found)), 60)
        # Somebody opens the journal as its writer and appends an empty renewal of nobody's: only the broker can tell.
        other = await world.log.sole_publisher("other", f"{SOLE_WRITERS['scheduler']}journal-0")
        entry = DecisionsMade(cell="0", epoch=99, leader="nobody", decided_at=1)
        await (await other.send(NewRecord(DECISIONS.name, None, entry.to_json(), partition=0)))
        await other.close()
        await until(world, lambda found: leaders(found) == ["first", "first"], 60)


def test_of_errors_that_come_together_the_one_that_says_most_counts() -> None:
    fenced, lost = FencedError("two started epoch 2"), LogError("flush")
    assert isinstance(_why_over(ExceptionGroup("", [lost, fenced])), FencedError)
    assert isinstance(
        _why_over(ExceptionGroup("", [ExceptionGroup("", [WriterReplacedError("newer")]), lost])), FencedError
    )
    assert str(_why_over(lost)) == "flush"
    defect = ExceptionGroup("", [fenced, ValueError("a defect")])
    assert _why_over(defect) is defect
