"""Several instances at once: the newest tells, nobody tells anything twice, and a standby takes over."""

from __future__ import annotations

import asyncio

import pytest

from services.status.shell import TENURE, TOPICS, StatusService
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog
from shared.adapters.memory.key_value import MemoryKeyValue
from shared.events.topics import EVENTS, STATUS
from shared.events.v1.read_model import WORKLOADS_TABLE
from shared.events.v1.status import Phase
from shared.ports.event_log import Partition, WriterReplacedError
from shared.runtime.tenure import Tenure
from tests.unit.status.records import settings
from tests.unit.status.test_shell import has_phase, history, phases, run_records, until
from tests.unit.status.world import KEY

SILENT_S = 2.0


class Instance:
    """A status service of its own on a shared log and a shared Redis. It may stop, or be killed."""

    def __init__(self, log: MemoryLog, store: MemoryKeyValue) -> None:
        self.service = StatusService(log, store, SystemClock(), settings(status_silent_s=SILENT_S))
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self.service.run(self._stop))

    @property
    def ready(self) -> bool:
        return self.service.readiness().ready

    async def stop(self) -> None:
        self._stop.set()
        async with asyncio.timeout(30):
            await self._task

    async def kill(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def send(log: MemoryLog, key: str, pods: int) -> None:
    for record in run_records(key=key, pods=pods):
        log.append(record)


async def test_the_newest_tells_and_nothing_is_told_twice() -> None:
    log, store = MemoryLog(), MemoryKeyValue()
    await log.ensure_topics(TOPICS)
    older = Instance(log, store)
    await until(lambda: older.ready)
    await send(log, KEY, 2)
    await until(lambda: has_phase(log, Phase.RUNNING))
    newer = Instance(log, store)
    await until(lambda: newer.ready)
    keys = [f"ns/w{number}" for number in range(20)]
    for key in keys:
        await send(log, key, 1)
        await asyncio.sleep(0.01)
    # The workloads take the pod's name from one another, so each ran once.
    await until(lambda: all("Running" in phases(log, key) for key in keys))
    for key in (KEY, *keys):
        steps = [event.step for event in history(log, key)]
        assert steps == list(range(1, len(steps) + 1)), key
    await asyncio.sleep(0.2)
    assert {key async for key, _ in store.items(WORKLOADS_TABLE)} == {KEY, *keys}
    await older.stop()
    await newer.stop()


async def test_a_standby_takes_over_when_the_one_that_tells_is_gone() -> None:
    log, store = MemoryLog(), MemoryKeyValue()
    await log.ensure_topics(TOPICS)
    older = Instance(log, store)
    await until(lambda: older.ready)
    newer = Instance(log, store)
    await until(lambda: newer.ready)
    await send(log, KEY, 1)
    await until(lambda: has_phase(log, Phase.RUNNING))
    await newer.kill()
    await send(log, "ns/after", 1)
    await until(lambda: has_phase(log, Phase.RUNNING, "ns/after"))
    written = len(log.records(EVENTS.name))
    await asyncio.sleep(0.3)
    assert len(log.records(EVENTS.name)) == written
    await older.stop()


async def test_a_claim_replaces_the_one_before_it() -> None:
    log = MemoryLog()
    await log.ensure_topics(TOPICS)
    clock = SystemClock()
    first, second = (Tenure(log, clock, 0.5, TENURE, Partition(STATUS.name, 0)) for _ in range(2))
    await first.claim()
    keeping = asyncio.create_task(first.keep())
    await asyncio.sleep(0.2)
    assert not keeping.done()
    await second.claim()
    with pytest.raises(WriterReplacedError):
        async with asyncio.timeout(30):
            await keeping
    # It stays away as long as the other one shows signs of life.
    stop = asyncio.Event()
    kept = asyncio.create_task(second.keep())
    waiting = asyncio.create_task(first.until_silent(stop))
    await asyncio.sleep(1.5)
    assert not waiting.done()
    kept.cancel()
    async with asyncio.timeout(30):
        await waiting
