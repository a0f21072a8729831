"""A consumer without a group behind the `Reader` port: explicit partitions, explicit positions."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from shared.adapters.kafka import metrics
from shared.adapters.kafka.lifecycle import start, stop_consumer
from shared.adapters.kafka.options import KafkaOptions
from shared.ports.event_log import END, START, LogError, Partition, Record

# How often the lag is measured.
_MEASURE_S = 2.0
# A reader that falls behind holds so much, several times over. A larger record comes all the same, alone (KIP-74).
_PARTITION_FETCH_BYTES = 512 * 1024
_FETCH_BYTES = 4 * 1024 * 1024


class KafkaReader:
    def __init__(self, consumer: AIOKafkaConsumer, timeout_s: float, name: str) -> None:
        self._consumer = consumer
        self._timeout_s = timeout_s
        self._name = name
        self._measured_at = float("-inf")
        self._measured: set[str] = set()
        self._positions: dict[Partition, int] = {}

    @classmethod
    async def open(cls, options: KafkaOptions, client_id: str) -> KafkaReader:
        """Raises TimeoutError and KafkaError."""
        consumer = AIOKafkaConsumer(
            **options.client_arguments(client_id),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            fetch_max_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=500,
        )
        await start(consumer, options.timeout_s)
        # Lets the client's own task begin: aiokafka's `stop` raises CancelledError at us if it never did.
        await asyncio.sleep(0)
        return cls(consumer, options.timeout_s, client_id)

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        partitions = [TopicPartition(*partition) for partition in positions]
        resolved = dict(positions)
        try:
            for marker, lookup in ((START, self._consumer.beginning_offsets), (END, self._consumer.end_offsets)):
                wanted = [tp for tp in partitions if positions[Partition(*tp)] == marker]
                if wanted:
                    resolved |= {Partition(*tp): offset for tp, offset in (await lookup(wanted)).items()}
            self._consumer.assign(partitions)
            for partition in partitions:
                self._consumer.seek(partition, resolved[Partition(*partition)])
        except (KafkaError, ValueError) as error:
            raise LogError(f"cannot read {sorted({p.topic for p in positions})}: {error!r}") from error
        self._positions = resolved

    async def read(self, *, max_records: int = 1000, timeout_s: float = 1.0) -> Sequence[Record]:
        try:
            batches = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise LogError(f"the position is no longer in the log: {error}") from error
        except KafkaError as error:
            raise LogError(f"read: {error!r}") from error
        records: list[Record] = []
        for (topic, number), batch in batches.items():
            records += [
                Record(topic, number, item.offset, item.timestamp, item.key, item.value, item.headers) for item in batch
            ]
        await self._follow()
        if time.monotonic() - self._measured_at >= _MEASURE_S:
            self._measure()
        return records

    async def _follow(self) -> None:
        """The client's own positions: they also pass what is no record, as control batches and what compaction took.

        Counting from the last record instead, a partition that ends with one of these would never be read to its end.
        """
        for partition in self._positions:
            # At once: every partition was sought, so each has a position.
            self._positions[partition] = await self._consumer.position(partition)

    def _measure(self) -> None:
        """By what the latest fetches said of the ends: it costs no request."""
        self._measured_at = time.monotonic()
        behind: Counter[str] = Counter()
        for partition, position in self._positions.items():
            end = self._consumer.highwater(TopicPartition(*partition))
            behind[partition.topic] += max(0, end - position) if end is not None else 0
        self._forget_lag(self._measured - behind.keys())
        self._measured = set(behind)
        for topic, lag in behind.items():
            metrics.LAG.labels(self._name, topic).set(lag)

    def _forget_lag(self, topics: Iterable[str]) -> None:
        for topic in topics:
            with suppress(KeyError):  # another reader of this name was closed before
                metrics.LAG.remove(self._name, topic)

    def positions(self) -> Mapping[Partition, int]:
        return dict(self._positions)

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        try:
            ends = await self._consumer.end_offsets([TopicPartition(*partition) for partition in partitions])
        except (KafkaError, ValueError) as error:
            raise LogError(f"end offsets: {error!r}") from error
        return {Partition(*tp): offset for tp, offset in ends.items()}

    async def close(self) -> None:
        self._forget_lag(self._measured)
        await stop_consumer(self._consumer, self._timeout_s)
