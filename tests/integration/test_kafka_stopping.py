"""A cancellation that comes while a client of the log is closed reaches whoever closes it.

aiokafka takes it for that of its own tasks, which it cancels just then, and swallows it: a task that went on reading
behind it would never end, and nor would the stop of its service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.adapters.kafka import KafkaLog, KafkaOptions

pytestmark = pytest.mark.kafka

Open = Callable[[KafkaLog], Awaitable[Callable[[], Awaitable[None]]]]
# The moments of a close: so many turns of the loop after its beginning.
_MOMENTS = range(1, 16)


async def reader(log: KafkaLog) -> Callable[[], Awaitable[None]]:
    return (await log.reader("stopping")).close


async def publisher(log: KafkaLog) -> Callable[[], Awaitable[None]]:
    return (await log.publisher("stopping")).close


async def another_log(log: KafkaLog) -> Callable[[], Awaitable[None]]:
    return (await KafkaLog.connect(log._options, "stopping-too")).close


@pytest.mark.parametrize("opened", [reader, publisher, another_log])
async def test_a_cancellation_is_not_swallowed(opened: Open, kafka_bootstrap: str) -> None:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka_bootstrap), "stopping")
    told = 0
    try:
        for moment in _MOMENTS:
            close = await opened(log)

            async def closing(close: Callable[[], Awaitable[None]] = close) -> None:
                await close()

            task = asyncio.create_task(closing())
            for _ in range(moment):
                await asyncio.sleep(0)
            cancelled = task.cancel()
            await asyncio.wait({task}, timeout=20)
            assert task.done()
            if cancelled:
                told += 1
                assert task.cancelled(), f"{moment} turns after its beginning"
    finally:
        await log.close()
    assert told > 3
