"""The program that makes the topics, as the chart's hook runs it: on a real broker, more than once."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS

pytestmark = [pytest.mark.kafka]


async def run(bootstrap: str, **more: str) -> tuple[int, str]:
    variables = {"FLOTILLA_KAFKA_BOOTSTRAP": bootstrap, **more}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shared.runtime.topics",
        env={**os.environ, **variables}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(180):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_all_topics_are_there_afterwards_however_often_it_runs(kafka_bootstrap: str) -> None:
    for _ in range(2):
        code, said = await run(kafka_bootstrap)
        assert code == 0, said
    log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka_bootstrap), "topics-test")
    try:
        for topic in ALL_TOPICS:
            assert len(await log.partitions(topic.name)) == topic.partitions, topic.name
    finally:
        await log.close()
