"""Where a reader says that it stands, on real partitions whose last offsets are no records."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import Cleanup, Topic
from shared.ports.event_log import START, Committed, NewRecord, Partition, Record
from shared.runtime.embedded import EmbeddedKafka

pytestmark = [pytest.mark.kafka]


def a_topic() -> Topic:
    return Topic(
        f"positions.{uuid.uuid4().hex}",
        "of one test",
        key="key",
        partitions=1,
        cleanup=Cleanup.DELETE,
        retention_ms=3_600_000,
        messages=(),
        written_by=(),
        read_by=(),
    )


async def test_a_user_s_transaction_is_read_to_its_end(kafka_bootstrap: str) -> None:
    """Its commit marker has an offset of its own. Who waits for the end must come to it, or waits for ever."""
    topic = a_topic()
    log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka_bootstrap), "positions")
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=topic.name)
    try:
        await log.ensure_topics([topic])
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(topic.name, b"value", key=b"key")
        reader = await log.reader("positions")
        try:
            partition = Partition(topic.name, 0)
            await reader.assign({partition: START})
            read: list[Record] = []
            async with asyncio.timeout(20):
                while reader.positions()[partition] < (await reader.end_offsets([partition]))[partition]:
                    read += await reader.read(timeout_s=0.2)
        finally:
            await reader.close()
        assert [record.value for record in read] == [b"value"]
        assert reader.positions() == {partition: 2}
    finally:
        await producer.stop()
        await log.close()


async def test_stored_positions_are_there_as_soon_as_a_broker_that_was_killed_answers(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    """While it loads its groups it must not seem as if nothing had ever been stored."""
    assert kafka_bootstrap  # the parts are there; this test's broker is its own
    topic = a_topic()
    partition = Partition(topic.name, 0)
    async with EmbeddedKafka(tmp_path / "kafka") as kafka:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "positions")
        await log.ensure_topics([topic])
        for number in range(5):
            await log.commit(f"group-{number}", {partition: Committed(7, "here")})
        await log.close()
        for _ in range(2):
            kafka.kill()
            await kafka.start()
            log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "positions")
            for number in range(5):
                assert await log.committed(f"group-{number}", [partition]) == {partition: Committed(7, "here")}
            await log.close()


async def test_how_far_a_reader_is_behind_is_a_metric(kafka_bootstrap: str) -> None:
    topic = a_topic()
    log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka_bootstrap), "positions")
    await log.ensure_topics([topic])
    publisher = await log.publisher("positions")
    for number in range(50):
        await publisher.send(NewRecord(topic.name, b"k", b"%d" % number))
    await publisher.close()
    name = f"reader-{topic.name}"
    reader = await log.reader(name)
    await reader.assign({Partition(topic.name, 0): START})

    def lag() -> float | None:
        return REGISTRY.get_sample_value("flotilla_reader_lag_records", {"reader": name, "topic": topic.name})

    assert len(await reader.read(max_records=10, timeout_s=10)) == 10
    assert lag() == 40
    async with asyncio.timeout(20):
        while lag() != 0:
            await reader.read(timeout_s=0.2)
    await reader.close()
    assert lag() is None
    await log.close()
