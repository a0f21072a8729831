"""An idempotent producer behind the `Publisher` port: acks from all in-sync replicas, order kept, nothing twice."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Generator, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced

from shared.adapters.kafka.fencing import newest_producer
from shared.adapters.kafka.lifecycle import ended, start
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.kafka.partitioner import partition_for
from shared.ports.event_log import (
    LogError,
    NewRecord,
    Partition,
    Position,
    RecordTooLargeError,
    WriterReplacedError,
)

MAX_RECORD_BYTES = 16 * 1024 * 1024
# Below what a topic takes as one batch unless it says otherwise (1 MB). Four times less costs the watcher a fifth of
# its rate; a batch is only as large as what there is to send.
_BATCH_BYTES = 900 * 1024
# Keys of which the partition is kept: to hash one costs more than to look it up, and names come and go.
_MOST_KNOWN = 16_384


class Acknowledgement(Awaitable[Position]):
    """Wraps the client's future without a second future for each record."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, Position]:
        try:
            metadata = yield from self._future.__await__()
        except KafkaError as error:
            raise _failed("the record was not acknowledged", error) from error
        return Position(metadata.topic, metadata.partition, metadata.offset)


class KafkaPublisher:
    def __init__(self, producer: AIOKafkaProducer, timeout_s: float) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._failure: BaseException | None = None
        self._partitions: dict[tuple[str, bytes], int] = {}

    @classmethod
    async def open(cls, options: KafkaOptions, client_id: str) -> KafkaPublisher:
        """Raises TimeoutError and KafkaError."""
        producer = AIOKafkaProducer(**_arguments(options, client_id))
        await start(producer, options.timeout_s)
        return cls(producer, options.timeout_s)

    @classmethod
    async def open_sole(
        cls, options: KafkaOptions, client_id: str, writer: str, announce: Iterable[Partition]
    ) -> KafkaPublisher:
        """Raises LogError."""
        producer = await newest_producer(_arguments(options, client_id), writer, announce, options.timeout_s)
        return cls(producer, options.timeout_s)

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        if self._failure is not None:
            raise _failed("an earlier record was not delivered", self._failure)
        partition = await self._partition_for(record)
        try:
            future = await self._producer.send(
                record.topic, record.value, record.key, partition, headers=list(record.headers)
            )
        except MessageSizeTooLargeError as error:
            raise RecordTooLargeError(f"{record.topic}: {error}") from error
        except (KafkaError, AssertionError) as error:
            # aiokafka asserts that the partition exists.
            raise LogError(f"{record.topic}: {error!r}") from error
        future.add_done_callback(self._note)
        return Acknowledgement(future)

    async def send_many(self, records: Sequence[NewRecord]) -> None:
        """What goes to one partition goes there together, in its order, without a future for each record."""
        if self._failure is not None:
            raise _failed("an earlier record was not delivered", self._failure)
        runs: dict[tuple[str, int | None], list[NewRecord]] = {}
        run: list[NewRecord] = []
        last: NewRecord | None = None
        for record in records:
            if last is None or not _goes_with(record, last):
                run = runs.setdefault((record.topic, await self._partition_for(record)), [])
            run.append(record)
            last = record
        for (topic, partition), together in runs.items():
            await self._send_run(together, topic, partition)

    async def _send_run(self, run: Sequence[NewRecord], topic: str, partition: int | None) -> None:
        if partition is None:
            for record in run:
                await self.send(record)
            return
        # What waits for its turn takes them along: a partition has one batch on its way at a time.
        batch, waits = self._waiting(topic, partition), True
        for record in run:
            if len(record.key or b"") + len(record.value or b"") > MAX_RECORD_BYTES:
                raise RecordTooLargeError(f"{topic}: larger than {MAX_RECORD_BYTES} bytes")
            if batch is not None and _append(batch, record):
                continue
            if batch is not None and not waits:
                await self._send_batch(batch, topic, partition)
            batch, waits = self._producer.create_batch(), False
            _append(batch, record)
        if batch is not None and not waits:
            await self._send_batch(batch, topic, partition)

    def _waiting(self, topic: str, partition: int) -> Any:
        """The client's last batch for a partition that is not on its way yet; None without one.

        Whoever made it is told how it ended, and so are we: each of our batches, and each record sent alone, is noted.
        """
        batches = self._producer._message_accumulator._batches.get(TopicPartition(topic, partition))
        return batches[-1]._builder if batches else None

    async def _send_batch(self, batch: Any, topic: str, partition: int) -> None:
        if self._failure is not None:
            raise _failed("an earlier record was not delivered", self._failure)
        if self._queue(batch, TopicPartition(topic, partition)):
            return
        try:
            future = await self._producer.send_batch(batch, topic, partition=partition)
        except (KafkaError, AssertionError) as error:
            raise LogError(f"{topic}: {error!r}") from error
        future.add_done_callback(self._note)

    def _queue(self, batch: Any, place: TopicPartition) -> bool:
        """What the client's `send_batch` comes to where nothing waits, without half a dozen steps on its way there."""
        client = self._producer._message_accumulator
        known = place.partition in (self._producer._metadata.partitions_for_topic(place.topic) or ())
        if not known or place in client._batches or client._closed or client._exception is not None:
            return False
        client._append_batch(batch, place).future.add_done_callback(self._note)
        return True

    async def flush(self) -> None:
        # An idempotent producer of aiokafka has no deadline of its own: it tries until it is stopped.
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._producer.flush()
        except TimeoutError as error:
            self._failure = self._failure or error
            raise LogError(f"flush: not acknowledged within {self._timeout_s:g} s") from error
        except KafkaError as error:
            raise _failed("flush", error) from error
        if self._failure is not None:
            raise _failed("a record was not delivered", self._failure)

    async def close(self) -> None:
        """Delivers what was sent, within the deadline; what is not delivered by then never will be."""
        try:
            await self.flush()
        except LogError as error:
            await self._abandon(error)
        await ended(self._producer.stop(), self._timeout_s)

    async def _abandon(self, reason: LogError) -> None:
        """Without this the client's sender would go on behind our back, and deliver when nobody expects it any more."""
        sender = self._producer._sender.sender_task
        sender.cancel()
        # It waits for the requests that are on their way; cancelled twice it would take us with it.
        await asyncio.wait({sender}, timeout=self._timeout_s)
        self._producer._message_accumulator.fail_all(KafkaError(str(reason)))

    async def _partition_for(self, record: NewRecord) -> int | None:
        """None leaves it to the client: a record without any key."""
        if record.partition is not None:
            return record.partition
        key = record.partition_key if record.partition_key is not None else record.key
        return None if key is None else await self._partition_of(record.topic, key)

    async def _partition_of(self, topic: str, key: bytes) -> int:
        known = self._partitions.get((topic, key))
        if known is None:
            try:
                partitions = await self._producer.partitions_for(topic)
            except KafkaError as error:
                raise LogError(f"{topic}: {error!r}") from error
            if len(partitions) == 1:
                return 0
            known = partition_for(key, len(partitions))
            if len(self._partitions) >= _MOST_KNOWN:
                self._partitions.clear()
            self._partitions[topic, key] = known
        return known

    def _note(self, future: Future[Any]) -> None:
        if future.cancelled():
            return
        failure = future.exception()
        if failure is not None and self._failure is None:
            self._failure = failure


def _arguments(options: KafkaOptions, client_id: str) -> dict[str, Any]:
    return {
        **options.client_arguments(client_id),
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 0,
        "max_batch_size": _BATCH_BYTES,
        "max_request_size": MAX_RECORD_BYTES,
    }


def _failed(what: str, error: BaseException) -> LogError:
    if isinstance(error, ProducerFenced):
        return WriterReplacedError(f"{what}: a newer publisher of this writer was opened")
    return LogError(f"{what}: {error!r}")


def _append(batch: Any, record: NewRecord) -> bool:
    """False if the batch is full; an empty one takes any record."""
    appended = batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    return appended is not None


def _goes_with(record: NewRecord, last: NewRecord) -> bool:
    """Whether it goes to the partition of the one before, as far as that can be told without computing it."""
    if record.partition is not None or last.partition is not None or record.partition_key is None:
        return False
    return record.partition_key == last.partition_key and record.topic == last.topic
