"""Where a reader says that it stands, on real partitions whose last offsets are no records."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaProducer

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import Cleanup, Topic
from shared.ports.event_log import START, Partition

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


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
            read = []
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
