"""The service on a log in memory: what it says, what it remembers, and who of several says it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from services.autoscaler.replay.command import parse, replay
from services.autoscaler.settings import AutoscalerSettings
from services.autoscaler.shell import TOPICS, AutoscalerService
from services.autoscaler.windows import Take
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import DECISIONS, METRICS, PLACEMENTS, SCALING, USAGE
from shared.events.v1.forecasts import DemandHistory
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.scaling_decisions import ScalingDecided
from shared.events.v1.usage import UsageLearned
from shared.ports.clock import Clock
from shared.ports.event_log import NewRecord, Partition, Record
from tests.autoscaling import AT_ONCE, pod_json, pod_record, sample_record, scaled_workload
from tests.unit.autoscaler.test_workloads import KEY, placed

SETTINGS = AutoscalerSettings(http_port=-1, autoscaler_silent_s=1.0, autoscaler_reaction_s=0.0)


class MemoryWindows:
    """As faust hands records on, without a broker."""

    def __init__(self) -> None:
        self.take: Take | None = None

    @asynccontextmanager
    async def open(self, take: Take, stop: asyncio.Event, /) -> AsyncIterator[None]:
        del stop
        self.take = take
        try:
            yield
        finally:
            self.take = None


class SetClock(SystemClock):
    """`set_by` milliseconds, forwards or back."""

    set_by = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.set_by


class Instance:
    def __init__(self, log: MemoryLog, settings: AutoscalerSettings = SETTINGS, clock: Clock | None = None) -> None:
        self.windows = MemoryWindows()
        self.service = AutoscalerService(log, self.windows, clock or SystemClock(), settings)
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self.service.run(self._stop))

    async def stop(self) -> None:
        self._stop.set()
        async with asyncio.timeout(30):
            await self._task

    def use(self, milli: int, pods: int = 2) -> None:
        made = sample_record(milli, pods, SystemClock().now_ms())
        self.put(made.value)

    def put(self, value: bytes | None) -> None:
        assert self.windows.take is not None
        self.windows.take(Record(METRICS.name, 0, 7, 0, b"east/pods", value))


@pytest_asyncio.fixture
async def log() -> MemoryLog:
    log = MemoryLog(SystemClock())
    await log.ensure_topics(TOPICS)
    for number in range(2):
        log.append(pod_record(f"web-{number}", pod_json("web")))
    return log


def place(log: MemoryLog, generation: int = 1, *, deleting: bool = False, **more: Any) -> None:
    placement = placed(scaled_workload(**more), deleting=deleting)
    body = PlacementPublished(epoch=1, generation=generation, decided_at=1, placement=placement)
    log.append(NewRecord(PLACEMENTS.name, KEY.encode(), body.to_json()))


def said(log: MemoryLog) -> list[int | None]:
    """The replicas of each record; None for a tombstone, and where nobody can say."""
    return [item.pod_sets[0].replicas if item is not None else None for item in scaled(log)]


def scaled(log: MemoryLog) -> list[WorkloadScaled | None]:
    records = [r for n in range(SCALING.partitions) for r in log.segment(Partition(SCALING.name, n)).records]
    return [WorkloadScaled.model_validate_json(r.value) if r.value else None for r in records]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - whatever it is has no event
            await asyncio.sleep(0.01)


async def test_it_scales_by_samples_and_remembers_through_a_restart(log: MemoryLog) -> None:
    place(log)
    first = Instance(log)
    await until(lambda: said(log) == [None])
    first.use(100)
    await until(lambda: said(log)[-1] == 4)
    await first.stop()
    second = Instance(log)
    # What was decided is 2 still, and turns nothing back.
    await until(lambda: len(said(log)) > 2)
    assert said(log)[-1] == 4
    second.use(100)
    await asyncio.sleep(0.3)
    assert said(log)[-1] == 4
    await second.stop()


@pytest.mark.parametrize("set_by", [-3_600_000, 3_600_000])
async def test_a_clock_that_is_set_ends_no_window_and_makes_nothing_old(log: MemoryLog, set_by: int) -> None:
    """What was wanted a moment ago is wanted still, for five minutes; and rates are what they were."""
    place(log, behavior={"scaleUp": AT_ONCE["scaleUp"]})
    clock = SetClock()
    instance = Instance(log, clock=clock)
    await until(lambda: said(log) == [None])
    instance.use(100)
    await until(lambda: said(log)[-1] == 4)
    for number in range(2, 4):
        log.append(pod_record(f"web-{number}", pod_json("web")))
    clock.set_by = set_by
    told = len(said(log))

    def looked() -> bool:
        instance.use(10, 4)
        last = scaled(log)[-1]
        return last is not None and last.pod_sets[0].metrics[0].proposal == 1

    await until(looked)
    assert set(said(log)[told:]) == {4}
    last = scaled(log)[-1]
    assert last is not None
    assert not last.pod_sets[0].error
    await instance.stop()


async def test_what_is_no_sample_is_buried_and_the_next_counts(log: MemoryLog) -> None:
    place(log)
    instance = Instance(log)
    await until(lambda: said(log) == [None])
    instance.put(b"{")
    instance.use(100)
    await until(lambda: said(log)[-1] == 4)
    letters = log.segment(Partition(f"{METRICS.name}.dlq", 0)).records
    assert [letter.value for letter in letters] == [b"{"]
    await instance.stop()


async def test_a_workload_that_ends_leaves_a_tombstone_and_an_older_placement_does_not_bring_it_back(
    log: MemoryLog,
) -> None:
    place(log, 5)
    instance = Instance(log)
    await until(lambda: said(log) == [None])
    instance.use(100)
    await until(lambda: said(log)[-1] == 4)
    place(log, 6, deleting=True)
    await until(lambda: said(log)[-1] is None)
    count = len(said(log))
    place(log, 5)
    await asyncio.sleep(0.5)
    assert len(said(log)) == count
    await instance.stop()


async def test_of_two_the_newer_works_and_the_other_takes_over(log: MemoryLog) -> None:
    place(log)
    first = Instance(log)
    await until(lambda: first.windows.take is not None)
    second = Instance(log)
    await until(lambda: second.windows.take is not None and first.windows.take is None)
    assert first.service.readiness().ready
    second.use(100)
    await until(lambda: said(log)[-1] == 4)
    await second.stop()
    await until(lambda: first.windows.take is not None)
    first.use(200)
    await until(lambda: said(log)[-1] == 8)
    await first.stop()


def learned(log: MemoryLog) -> list[UsageLearned | None]:
    """What was told of what is learned; None for a tombstone."""
    records = [r for n in range(USAGE.partitions) for r in log.segment(Partition(USAGE.name, n)).records]
    return [UsageLearned.model_validate_json(r.value) if r.value else None for r in records]


def known_days() -> NewRecord:
    """Nine replicas were needed all of the last four days."""
    slot_ms = 300_000
    last = SystemClock().now_ms() // slot_ms - 1
    demand = DemandHistory(slot_ms=slot_ms, first=last - 4 * 288, needed=(900,) * (4 * 288 + 1))
    body = UsageLearned(uid="u1", learned_at=1, pod_set="main", demand=demand)
    return NewRecord(USAGE.name, KEY.encode(), body.to_json())


async def test_what_was_learned_over_days_survives_a_restart_and_ends_with_the_forecast(log: MemoryLog) -> None:
    settings = SETTINGS.model_copy(update={"autoscaler_learned_s": 0.1})
    log.append(known_days())
    place(log, forecast={})
    first = Instance(log, settings)
    await until(lambda: said(log) == [None])
    first.use(50)
    await until(lambda: said(log)[-1] == 9)
    # What is there is told with what was there before.
    await until(lambda: len(learned(log)) > 1)
    last = learned(log)[-1]
    assert last is not None
    assert last.demand is not None
    assert last.demand.needed.count(900) == 4 * 288 + 1
    assert last.demand.needed[-1] == 200
    await first.stop()
    # The newest alone is what a compacted topic keeps.
    second = Instance(log, settings)
    await until(lambda: second.windows.take is not None)
    place(log, 2)
    await until(lambda: all(told is None or told.demand is None for told in learned(log)[-1:]))
    place(log, 3, deleting=True)
    await until(lambda: learned(log)[-1] is None)
    await second.stop()


async def test_what_was_learned_of_a_workload_that_is_gone_ends_at_the_next_start(log: MemoryLog) -> None:
    log.append(known_days())
    instance = Instance(log)
    await until(lambda: learned(log)[-1] is None)
    await instance.stop()


def decisions(log: MemoryLog) -> list[Record]:
    return list(log.segment(Partition(DECISIONS.name, 0)).records)


async def test_what_is_told_was_decided_in_the_journal_before_and_a_replay_agrees(log: MemoryLog) -> None:
    place(log)
    first = Instance(log)
    await until(lambda: said(log) == [None])
    first.use(100)
    await until(lambda: said(log)[-1] == 4)
    await first.stop()
    second = Instance(log)
    await until(lambda: second.windows.take is not None)
    second.use(400)
    await until(lambda: said(log)[-1] == 16)
    await second.stop()
    made = [ScalingDecided.model_validate_json(record.value or b"") for record in decisions(log)]
    assert [item.scaled.pod_sets[0].replicas for item in made][:2] == [None, 4]
    assert made[-1].scaled.pod_sets[0].replicas == 16
    assert made[0].basis.life == made[1].basis.life != made[-1].basis.life
    assert made[1].scaled.inputs["fleet.metrics"] == {0: 8}
    lines: list[str] = []
    code = await replay(log, SystemClock(), SETTINGS, parse(["--all"]), lines.append)
    assert (code, lines[-1]) == (0, f"{len(made)} equal, 0 different, 0 unchecked\n")
    lines.clear()
    await replay(log, SystemClock(), SETTINGS, parse(["--workload", "web"]), lines.append)
    assert lines == [f"{len(made) - 1}\t{KEY}\tscaled\tequal\n", "1 equal, 0 different, 0 unchecked\n"]


async def test_a_replay_of_a_forged_decision_fails(log: MemoryLog) -> None:
    place(log)
    instance = Instance(log)
    await until(lambda: said(log) == [None])
    instance.use(100)
    await until(lambda: said(log)[-1] == 4)
    await instance.stop()
    (forged,) = (record for record in decisions(log) if b'"replicas":4' in (record.value or b""))
    value = (forged.value or b"").replace(b'"replicas":4', b'"replicas":5')
    log.append(NewRecord(DECISIONS.name, forged.key, value, forged.headers, partition=0))
    lines: list[str] = []
    assert await replay(log, SystemClock(), SETTINGS, parse([]), lines.append) == 1
    assert "different" in lines[0]
