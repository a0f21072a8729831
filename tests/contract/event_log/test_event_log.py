"""The contract of the `EventLog` port: one suite on the logs in memory and of the simulation, and on Apache Kafka."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from typing import cast

import pytest

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import Cleanup, Topic
from shared.ports.event_log import (
    END,
    START,
    Committed,
    EventLog,
    LogError,
    NewRecord,
    Partition,
    Reader,
    Record,
    RecordTooLargeError,
    WriterReplacedError,
)
from tests.simulation.broker import Broker
from tests.simulation.history import History
from tests.simulation.links import Link
from tests.simulation.log_client import SimLog
from tests.simulation.loop import VirtualLoop
from tests.simulation.process import Process


@pytest.fixture(params=["memory", "simulation", pytest.param("kafka", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Where the broker is; the name of the log where there is none."""
    return str(request.getfixturevalue("kafka_bootstrap")) if request.param == "kafka" else str(request.param)


@pytest.fixture
async def log(bootstrap: str) -> AsyncIterator[EventLog]:
    if bootstrap == "memory":
        yield MemoryLog()
        return
    if bootstrap == "simulation":
        # Its clock is the event loop's, which is here the real one.
        loop = cast("VirtualLoop", asyncio.get_running_loop())
        yield SimLog(Process(loop, "contract", 1), Broker(loop, History()), Link(loop, random.Random(1)))
        return
    connected = await KafkaLog.connect(KafkaOptions(bootstrap=bootstrap), "contract")
    yield connected
    await connected.close()


def a_topic(partitions: int = 1, cleanup: Cleanup = Cleanup.DELETE) -> Topic:
    return Topic(
        f"contract.{uuid.uuid4().hex}",
        "of one test",
        key="key",
        partitions=partitions,
        cleanup=cleanup,
        retention_ms=3_600_000,
        messages=(),
        written_by=(),
        read_by=(),
    )


async def read_until(reader: Reader, count: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(20):
        while len(records) < count:
            records += await reader.read(timeout_s=0.5)
    return records


async def test_topics_are_created_once_and_absent_ones_have_no_partitions(log: EventLog) -> None:
    topic = a_topic(partitions=3)
    assert await log.partitions(topic.name) == []
    await log.ensure_topics([topic])
    await log.ensure_topics([topic])
    assert await log.partitions(topic.name) == [Partition(topic.name, n) for n in range(3)]


async def test_records_come_back_as_sent_and_in_order(log: EventLog) -> None:
    topic = a_topic()
    await log.ensure_topics([topic])
    publisher = await log.publisher("p")
    acks = [
        await publisher.send(NewRecord(topic.name, b"k", f"{n}".encode(), (("h", b"\x00\xff"),))) for n in range(200)
    ]
    await publisher.send(NewRecord(topic.name, b"k", None))
    await publisher.flush()
    assert [(await ack).offset for ack in acks] == list(range(200))
    reader = await log.reader("r")
    await reader.assign({Partition(topic.name, 0): START})
    records = await read_until(reader, 201)
    assert [record.value for record in records[:200]] == [f"{n}".encode() for n in range(200)]
    assert records[0].header("h") == b"\x00\xff"
    assert records[200].value is None
    assert reader.positions() == {Partition(topic.name, 0): 201}
    await publisher.close()
    await reader.close()


async def test_many_records_at_once_keep_their_order_with_those_that_are_sent_singly(log: EventLog) -> None:
    topic = a_topic(partitions=4, cleanup=Cleanup.COMPACT)
    await log.ensure_topics([topic])
    publisher = await log.publisher("test")
    payload = b"x" * 3000
    sent: list[NewRecord] = []
    for part in range(20):
        many = [
            NewRecord(topic.name, b"k%d" % n, None if n % 7 == 0 else payload, (("n", b"%d" % n),), b"cluster")
            for n in range(part * 100, part * 100 + 100 - 3 * part)
        ]
        await publisher.send_many(many)
        single = NewRecord(topic.name, b"single", b"%d" % part, (), b"cluster")
        await publisher.send(single)
        sent += [*many, single]
    await publisher.send_many([])
    other = [NewRecord(topic.name, b"key-%d" % n, b"1") for n in range(40)]
    await publisher.send_many(other)
    await publisher.flush()
    await publisher.close()

    reader = await log.reader("test")
    await reader.assign(dict.fromkeys(await log.partitions(topic.name), START))
    records = await read_until(reader, len(sent) + len(other))
    await reader.close()

    assert all(record.timestamp_ms > 0 for record in records)
    of_cluster = [record for record in records if not (record.key or b"").startswith(b"key-")]
    assert len({record.partition for record in of_cluster}) == 1
    assert [(r.key, r.value, r.headers) for r in of_cluster] == [(r.key, r.value, r.headers) for r in sent]
    alone = {record.key: record.partition for record in records if (record.key or b"").startswith(b"key-")}
    assert len(set(alone.values())) > 1


async def test_of_many_the_one_that_is_too_large_is_refused(log: EventLog) -> None:
    topic = a_topic()
    await log.ensure_topics([topic])
    publisher = await log.publisher("test")
    with pytest.raises(RecordTooLargeError):
        await publisher.send_many([NewRecord(topic.name, b"k", b"x" * (17 * 1024 * 1024))] * 5)
    await publisher.close()


async def test_one_partition_key_keeps_its_partition_whatever_the_key(log: EventLog) -> None:
    topic = a_topic(partitions=8)
    await log.ensure_topics([topic])
    publisher = await log.publisher("p")
    chosen = set()
    for n in range(20):
        ack = await publisher.send(NewRecord(topic.name, f"{n}".encode(), b"", partition_key=b"cluster-a"))
        chosen.add((await ack).partition)
    by_key = [(await (await publisher.send(NewRecord(topic.name, b"cluster-a", b"")))).partition for _ in range(2)]
    explicit = await (await publisher.send(NewRecord(topic.name, b"x", b"", partition=5)))
    assert chosen == set(by_key)
    assert explicit.partition == 5
    await publisher.close()


async def test_reading_from_end_offset_and_position(log: EventLog) -> None:
    topic = a_topic()
    partition = Partition(topic.name, 0)
    await log.ensure_topics([topic])
    publisher = await log.publisher("p")
    for n in range(5):
        await publisher.send(NewRecord(topic.name, b"k", f"{n}".encode()))
    await publisher.flush()
    reader = await log.reader("r")
    await reader.assign({partition: END})
    assert await reader.read(timeout_s=0.2) == []
    await publisher.send(NewRecord(topic.name, b"k", b"late"))
    assert [record.value for record in await read_until(reader, 1)] == [b"late"]
    await reader.assign({partition: 3})
    assert [record.value for record in await read_until(reader, 3)] == [b"3", b"4", b"late"]
    assert await reader.end_offsets([partition]) == {partition: 6}
    await publisher.close()
    await reader.close()


async def test_a_waiting_read_wakes_when_a_record_comes(log: EventLog) -> None:
    topic = a_topic()
    await log.ensure_topics([topic])
    publisher, reader = await log.publisher("p"), await log.reader("r")
    await reader.assign({Partition(topic.name, 0): START})
    reading = asyncio.create_task(read_until(reader, 1))
    await asyncio.sleep(0.05)
    await publisher.send(NewRecord(topic.name, b"k", b"v"))
    assert (await asyncio.wait_for(reading, 30))[0].value == b"v"
    await publisher.close()
    await reader.close()


async def test_what_is_too_large_is_refused_and_the_publisher_goes_on(log: EventLog) -> None:
    topic = a_topic()
    await log.ensure_topics([topic])
    publisher = await log.publisher("p")
    with pytest.raises(RecordTooLargeError):
        await publisher.send(NewRecord(topic.name, b"k", bytes(17 * 1024 * 1024)))
    ack = await publisher.send(NewRecord(topic.name, b"k", b"small"))
    assert (await ack).offset == 0
    await publisher.close()


async def test_an_offset_that_is_not_in_the_log_is_an_error(log: EventLog) -> None:
    topic = a_topic()
    await log.ensure_topics([topic])
    reader = await log.reader("r")
    await reader.assign({Partition(topic.name, 0): 1000})

    async def read_for_a_while() -> None:
        for _ in range(20):
            await reader.read(timeout_s=0.5)

    with pytest.raises(LogError, match="no longer in the log"):
        await read_for_a_while()
    await reader.close()


async def test_committed_positions_survive_with_their_metadata(log: EventLog) -> None:
    topic = a_topic(partitions=2)
    await log.ensure_topics([topic])
    group = f"group-{uuid.uuid4().hex}"
    first, second = await log.partitions(topic.name)
    assert await log.committed(group, [first, second]) == {}
    await log.commit(group, {first: Committed(7, '{"epoch": 3}')})
    await log.commit(group, {first: Committed(9, "x"), second: Committed(1)})
    assert await log.committed(group, [first, second]) == {first: Committed(9, "x"), second: Committed(1, "")}


async def test_a_record_for_a_partition_that_does_not_exist_is_refused(log: EventLog) -> None:
    topic = a_topic()
    await log.ensure_topics([topic])
    publisher = await log.publisher("p")
    with pytest.raises(LogError):
        await publisher.send(NewRecord(topic.name, b"k", b"v", partition=9))
    await publisher.close()


async def test_of_two_publishers_of_one_writer_only_the_newer_may_write(log: EventLog) -> None:
    topic = a_topic(partitions=2)
    await log.ensure_topics([topic])
    writer = f"writer-{uuid.uuid4().hex}"
    older = await log.sole_publisher("older", writer)
    assert (await (await older.send(NewRecord(topic.name, b"k", b"1", partition=0)))).offset == 0
    newer = await log.sole_publisher("newer", writer)
    other = await log.sole_publisher("other", f"{writer}-other")
    assert (await (await newer.send(NewRecord(topic.name, b"k", b"2", partition=0)))).offset == 1

    async def late() -> None:
        await older.send(NewRecord(topic.name, b"k", b"late", partition=0))
        await older.flush()

    with pytest.raises(WriterReplacedError):
        await late()
    with pytest.raises(WriterReplacedError):
        await late()
    assert (await (await newer.send(NewRecord(topic.name, b"k", b"3", partition=0)))).offset == 2
    assert (await (await other.send(NewRecord(topic.name, b"k", b"4", partition=0)))).offset == 3
    for publisher in (older, newer, other):
        await publisher.close()


async def test_partitions_that_were_told_refuse_the_older_publisher_before_the_newer_writes(log: EventLog) -> None:
    topic = a_topic(partitions=3)
    await log.ensure_topics([topic])
    writer = f"writer-{uuid.uuid4().hex}"
    older = await log.sole_publisher("older", writer)
    await (await older.send(NewRecord(topic.name, b"k", b"1", partition=0)))
    partitions = await log.partitions(topic.name)
    newer = await log.sole_publisher("newer", writer, partitions)
    for number in range(3):
        with pytest.raises(WriterReplacedError):
            await (await older.send(NewRecord(topic.name, b"k", b"late", partition=number)))
    sent = [await newer.send(NewRecord(topic.name, b"k", b"2", partition=number)) for number in range(3)]
    await newer.flush()
    assert [(await ack).partition for ack in sent] == [0, 1, 2]
    # The markers are no records: a reader passes them, to the very end.
    reader = await log.reader("r")
    await reader.assign(dict.fromkeys(partitions, START))
    records = await read_until(reader, 4)
    assert [record.value for record in records].count(b"late") == 0
    async with asyncio.timeout(30):
        ends = await reader.end_offsets(partitions)
        while any(reader.positions()[partition] < end for partition, end in ends.items()):
            assert not await reader.read(timeout_s=0.2)
    for publisher in (older, newer):
        await publisher.close()
    await reader.close()
