"""An idempotent producer behind the `Publisher` port: acks from all in-sync replicas, order kept, nothing twice."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Generator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.kafka.partitioner import partition_for
from shared.ports.event_log import LogError, NewRecord, Position, RecordTooLargeError

MAX_RECORD_BYTES = 16 * 1024 * 1024
_BATCH_BYTES = 256 * 1024


class Acknowledgement(Awaitable[Position]):
    """Wraps the client's future without a second future for each record."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, Position]:
        try:
            metadata = yield from self._future.__await__()
        except KafkaError as error:
            raise LogError(f"the record was not acknowledged: {error!r}") from error
        return Position(metadata.topic, metadata.partition, metadata.offset)


class KafkaPublisher:
    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._failure: BaseException | None = None
        self._partitions: dict[tuple[str, bytes], int] = {}

    @classmethod
    async def open(cls, options: KafkaOptions, client_id: str) -> KafkaPublisher:
        producer = AIOKafkaProducer(
            **options.client_arguments(client_id),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
        )
        await producer.start()
        return cls(producer)

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        if self._failure is not None:
            raise LogError(f"an earlier record was not delivered: {self._failure!r}")
        partition = record.partition
        if partition is None and record.partition_key is not None:
            partition = await self._partition_of(record.topic, record.partition_key)
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

    async def flush(self) -> None:
        try:
            await self._producer.flush()
        except KafkaError as error:
            raise LogError(f"flush: {error!r}") from error
        if self._failure is not None:
            raise LogError(f"a record was not delivered: {self._failure!r}")

    async def close(self) -> None:
        await self._producer.stop()

    async def _partition_of(self, topic: str, key: bytes) -> int:
        known = self._partitions.get((topic, key))
        if known is None:
            try:
                partitions = await self._producer.partitions_for(topic)
            except KafkaError as error:
                raise LogError(f"{topic}: {error!r}") from error
            known = partition_for(key, len(partitions))
            self._partitions[topic, key] = known
        return known

    def _note(self, future: Future[Any]) -> None:
        if future.cancelled():
            return
        failure = future.exception()
        if failure is not None and self._failure is None:
            self._failure = failure
