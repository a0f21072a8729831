"""The status service while its broker is away: it says so, gives up in time, and goes on when the broker is back."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from services.status.shell import TOPICS
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import PLACEMENTS
from shared.ports.event_log import LogError
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.test_status import (
    NOW,
    StatusProcess,
    histories,
    reached_step,
    story,
    until_async,
)
from tests.unit.status.records import heartbeat_record, placement_record

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

TIMEOUT_S = 3.0


async def connect(broker: EmbeddedKafka) -> KafkaLog:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=broker.bootstrap, timeout_s=TIMEOUT_S), "test-broker")
    await log.ensure_topics(TOPICS)
    return log


async def test_a_publisher_without_a_broker_gives_up_and_delivers_nothing_later(broker: EmbeddedKafka) -> None:
    log = await connect(broker)
    publisher = await log.publisher("test-broker")
    broker.kill()
    await publisher.send(placement_record(None))
    began = time.monotonic()
    with pytest.raises(LogError):
        await publisher.flush()
    with pytest.raises(LogError):
        await publisher.send(placement_record(None))
    await publisher.close()
    assert time.monotonic() - began < 4 * TIMEOUT_S
    await broker.start()
    again = await connect(broker)
    await asyncio.sleep(2)
    reader = await again.reader("test-broker")
    partitions = await again.partitions(PLACEMENTS.name)
    assert set((await reader.end_offsets(partitions)).values()) == {0}
    for opened in (reader, log, again):
        await opened.close()


async def test_it_goes_on_when_the_broker_is_back(broker: EmbeddedKafka, redis_url: str, tmp_path: Path) -> None:
    service = StatusProcess(tmp_path, broker.bootstrap, redis_url, FLOTILLA_KAFKA_TIMEOUT_S=str(TIMEOUT_S))
    await service.start()
    try:
        await service.until_ready()
        log = await connect(broker)
        publisher = await log.publisher("test-broker")
        steps = story("broker/cart", "c", change=True, delete=False)
        await publisher.send(heartbeat_record("c", at_ms=NOW(), interval_ms=600_000))
        for step in steps[: len(steps) // 2]:
            await publisher.send(step[0])
        await publisher.flush()
        await until_async(lambda: reached_step(log, "broker/cart", 4))
        await publisher.close()
        await log.close()
        broker.kill()

        async def says_so() -> bool:
            code, body = await service.get("/readyz")
            return code == 503 and ("log" in body)

        await until_async(says_so)
        await broker.start()
        log = await connect(broker)
        publisher = await log.publisher("test-broker")
        for step in steps[len(steps) // 2 :]:
            await publisher.send(step[0])
        await publisher.flush()
        await until_async(lambda: reached_step(log, "broker/cart", 8))
        await service.until_ready()
        events = (await histories(log, "broker"))["broker/cart"]
        assert [event.step for event in events] == list(range(1, 9))
        await publisher.close()
        await log.close()
        broker.kill()
        began = time.monotonic()
        assert await service.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 30
    finally:
        await service.close()
