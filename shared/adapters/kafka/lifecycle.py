"""Starting and ending aiokafka's clients within a time, and ending them for certain.

A client's start has no end of its own: a producer asks for its id until a controller gives it one. A client's ending
cancels its tasks and awaits them, and cannot tell their cancellation from others:

- A cancellation of whoever ends the client, which comes just then, is swallowed: that task would go on for ever. So
  an ending has a task of its own, and whoever waits for it waits on the outside.
- A fetch that waits out a back-off, since its broker is away, hands its cancellation to whoever stops the consumer,
  as if that had been cancelled itself, and all behind it stays open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def ended(ending: Coroutine[Any, Any, None], timeout_s: float) -> bool:
    """Whether a client's ending came to its end within the time; what it raises is raised."""
    task = asyncio.create_task(ending)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        task.cancel()
    if not task.done() or task.cancelled():
        return False
    await task
    return True


async def start(client: AIOKafkaConsumer | AIOKafkaProducer, timeout_s: float) -> None:
    """Within the time, or what was begun is ended again. Raises TimeoutError and KafkaError."""
    try:
        async with asyncio.timeout(timeout_s):
            await client.start()
    except BaseException:
        await ended(client.stop(), timeout_s)
        raise


async def stop_consumer(consumer: AIOKafkaConsumer, timeout_s: float) -> None:
    """Ends the consumer and everything that it started, within the time, whatever its broker does."""
    if await ended(consumer.stop(), timeout_s):
        return
    left = {task for task in consumer._fetcher._pending_tasks if not task.done()} if consumer._fetcher else set()
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=timeout_s)
    await ended(consumer._client.close(), timeout_s)
