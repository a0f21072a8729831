"""The service on a log in memory: whenever it dies, what is in the log in the end is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from services.status.positions import GROUP
from services.status.shell import TOPICS, StatusService
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog, MemoryPublisher
from shared.adapters.memory.key_value import MemoryKeyValue
from shared.events.envelope import Envelope
from shared.events.topics import EVENTS, PLACEMENTS, RESULTS, STATUS
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE, ClusterView
from shared.events.v1.status import Phase, WorkloadPhaseChanged, WorkloadStatus
from shared.ports.event_log import LogError, NewRecord, Partition, Position
from tests.unit.status.records import (
    deployment,
    heartbeat_record,
    object_record,
    placement_record,
    pod_record,
    result_record,
    settings,
)
from tests.unit.status.test_main_line import MAIN_LINE
from tests.unit.status.world import KEY, placement, refusal

NOW = SystemClock().now_ms


class BreakableLog(MemoryLog):
    """Its publishers die at the n-th record that they are given, as often as `breaks` says."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks: list[int] = []
        self.sessions = 0

    async def publisher(self, client_id: str) -> MemoryPublisher:  # noqa: ARG002 - the port's signature
        self.sessions += 1
        return BreakablePublisher(self.append, self.breaks.pop(0) if self.breaks else 0)


class BreakablePublisher(MemoryPublisher):
    def __init__(self, append: Callable[[NewRecord], Position], break_at: int) -> None:
        super().__init__(append)
        self._left = break_at

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        self._left -= 1
        if self._left == 0:
            raise LogError("the broker went away")
        return await super().send(record)


async def new_log() -> BreakableLog:
    log = BreakableLog()
    await log.ensure_topics(TOPICS)
    return log


@asynccontextmanager
async def running(log: MemoryLog, store: MemoryKeyValue | None = None) -> AsyncIterator[StatusService]:
    service = StatusService(log, store or MemoryKeyValue(), SystemClock(), settings())
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    try:
        yield service
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def history(log: MemoryLog, key: str = KEY) -> list[WorkloadPhaseChanged]:
    records = [record for record in log.records(EVENTS.name) if record.key == key.encode()]
    return [WorkloadPhaseChanged.model_validate_json(record.value or b"") for record in records]


def phases(log: MemoryLog, key: str = KEY) -> list[str]:
    return [event.phase.value for event in history(log, key)]


def latest(log: MemoryLog, key: str = KEY) -> WorkloadStatus | None:
    values = [record.value for record in log.records(STATUS.name) if record.key == key.encode()]
    return WorkloadStatus.model_validate_json(values[-1]) if values and values[-1] is not None else None


def has_phase(log: MemoryLog, phase: Phase, key: str = KEY) -> bool:
    status = latest(log, key)
    return status is not None and status.phase is phase


def has_step(log: MemoryLog, step: int) -> bool:
    status = latest(log)
    return status is not None and status.step == step


def run_records(generation: int = 1, *, pods: int = 2, key: str = KEY, workload_generation: int = 1) -> list[NewRecord]:
    placed = placement(
        {"a": pods}, generation=generation, workload_generation=workload_generation, at_ms=NOW(), key=key
    )
    return [
        heartbeat_record("a", at_ms=NOW()),
        placement_record(placed, key=key),
        result_record("a", generation, at_ms=NOW(), key=key),
        *(pod_record("a", f"web-{number}", key=key) for number in range(pods)),
    ]


async def test_a_workload_from_placement_to_running() -> None:
    log, store = await new_log(), MemoryKeyValue()
    async with running(log, store) as service:
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
        await until(lambda: service.readiness().ready)
        await until(lambda: KEY in store.tables[WORKLOADS_TABLE])
        status = latest(log)
        await until(lambda: store.tables[WORKLOADS_TABLE][KEY] == (status and status.to_json()))
        view = ClusterView.model_validate_json(store.tables[CLUSTERS_TABLE]["a"])
        assert (view.cluster, view.ready) == ("a", True)
    assert phases(log) == MAIN_LINE


async def test_records_carry_their_envelope() -> None:
    log = await new_log()
    async with running(log):
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
    for topic, ce_type in ((EVENTS, "fleet.phase.changed.v1"), (STATUS, "fleet.status.changed.v1")):
        headers = log.records(topic.name)[0].headers
        envelope = Envelope.from_headers(headers, position="", timestamp_ms=0)
        assert (envelope.type, envelope.source, envelope.subject) == (ce_type, "flotilla/status", KEY)
        assert envelope.id


@pytest.mark.parametrize("break_at", range(1, 10))
async def test_wherever_publishing_fails_the_history_has_no_gap_and_no_repetition(
    break_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.pauses._FIRST_S", 0.01)
    log = await new_log()
    log.breaks = [break_at, break_at, break_at]
    async with running(log):
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
        for record in run_records(9, workload_generation=2):
            log.append(record)
        log.append(object_record("a", "apps/v1/deployments", "cart-web", deployment(9, 2)))
        await until(lambda: has_step(log, 8))
    assert log.sessions > 1
    assert phases(log) == MAIN_LINE * 2
    assert [event.step for event in history(log)] == list(range(1, 9))
    status = latest(log)
    assert status is not None
    assert (status.step, status.generation) == (8, 9)


async def test_a_restart_says_nothing_new() -> None:
    log = await new_log()
    for _ in range(3):
        async with running(log) as service:
            if not log.records(PLACEMENTS.name):
                for record in run_records():
                    log.append(record)
                await until(lambda: has_phase(log, Phase.RUNNING))
            await until(lambda: service.readiness().ready)
            published = len(log.records(STATUS.name))
    assert phases(log) == MAIN_LINE
    assert len(log.records(STATUS.name)) == published


async def test_what_happened_meanwhile_is_told_after_a_restart() -> None:
    log = await new_log()
    async with running(log):
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
    for record in run_records(5, workload_generation=2):
        log.append(record)
    log.append(object_record("a", "core/v1/pods", "web-1", None))
    async with running(log):
        await until(lambda: len(phases(log)) >= 7)
    assert phases(log) == [*MAIN_LINE, "Accepted", "Scheduled", "Applied"]


async def test_after_compaction_and_retention_it_still_knows_everything() -> None:
    log = await new_log()
    async with running(log):
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
    for topic in TOPICS:
        if topic.cleanup.value == "compact":
            log.compact(topic.name, drop_tombstones=True)
        else:
            for partition in await log.partitions(topic.name):
                log.truncate(partition, log.segment(partition).end)
    async with running(log) as service:
        await until(lambda: service.readiness().ready)
        log.append(pod_record("a", "web-0", ready=False))
        await until(lambda: has_phase(log, Phase.DEGRADED))
    assert phases(log) == ["Degraded"]


async def test_positions_are_stored_behind_what_was_told() -> None:
    log = await new_log()
    async with running(log):
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
        log.append(result_record("a", 99, at_ms=NOW()))
        await asyncio.sleep(0.3)
        partition = next(Partition(r.topic, r.partition) for r in log.records(RESULTS.name))
        committed = await log.committed(GROUP, [partition])
        assert committed[partition].offset == 1, "the second report waits for its placement"


async def test_bad_records_go_to_the_dead_letters_once_and_good_ones_go_on() -> None:
    log = await new_log()
    log.append(NewRecord(PLACEMENTS.name, b"shop/bad", b"{not json"))
    log.append(NewRecord(RESULTS.name, b"a/x", b"\xff"))
    for _ in range(2):
        async with running(log) as service:
            if latest(log) is None:
                for record in run_records():
                    log.append(record)
            await until(lambda: has_phase(log, Phase.RUNNING))
            await until(lambda: service.readiness().ready)
    (letter,) = log.records(f"{PLACEMENTS.name}.dlq")
    assert (letter.key, letter.value) == (b"shop/bad", b"{not json")
    assert letter.header("dlq_reason") == b"Malformed"
    assert len(log.records(f"{RESULTS.name}.dlq")) == 1


async def test_without_redis_the_topics_go_on_and_readiness_says_why() -> None:
    log, store = await new_log(), MemoryKeyValue()
    store.fail = "connection refused"
    async with running(log, store) as service:
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
        await until(lambda: service.readiness().reason == "read model: connection refused")
        store.fail = ""
        await until(lambda: service.readiness().ready)
        await until(lambda: KEY in store.tables[WORKLOADS_TABLE])


async def test_a_wiped_redis_is_filled_without_a_restart() -> None:
    log, store = await new_log(), MemoryKeyValue()
    async with running(log, store) as service:
        for record in run_records():
            log.append(record)
        await until(lambda: has_phase(log, Phase.RUNNING))
        await until(lambda: service.readiness().ready)
        store.tables.clear()
        await until(lambda: KEY in store.tables[WORKLOADS_TABLE] and "a" in store.tables[CLUSTERS_TABLE])


async def test_silence_is_told_although_nothing_arrives() -> None:
    log = await new_log()
    async with running(log):
        for record in run_records():
            log.append(record)
        log.append(heartbeat_record("a", at_ms=NOW(), interval_ms=100))
        await until(lambda: has_phase(log, Phase.DEGRADED))
    assert history(log)[-1].reason == "ClusterSilent"


async def test_refused_requests_are_published() -> None:
    log = await new_log()
    async with running(log):
        log.append(placement_record(refusal()))
        log.append(placement_record(None))
        await until(lambda: has_phase(log, Phase.REJECTED))
    assert phases(log) == ["Rejected"]
