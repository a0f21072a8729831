"""Each object once, never twice at a time, later and later after failures."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from services.hub import metrics
from services.hub.decision.instructions import Item
from services.hub.work_queue import WorkQueue

A, B = Item("", "a"), Item("ns", "b")


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    made = WorkQueue(metrics.QUEUED)
    yield made
    made.close()


async def test_an_object_is_in_it_once(queue: WorkQueue) -> None:
    for item in (A, B, A, A):
        queue.add(item)
    assert len(queue) == 2
    assert [await queue.take(), await queue.take()] == [A, B]
    assert len(queue) == 0


async def test_what_is_worked_on_comes_again_afterwards(queue: WorkQueue) -> None:
    queue.add(A)
    assert await queue.take() == A
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert await queue.take() == A
    queue.done(A)
    assert len(queue) == 0


async def test_a_waiting_worker_is_woken(queue: WorkQueue) -> None:
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(B)
    assert await asyncio.wait_for(taking, 10) == B


async def test_the_sooner_of_two_times_holds(queue: WorkQueue) -> None:
    queue.add(A, 0.05)
    queue.add(A, 30)
    assert await asyncio.wait_for(queue.take(), 10) == A
    queue.done(A)
    queue.add(B, 30)
    queue.add(B, 0.05)
    assert await asyncio.wait_for(queue.take(), 10) == B


async def test_failures_come_back_later_and_later(queue: WorkQueue) -> None:
    pauses = [queue.failed(A, None) for _ in range(12)]
    assert pauses[0] < 0.1
    assert pauses[4] > pauses[0]
    assert 20 < pauses[-1] <= 36
    queue.succeeded(A)
    assert queue.failed(A, None) < 0.1


async def test_the_server_may_ask_for_a_longer_pause(queue: WorkQueue) -> None:
    assert queue.failed(A, 7.0) == 7.0


async def test_one_object_wakes_one_of_the_workers_that_wait(queue: WorkQueue) -> None:
    woken = 0

    @types.coroutine
    def taken() -> Generator[Any, None, Item]:
        nonlocal woken
        taking = queue.take().__await__()
        while True:
            try:
                wanted = next(taking)
            except StopIteration as done:
                item: Item = done.value
                return item
            yield wanted
            woken += 1

    async def work() -> Item:
        return await taken()

    workers = [asyncio.create_task(work()) for _ in range(8)]
    await asyncio.sleep(0)
    queue.add(A)
    done, waiting = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)
    assert [task.result() for task in done] == [A]
    assert woken == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_worker_that_is_cancelled_when_woken_leaves_the_object_to_another(queue: WorkQueue) -> None:
    first, second = (asyncio.create_task(queue.take()) for _ in range(2))
    await asyncio.sleep(0)
    queue.add(A)
    first.cancel()
    assert await asyncio.wait_for(second, 10) == A
