"""The scheduler's shell runs on the log in memory and on a Kafka of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.memory.event_log import MemoryLog
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.scheduler.world import World


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "kafka":
        # Asked for so that missing parts skip or fail here; each test has a broker, and so topics, of its own.
        request.getfixturevalue("kafka_bootstrap")
    return str(request.param)


@pytest.fixture
async def world(kind: str, tmp_path: Path) -> AsyncIterator[World]:
    if kind == "memory":
        yield World(MemoryLog())
        return
    async with EmbeddedKafka(tmp_path / "kafka") as kafka:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "test")
        yield World(log)
        await log.close()
