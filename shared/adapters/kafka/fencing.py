"""Producers of which the broker lets only the newest write: fencing by producer epochs, without transactions.

A transactional id gives a producer a lasting id, and an epoch that grows whenever somebody opens the id again
(`InitProducerId`). A partition refuses a batch whose epoch is below the newest that it has seen of that producer id,
transactional or not. So the id is used to get the epoch, and then put away: what is sent are plain idempotent batches,
which cost what they always did. A partition hears of the new epoch with its first batch; `announce` tells it at once,
by an empty transaction whose markers carry the epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from shared.adapters.kafka.lifecycle import ended, start
from shared.ports.event_log import LogError, Partition


async def newest_producer(
    arguments: dict[str, Any], writer: str, announce: Iterable[Partition], timeout_s: float
) -> AIOKafkaProducer:
    """A started producer that replaces every earlier one of this writer. Raises LogError."""
    told = [TopicPartition(*partition) for partition in announce]
    try:
        # Every call of the client repeats for ever while there is no coordinator.
        async with asyncio.timeout(timeout_s):
            if told:
                await _announce(arguments, writer, told, timeout_s)
            producer = await _started(arguments, writer, timeout_s)
    except TimeoutError as error:
        raise LogError(f"publisher of {writer}: not opened within {timeout_s:g} s") from error
    except KafkaError as error:
        raise LogError(f"publisher of {writer}: {error!r}") from error
    # From here on the client takes it for a merely idempotent producer, with the id and the epoch that it was given.
    producer._txn_manager.transactional_id = None
    return producer


async def _announce(arguments: dict[str, Any], writer: str, partitions: list[TopicPartition], timeout_s: float) -> None:
    """Returns before the markers stand in the log; the next `InitProducerId` waits for that."""
    producer = await _started(arguments, writer, timeout_s)
    try:
        await producer.begin_transaction()
        for partition in partitions:
            producer._txn_manager.maybe_add_partition_to_txn(partition)
        await producer.commit_transaction()
    finally:
        await ended(producer.stop(), timeout_s)


async def _started(arguments: dict[str, Any], writer: str, timeout_s: float) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(**arguments, transactional_id=writer)
    await start(producer, timeout_s)
    return producer
