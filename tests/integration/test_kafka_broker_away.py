"""Brokers are away: what a service asks at its start is answered by the others, or refused within its deadline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import EVENTS, REQUESTS
from shared.ports.event_log import LogError
from shared.runtime.embedded import EmbeddedKafkaCluster, EmbeddedSettings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def configured(log: KafkaLog, name: str) -> str:
    """A setting of the topic of requests, as the broker has it."""
    resource = ConfigResource(ConfigResourceType.TOPIC, REQUESTS.name, configs={name: None})
    (response,) = await log._admin.describe_configs([resource])
    ((_, _, _, _, ((_, value, *_),)),) = response.resources
    return str(value)


async def test_questions_of_the_admin_client_find_a_broker_that_lives(parts: EmbeddedSettings, tmp_path: Path) -> None:
    async with EmbeddedKafkaCluster(tmp_path, overrides={"min.insync.replicas": "1"}, settings=parts) as cluster:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=cluster.bootstrap, replication=3), "away")
        try:
            await log.ensure_topics([REQUESTS])
            assert await configured(log, "min.insync.replicas") == "2", "whatever the broker's default is"
            cluster.nodes[2].kill()
            # The client takes brokers at random: twenty questions meet the dead one.
            for _ in range(20):
                assert len(await log.partitions(REQUESTS.name)) == REQUESTS.partitions
                assert await log.committed("nobody", await log.partitions(REQUESTS.name)) == {}
            await log.ensure_topics([REQUESTS, EVENTS])
        finally:
            await log.close()


async def test_topics_are_created_when_the_controller_died(parts: EmbeddedSettings, tmp_path: Path) -> None:
    """The client goes on asking the controller that it knows, and is told of none other by that one's silence."""
    async with EmbeddedKafkaCluster(tmp_path, settings=parts) as cluster:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=cluster.bootstrap, replication=3), "away")
        try:
            await log.ensure_topics([REQUESTS])
            controller = log._admin._client.cluster.controller.nodeId
            next(node for node in cluster.nodes if node.config.node_id == controller).kill()
            await log.ensure_topics([REQUESTS, EVENTS])
        finally:
            await log.close()


async def test_without_a_majority_a_publisher_is_refused_in_time(parts: EmbeddedSettings, tmp_path: Path) -> None:
    """Nobody gives it a producer id, and the client asks for one without end."""
    async with EmbeddedKafkaCluster(tmp_path, settings=parts) as cluster:
        options = KafkaOptions(bootstrap=cluster.bootstrap, replication=3, timeout_s=5.0)
        log = await KafkaLog.connect(options, "away")
        try:
            for node in cluster.nodes[1:]:
                node.kill()
            async with asyncio.timeout(60):
                with pytest.raises(LogError, match="publisher"):
                    await log.publisher("away")
        finally:
            await log.close()
