"""The status service as a process, on real Kafka and a real Valkey: killed at any time, the log ends the same."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from services.status.decision.machine import StatusMachine
from services.status.decision.messages import BatchEnded, CaughtUp
from services.status.intake import Intake
from services.status.shell import TOPICS
from shared.adapters.clock import SystemClock
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.events.topics import EVENTS, OBJECTS, PLACEMENTS, RESULTS, STATUS
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE, ClusterView
from shared.events.v1.status import Phase, WorkloadPhaseChanged, WorkloadStatus
from shared.ports.event_log import START, NewRecord, Publisher, Record
from shared.ports.key_value import KeyValueError
from shared.runtime.embedded import EmbeddedValkey
from shared.runtime.embedded.network import free_ports
from tests.unit.status.records import (
    deployment,
    heartbeat_record,
    object_record,
    placement_record,
    pod_record,
    result_record,
)
from tests.unit.status.world import placement, refusal

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NOW = SystemClock().now_ms
MAIN_LINE = (Phase.ACCEPTED, Phase.SCHEDULED, Phase.APPLIED, Phase.RUNNING)


class StatusProcess:
    """`python -m services.status`, killed at the end if nothing ended it before."""

    def __init__(self, directory: Path, bootstrap: str, redis_url: str, **changes: str) -> None:
        self._log = directory / "status.log"
        self._port = free_ports(1)[0]
        self._environment = {
            **os.environ,
            "FLOTILLA_KAFKA_BOOTSTRAP": bootstrap,
            "FLOTILLA_REDIS_URL": redis_url,
            "FLOTILLA_HTTP_PORT": str(self._port),
            "FLOTILLA_LOG_FORMAT": "json",
            "FLOTILLA_STATUS_TICK_S": "0.2",
            "FLOTILLA_STATUS_READ_MODEL_CHECK_S": "0.3",
            "FLOTILLA_STATUS_REDIS_TIMEOUT_S": "1",
            **changes,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.status"),
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=output,
            )

    async def end(self, number: signal.Signals) -> int:
        """The exit code, after a signal."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(30):
            code = await self._process.wait()
        self._process = None
        return code

    async def close(self) -> None:
        if self._process is not None:
            await self.end(signal.SIGKILL)

    async def get(self, path: str) -> tuple[int, str]:
        """Status code and body; 0 while nobody listens."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
                session.get(f"http://127.0.0.1:{self._port}{path}") as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientConnectorError:
            return 0, ""

    async def until_ready(self) -> None:
        await until_async(self._ready)

    async def _ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    def log(self) -> str:
        return self._log.read_text()


@pytest_asyncio.fixture
async def log(kafka_bootstrap: str) -> AsyncIterator[KafkaLog]:
    connected = await KafkaLog.connect(KafkaOptions(bootstrap=kafka_bootstrap), "test-status")
    await connected.ensure_topics(TOPICS)
    yield connected
    await connected.close()


@pytest_asyncio.fixture
async def publisher(log: KafkaLog) -> AsyncIterator[Publisher]:
    opened = await log.publisher("test-status")
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def valkey(redis_url: str, tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """One of our own, since it is wiped; `redis_url` says whether the machine can run one."""
    assert redis_url
    server = EmbeddedValkey(tmp_path / "own")
    (tmp_path / "own").mkdir()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def service(kafka_bootstrap: str, valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[StatusProcess]:
    process = StatusProcess(tmp_path, kafka_bootstrap, valkey.url)
    await process.start()
    yield process
    await process.close()


async def until_async(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.1)


async def read_all(log: KafkaLog, *topics: str) -> list[Record]:
    """Everything that topics hold now, by topic, partition and offset."""
    reader = await log.reader("test-status-read")
    records: list[Record] = []
    try:
        for topic in topics:
            partitions = await log.partitions(topic)
            await reader.assign(dict.fromkeys(partitions, START))
            ends = await reader.end_offsets(partitions)
            found: list[Record] = []
            async with asyncio.timeout(60):
                while any(reader.positions()[partition] < end for partition, end in ends.items()):
                    found += await reader.read(timeout_s=0.2)
            records += sorted(found, key=lambda record: record.position)
    finally:
        await reader.close()
    return records


def of(records: Sequence[Record], namespace: str) -> dict[str, list[Record]]:
    """The records of one namespace's workloads, by key."""
    found: dict[str, list[Record]] = {}
    for record in records:
        key = (record.key or b"").decode()
        if key.startswith(f"{namespace}/"):
            found.setdefault(key, []).append(record)
    return found


async def statuses(log: KafkaLog, namespace: str) -> dict[str, WorkloadStatus | None]:
    found = of(await read_all(log, STATUS.name), namespace)
    return {
        key: WorkloadStatus.model_validate_json(value) if (value := records[-1].value) is not None else None
        for key, records in found.items()
    }


async def histories(log: KafkaLog, namespace: str) -> dict[str, list[WorkloadPhaseChanged]]:
    found = of(await read_all(log, EVENTS.name), namespace)
    return {
        key: [WorkloadPhaseChanged.model_validate_json(record.value or b"") for record in records]
        for key, records in found.items()
    }


async def table(valkey: EmbeddedValkey, name: str) -> dict[str, bytes]:
    store = RedisKeyValue.open(RedisOptions(valkey.url, timeout_s=2))
    try:
        return {key: value async for key, value in store.items(name)}
    except KeyValueError:
        return {}
    finally:
        await store.close()


async def reached_step(log: KafkaLog, key: str, step: int) -> bool:
    status = (await statuses(log, key.partition("/")[0])).get(key)
    return status is not None and status.step == step


def story(key: str, cluster: str, *, change: bool, delete: bool) -> list[list[NewRecord]]:
    """What scheduler, executor and watcher write of one workload, in steps that keep their order."""
    name = key.partition("/")[2]
    base = random.randrange(1_000_000) * 10
    steps: list[list[NewRecord]] = []

    def add(record: NewRecord) -> None:
        steps.append([record])

    def pods(*, ready: bool) -> None:
        for number in range(2):
            add(pod_record(cluster, f"{name}-{number}", key=key, ready=ready))

    for generation in (base + 1, base + 2) if change else (base + 1,):
        placed = placement(
            {cluster: 2}, key=key, generation=generation, workload_generation=generation - base, at_ms=NOW()
        )
        add(placement_record(placed, key=key))
        pods(ready=False)
        add(object_record(cluster, "apps/v1/deployments", name, deployment(generation, 2, key=key)))
        add(result_record(cluster, generation, key=key, at_ms=NOW()))
        pods(ready=True)
    if delete:
        ending = placement(
            key=key, generation=base + 3, workload_generation=3, deleting=True, withdrawn=[cluster], at_ms=NOW()
        )
        add(placement_record(ending, key=key))
        add(object_record(cluster, "apps/v1/deployments", name, None))
        for number in range(2):
            add(object_record(cluster, "core/v1/pods", f"{name}-{number}", None))
        add(placement_record(None, key=key))
    return steps


async def tell(publisher: Publisher, stories: list[list[list[NewRecord]]], rng: random.Random, pause_s: float) -> None:
    """Publishes the stories, each in its order, mixed at random."""
    open_stories = [iter(item) for item in stories]
    while open_stories:
        current = rng.choice(open_stories)
        step = next(current, None)
        if step is None:
            open_stories.remove(current)
            continue
        for record in step:
            await publisher.send(record)
        if rng.random() < 0.05:
            await publisher.flush()
            await asyncio.sleep(pause_s)
    await publisher.flush()


def assert_history(events: list[WorkloadPhaseChanged], last: Phase) -> None:
    """Complete, ordered, without repetition."""
    assert [event.step for event in events] == list(range(1, len(events) + 1))
    assert [event.previous for event in events] == [None, *(event.phase for event in events[:-1])]
    assert events[-1].phase is last
    lines: dict[int, list[Phase]] = {}
    for event in events:
        lines.setdefault(event.workload_generation, []).append(event.phase)
    assert list(lines) == sorted(lines)
    for generation, line in lines.items():
        main = tuple(phase for phase in line if phase in MAIN_LINE)
        assert main[: len(MAIN_LINE)] == MAIN_LINE[: len(main)], (generation, line)
    assert len(set(events)) == len(events)


def essence(status: WorkloadStatus) -> dict[str, Any]:
    """What of a status does not depend on when it was made."""
    return status.model_dump(exclude={"updated_at", "milestones", "step", "conditions"}) | {
        "conditions": [(item.type, item.status, item.reason, item.message) for item in status.conditions]
    }


def fold(records: Sequence[Record]) -> dict[str, WorkloadStatus]:
    """The statuses that the log means, by a machine that saw everything at once."""
    machine, intake = StatusMachine(), Intake()
    for record in records:
        stimulus = intake.stimulus(record, NOW())
        if stimulus is not None:
            machine.handle(stimulus)
    machine.handle(CaughtUp(id="end", at_ms=NOW()))
    machine.handle(BatchEnded(id="end", at_ms=NOW()))
    return {key: WorkloadStatus.model_validate_json(status.to_json()) for key, status in machine.statuses()}


async def test_killed_again_and_again_it_tells_every_history_once(
    log: KafkaLog, publisher: Publisher, valkey: EmbeddedValkey, service: StatusProcess
) -> None:
    run = uuid4().hex[:8]
    namespace, clusters = f"s{run}", [f"c{number}-{run}" for number in range(3)]
    rng = random.Random(7)
    for cluster in clusters:
        await publisher.send(heartbeat_record(cluster, at_ms=NOW(), interval_ms=600_000))
    kinds = {f"{namespace}/w{number}": (number % 2 == 0, number % 4 == 0) for number in range(120)}
    stories = [
        story(key, clusters[index % 3], change=change, delete=delete)
        for index, (key, (change, delete)) in enumerate(kinds.items())
    ]
    telling = asyncio.create_task(tell(publisher, stories, rng, pause_s=0.12))
    kills = 0
    while not telling.done():
        await asyncio.sleep(rng.uniform(1.0, 2.2))
        assert await service.end(signal.SIGKILL) == -signal.SIGKILL
        kills += 1
        await service.start()
    await telling
    assert kills >= 2
    expected = {key: Phase.DELETED if delete else Phase.RUNNING for key, (_, delete) in kinds.items()}

    async def settled() -> bool:
        latest = await statuses(log, namespace)
        return {key: status and status.phase for key, status in latest.items()} == expected

    await until_async(settled)
    await service.until_ready()
    told = await histories(log, namespace)
    assert set(told) == set(kinds)
    for key, events in told.items():
        assert_history(events, expected[key])
    published = await statuses(log, namespace)
    meant = fold(await read_all(log, PLACEMENTS.name, RESULTS.name, OBJECTS.name))
    for key, phase in expected.items():
        status = published[key]
        assert status is not None
        assert status.step == len(told[key])
        if phase is Phase.RUNNING:
            assert essence(status) == essence(meant[key])

    async def in_redis() -> bool:
        held = {key: value for key, value in (await table(valkey, WORKLOADS_TABLE)).items() if key in kinds}
        return held == {key: status.to_json() for key, status in published.items() if status is not None}

    await until_async(in_redis)
    assert await service.end(signal.SIGTERM) == 0
    lines = service.log()
    assert "Traceback" not in lines


async def test_every_step_is_told_while_it_lives_and_a_restart_adds_nothing(
    log: KafkaLog, publisher: Publisher, service: StatusProcess
) -> None:
    run = uuid4().hex[:8]
    key, cluster = f"s{run}/cart", f"c-{run}"
    await service.until_ready()
    await publisher.send(heartbeat_record(cluster, at_ms=NOW(), interval_ms=600_000))
    steps = story(key, cluster, change=True, delete=False)
    for number, step in enumerate(steps, start=1):
        await publisher.send(step[0])
        await publisher.flush()
        if number == len(steps) // 2:
            await until_async(lambda: reached_step(log, key, 4))
    for record in (
        placement_record(refusal(f"s{run}/bad"), key=f"s{run}/bad"),
        placement_record(None, key=f"s{run}/bad"),
    ):
        await publisher.send(record)
    await publisher.flush()

    async def told() -> bool:
        found = await histories(log, f"s{run}")
        return len(found.get(key, ())) >= 8 and f"s{run}/bad" in found

    await until_async(told)
    # Statuses are written behind the history.
    await until_async(lambda: reached_step(log, key, 8))
    await until_async(lambda: reached_step(log, f"s{run}/bad", 1))
    await service.until_ready()
    before = await read_all(log, EVENTS.name, STATUS.name)
    assert await service.end(signal.SIGTERM) == 0
    await service.start()
    await service.until_ready()
    assert await read_all(log, EVENTS.name, STATUS.name) == before
    found = await histories(log, f"s{run}")
    assert [event.phase for event in found[key]] == [*MAIN_LINE, *MAIN_LINE]
    assert [event.phase for event in found[f"s{run}/bad"]] == [Phase.REJECTED]
    _, metrics = await service.get("/metrics")
    assert "flotilla_status_lag_records" in metrics


async def test_redis_may_be_wiped_and_be_away(
    log: KafkaLog, publisher: Publisher, valkey: EmbeddedValkey, service: StatusProcess
) -> None:
    run = uuid4().hex[:8]
    namespace, cluster = f"s{run}", f"c-{run}"

    async def go(name: str) -> None:
        await publisher.send(heartbeat_record(cluster, at_ms=NOW(), interval_ms=600_000))
        for step in story(f"{namespace}/{name}", cluster, change=False, delete=False):
            await publisher.send(step[0])
        await publisher.flush()

    async def holds(*names: str) -> bool:
        held = await table(valkey, WORKLOADS_TABLE)
        known = [held.get(f"{namespace}/{name}") for name in names]
        running = [value and WorkloadStatus.model_validate_json(value).phase is Phase.RUNNING for value in known]
        clusters = await table(valkey, CLUSTERS_TABLE)
        return all(running) and cluster in clusters and ClusterView.model_validate_json(clusters[cluster]).ready

    await go("one")
    await until_async(lambda: holds("one"))
    store = RedisKeyValue.open(RedisOptions(valkey.url))
    await store._client.flushall()
    await store.close()
    await until_async(lambda: holds("one"))
    await service.until_ready()

    valkey.kill()
    await go("two")

    async def running_without_redis() -> bool:
        status = (await statuses(log, namespace)).get(f"{namespace}/two")
        return status is not None and status.phase is Phase.RUNNING

    await until_async(running_without_redis)

    async def says_so() -> bool:
        code, body = await service.get("/readyz")
        return code == 503 and "read model" in body

    await until_async(says_so)
    await valkey.start()
    await until_async(lambda: holds("one", "two"))
    await service.until_ready()
