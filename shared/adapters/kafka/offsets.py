"""Reading stored positions, with every error that the broker reports.

The client's own `list_consumer_group_offsets` looks at the errors of partitions and not at that of the whole answer. So
while a coordinator loads its group, as after each of its broker's starts, it says that nothing was ever stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata


async def stored_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Iterable[TopicPartition]
) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """By partition; the offset is -1 where nothing was stored. Raises KafkaError, which may be retriable."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for topic, partition in partitions:
        wanted[topic].append(partition)
    coordinator = await admin.find_coordinator(group)
    response = await admin._send_request(OffsetFetchRequest(group, list(wanted.items())), coordinator)
    if response.error_code:
        raise for_code(response.error_code)(f"offsets of {group}")
    found = {}
    for topic, items in response.topics:
        for partition, offset, metadata, error_code in items:
            if error_code:
                raise for_code(error_code)(f"offset of {group} for {topic}/{partition}")
            found[TopicPartition(topic, partition)] = OffsetAndMetadata(offset, metadata)
    return found
