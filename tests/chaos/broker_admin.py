"""What the run asks of the brokers as their operator: who is in sync, other settings of a topic, truncation.

Each call has a connection of its own, made for it: a fault may have taken the last one's broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError, for_code

from shared.ports.event_log import Partition
from tests.fixtures.clients import admin

_DEADLINE_S: Final = 30.0


async def in_sync_replicas(bootstrap: str, topics: Iterable[str]) -> Mapping[Partition, tuple[int, ...]]:
    """The brokers in sync of every partition; topics that do not exist (yet) are left out."""
    async with asyncio.timeout(_DEADLINE_S), admin(bootstrap) as client:
        described = await client.describe_topics(list(topics))
    return {
        Partition(topic["topic"], item["partition"]): tuple(item["isr"])
        for topic in described
        if not topic["error_code"]
        for item in topic["partitions"]
    }


async def configure_topic(bootstrap: str, topic: str, settings: Mapping[str, str]) -> None:
    """Replaces the whole configuration of a topic. Raises KafkaError."""
    async with asyncio.timeout(_DEADLINE_S), admin(bootstrap) as client:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))
        for response in await client.alter_configs([resource]):
            for code, message, *_ in response.resources:
                if code:
                    raise for_code(code)(message)


async def delete_records(bootstrap: str, before: Mapping[Partition, int]) -> Mapping[Partition, int]:
    """Deletes what is below an offset of each partition; the first offset that is left, by partition."""
    wanted = {TopicPartition(*partition): RecordsToDelete(offset) for partition, offset in before.items()}
    async with asyncio.timeout(_DEADLINE_S), admin(bootstrap) as client:
        deleted = await client.delete_records(wanted, timeout_ms=round(_DEADLINE_S * 1000))
    return {Partition(*tp): low for tp, low in deleted.items()}


async def bounds(bootstrap: str, partitions: Iterable[Partition]) -> Mapping[Partition, tuple[int, int]]:
    """First and next offset of each partition."""
    wanted = [TopicPartition(*partition) for partition in partitions]
    async with asyncio.timeout(_DEADLINE_S), AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        first, after = await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted)
    return {Partition(*tp): (first[tp], after[tp]) for tp in wanted}


BrokerError = (KafkaError, OSError, TimeoutError)
