"""Stopping a consumer for certain.

aiokafka's `stop` cancels its fetches and awaits them: one that waits out a back-off, since its broker is away, hands
its cancellation to whoever stops the consumer, as if that had been cancelled itself, and all behind it stays open.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer


async def stop_consumer(consumer: AIOKafkaConsumer, timeout_s: float) -> None:
    """Ends the consumer and everything that it started, within the time, whatever its broker does."""
    stopping = asyncio.create_task(consumer.stop())
    try:
        await asyncio.wait({stopping}, timeout=timeout_s)
    finally:
        stopping.cancel()
    if stopping.done() and not stopping.cancelled():
        await stopping
        return
    left = {task for task in consumer._fetcher._pending_tasks if not task.done()} if consumer._fetcher else set()
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=timeout_s)
    await consumer._client.close()
