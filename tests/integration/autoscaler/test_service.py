"""The autoscaler and the scheduler, as processes on a real broker: metrics go in, commands come out."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from services.autoscaler.journal import PLACE
from services.scheduler.journal import is_entry
from shared.adapters.clock import SystemClock
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS, METRICS, PLACEMENTS, SCALING, SCALING_DECIDED, commands_topic
from shared.ports.event_log import NewRecord, Publisher, Record
from shared.runtime.embedded import EmbeddedKafka
from shared.runtime.reading import all_of
from tests.autoscaling import (
    CLUSTER,
    Json,
    ServiceProcess,
    apply_record,
    command,
    follow,
    heartbeat_record,
    node_record,
    pod_json,
    pod_record,
    sample_record,
    scaled_workload,
    until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
PODS = 4


def now_ms() -> int:
    return int(time.time() * 1000)


def body(record: Record) -> Json:
    document: Json = orjson.loads(record.value or b"{}")
    return document


def wants(replicas: int | None) -> object:
    def is_it(record: Record) -> bool:
        pod_sets = body(record).get("podSets", ())
        return record.key == b"default/web" and any(item.get("replicas") == replicas for item in pod_sets)

    return is_it


@pytest_asyncio.fixture
async def log(broker: EmbeddedKafka) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=broker.bootstrap), "test")
    await log.ensure_topics([*ALL_TOPICS, commands_topic(CLUSTER)])
    yield log
    await log.close()


async def send(publisher: Publisher, *records: NewRecord) -> None:
    await publisher.send_many(records)
    await publisher.flush()


async def test_metrics_become_commands_and_a_restart_goes_on(
    broker: EmbeddedKafka, log: KafkaLog, tmp_path: Path
) -> None:
    scheduler = ServiceProcess("scheduler", tmp_path, broker.bootstrap)
    autoscaler = ServiceProcess("autoscaler", tmp_path, broker.bootstrap, "run")
    publisher = await log.publisher("test")
    scaling, commands = await follow(log, SCALING.name), await follow(log, commands_topic(CLUSTER).name)
    placements = await follow(log, PLACEMENTS.name)
    try:
        await scheduler.start()
        await autoscaler.start()
        await send(publisher, heartbeat_record(now_ms()), node_record(), apply_record(scaled_workload()))
        await send(publisher, *(pod_record(f"web-{number}", pod_json("web")) for number in range(PODS)))
        await until(placements, lambda record: record.key == b"default/web")
        # Without a sample nobody can say, and the workload's own replicas hold.
        told = await until(scaling, lambda record: record.key == b"default/web")
        assert body(told)["podSets"][0]["conditions"][0]["reason"] == "FailedGetResourceMetric"
        # What is no sample ends nothing.
        await send(publisher, NewRecord(METRICS.name, b"east/pods", b"{", (), b"east"))
        said = await wait_for(publisher, scaling, 75, 6)
        assert said["podSets"][0]["before"] == 2
        assert said["inputs"]["fleet.metrics"]
        decided = await until(placements, lambda record: scaled_to(record) == 6)
        item = body(decided)["placement"]["podSets"][0]
        assert item["scaled"]["position"].startswith("fleet.scaling/")
        assert item["desired"] == sum(share["replicas"] for share in item["shares"]) == 6
        await until(commands, lambda record: b'"replicas":6' in (record.value or b""))
        # A restart remembers what it asked for.
        assert await autoscaler.end(signal.SIGTERM) == 0
        await autoscaler.start()
        said = await wait_for(publisher, scaling, 25, 2)
        assert said["podSets"][0]["before"] == 6
        await until(commands, lambda record: b'"replicas":2' in (record.value or b""))
        await check_decisions(log, broker.bootstrap)
        assert len(list(await dead_letters(log))) == 1
        assert await autoscaler.end(signal.SIGTERM) == 0
        assert await scheduler.end(signal.SIGTERM) == 0
    finally:
        for process in (autoscaler, scheduler):
            await process.close()
        await publisher.close()
        for reader in (scaling, commands, placements):
            await reader.close()


async def check_decisions(log: KafkaLog, bootstrap: str) -> None:
    """Each number stands in the journal, follows from what is said there, and is explained of its time."""
    reader = await log.reader("journal")
    kind = SCALING_DECIDED.ce_type.encode()
    try:
        records = [item async for item in all_of(reader, PLACE, SystemClock(), 60.0)]
    finally:
        await reader.close()
    numbers = [body(item)["scaled"]["podSets"][0].get("replicas") for item in records if item.header("ce_type") == kind]
    assert [number for index, number in enumerate(numbers) if not index or number != numbers[index - 1]] == [None, 6, 2]
    code, text = await command(bootstrap, "services.autoscaler", "replay", "--all")
    assert (code, text.splitlines()[-1]) == (0, f"{len(numbers)} equal, 0 different, 0 unchecked")
    # The leader's own replay is none the wiser.
    code, text = await command(bootstrap, "services.scheduler", "replay", "--all")
    assert code == 0, text
    at = next(item.offset for item in records if b'"replicas":6' in (item.value or b"") and is_entry(item))
    code, text = await command(bootstrap, "services.cli", "why", "web", "--at", str(at))
    assert code == 0, text
    assert "6 replicas of pod set main, before 2" in text
    assert "decided from 4 pods and 2 replicas asked for" in text


def scaled_to(record: Record) -> int | None:
    placement = body(record).get("placement") or {}
    pod_sets = placement.get("podSets", ())
    return pod_sets[0].get("scaled", {}).get("replicas") if pod_sets else None


async def wait_for(publisher: Publisher, scaling: object, milli: int, replicas: int) -> Json:
    """Samples come every second until the autoscaler wants so many."""
    for _ in range(60):
        await send(publisher, sample_record(milli, PODS, now_ms()))
        try:
            return body(await until(scaling, wants(replicas), timeout_s=1.0))  # type: ignore[arg-type]
        except TimeoutError:
            continue
    raise AssertionError(f"{replicas} replicas were never wanted")


async def dead_letters(log: KafkaLog) -> list[Record]:
    reader = await log.reader("letters")
    partitions = await log.partitions(f"{METRICS.name}.dlq")
    await reader.assign(dict.fromkeys(partitions, -2))
    records = await reader.read(timeout_s=30.0)
    await reader.close()
    return list(records)
