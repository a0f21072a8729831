from __future__ import annotations

import asyncio

import pytest

from services.executor.work_queue import WorkQueue
from shared.adapters.clock import SteadyClock
from shared.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now_ms=0)


@pytest.fixture
def queue(clock: FakeClock) -> WorkQueue:
    return WorkQueue(clock)


async def taken(queue: WorkQueue) -> str | None:
    """The next key, if there is one now."""
    task = asyncio.create_task(queue.get())
    for _ in range(5):
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


async def test_a_key_that_waits_is_one_entry(queue: WorkQueue) -> None:
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert [await taken(queue) for _ in range(3)] == ["a", "b", None]


async def test_a_key_is_with_one_worker_and_comes_again_if_it_was_added_meanwhile(queue: WorkQueue) -> None:
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert await taken(queue) is None, "it is being worked on"
    queue.done("a")
    assert await taken(queue) == "a"
    queue.done("a")
    assert await taken(queue) is None
    assert queue.idle


async def test_a_key_is_due_at_its_time_and_the_last_time_counts(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add_at("a", 1_000)
    queue.add_at("a", 5_000)
    queue.add_at("b", 3_000)
    await clock.advance(2)
    assert await taken(queue) is None
    await clock.advance(1)
    assert await taken(queue) == "b"
    await clock.advance(2)
    assert await taken(queue) == "a"


async def test_a_waiting_worker_is_woken_by_a_new_key_and_by_an_earlier_time(
    queue: WorkQueue, clock: FakeClock
) -> None:
    queue.add_at("late", 60_000)
    first = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("now")
    assert await asyncio.wait_for(first, 10) == "now"
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_at("soon", 1_000)
    for _ in range(3):
        await asyncio.sleep(0)
    await clock.advance(1)
    assert await asyncio.wait_for(second, 10) == "soon"


async def test_outdated_times_do_not_pile_up(queue: WorkQueue) -> None:
    for number in range(10_000):
        queue.add_at("a", 1_000_000 + number)
    assert len(queue._heap) < 1_000


async def test_what_is_due_does_not_wait_for_a_clock_that_was_set_back() -> None:
    """Found by simulation: a retry that was an hour away when the executor's clock was put right."""

    class SetClock(FakeClock):
        wrong_ms = 3_600_000

        def now_ms(self) -> int:
            return super().now_ms() + self.wrong_ms

    clock = SetClock(now_ms=0)
    steady = SteadyClock(clock)
    queue = WorkQueue(steady)
    queue.add_at("a", steady.now_ms() + 1_000)
    clock.wrong_ms = 0
    await clock.advance(1.5)
    assert await taken(queue) == "a"
