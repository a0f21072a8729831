"""The world that everything is judged in: time that only jumps, processes that die between effects, and freeze."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import pytest

from shared.events.topics import REQUESTS, STATUS
from shared.ports.event_log import START, LogError, NewRecord, Partition
from tests.simulation.broker import Broker
from tests.simulation.history import History
from tests.simulation.links import Link, Mishap
from tests.simulation.log_client import SimLog
from tests.simulation.loop import DeadlockError, VirtualLoop
from tests.simulation.process import KilledError, Process

PARTITION = Partition(REQUESTS.name, 0)


class Ground:
    """A log, and processes that are connected to it."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.history = History()
        self.broker = Broker(self.loop, self.history)
        self.broker.create([REQUESTS, STATUS])
        self.links: dict[str, Link] = {}

    def process(self, name: str) -> tuple[Process, SimLog]:
        process = Process(self.loop, name, 1)
        self.links[name] = Link(self.loop, random.Random(name))
        return process, SimLog(process, self.broker, self.links[name])

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    @property
    def values(self) -> list[bytes | None]:
        return [append.value for append in self.history.appends]


@pytest.fixture
def ground() -> Ground:
    return Ground()


def record(value: bytes) -> NewRecord:
    return NewRecord(REQUESTS.name, b"k", value, partition=0)


def test_an_hour_passes_at_once_and_timers_of_one_moment_keep_their_order(ground: Ground) -> None:
    seen: list[int] = []

    async def wait() -> None:
        for number in range(5):
            ground.loop.call_later(3600, seen.append, number)
        await asyncio.sleep(3601)

    ground.run(wait())
    assert seen == [0, 1, 2, 3, 4]
    assert ground.loop.time() == 3601


def test_what_would_wait_for_ever_is_an_error(ground: Ground) -> None:
    with pytest.raises(DeadlockError):
        ground.run(asyncio.Event().wait())


def test_there_are_no_threads_and_no_sockets(ground: Ground) -> None:
    async def thread() -> None:
        await asyncio.to_thread(print)

    async def socket() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    for work in (thread, socket):
        with pytest.raises(RuntimeError, match="a simulation has"):
            ground.run(work())


def test_nothing_that_a_dying_process_does_reaches_the_world(ground: Ground) -> None:
    process, log = ground.process("p")

    async def live() -> None:
        publisher = await log.publisher("p")
        try:
            await asyncio.sleep(100)
        finally:
            await publisher.send(record(b"last words"))

    async def kill() -> None:
        process.spawn(live())
        await asyncio.sleep(10)
        process.crash()
        await asyncio.sleep(10)

    ground.run(kill())
    assert ground.values == []
    assert not process.tasks


def test_a_process_dies_before_any_effect_that_is_asked_for(ground: Ground) -> None:
    async def lives(at: int) -> int:
        process, log = ground.process(f"p{at}")
        process.crash_at = at
        process.on_crash = process.crash

        async def live() -> None:
            publisher = await log.publisher("p")
            for number in range(3):
                await (await publisher.send(record(b"%d/%d" % (at, number))))

        task = process.spawn(live())
        await asyncio.sleep(10)
        assert isinstance(task.exception(), KilledError)
        return sum(value is not None and value.startswith(b"%d/" % at) for value in ground.values)

    # Effects: the connection, then each record, whose acknowledgement the next one waits for.
    assert [ground.run(lives(at)) for at in (1, 2, 3, 4)] == [0, 0, 1, 2]


def test_a_paused_process_does_nothing_and_wakes_to_a_later_hour(ground: Ground) -> None:
    process, log = ground.process("p")
    ticks: list[float] = []

    async def live() -> None:
        publisher = await log.publisher("p")
        while True:
            await asyncio.sleep(1)
            ticks.append(process.clock.monotonic())
            await publisher.send(record(b"tick"))

    async def watch() -> None:
        process.spawn(live())
        await asyncio.sleep(3.5)
        process.pause()
        await asyncio.sleep(60)
        assert len(ticks) == 3
        process.resume()
        await asyncio.sleep(0.5)
        process.crash()

    ground.run(watch())
    assert ticks[3] == pytest.approx(63.5)


def test_a_lost_acknowledgement_breaks_the_publisher_though_the_record_is_there(ground: Ground) -> None:
    _, log = ground.process("p")

    async def send() -> None:
        publisher = await log.publisher("p")
        ground.links["p"].mishaps.append(Mishap.UNANSWERED)
        acknowledged = await publisher.send(record(b"a"))
        with pytest.raises(LogError):
            await acknowledged
        with pytest.raises(LogError):
            await publisher.send(record(b"b"))

    ground.run(send())
    assert ground.values == [b"a"]


def test_appends_may_go_wrong_while_questions_are_answered(ground: Ground) -> None:
    async def work() -> None:
        _, log = ground.process("p")
        ground.links["p"].lossy_appends = 100
        publisher = await log.publisher("p")
        assert await log.partitions(REQUESTS.name)
        await publisher.send(record(b"1"))
        with pytest.raises(LogError):
            await publisher.flush()

    ground.run(work())


def test_everything_that_waits_for_a_log_that_stays_away_is_told_so(ground: Ground) -> None:
    _, log = ground.process("p")

    async def send() -> None:
        publisher = await log.publisher("p")
        ground.links["p"].cut(60)
        acknowledged = [await publisher.send(record(b"%d" % number)) for number in range(5)]
        for future in acknowledged:
            with pytest.raises(LogError):
                await future
        with pytest.raises(LogError):
            await publisher.flush()

    ground.run(send())
    assert ground.values == [b"%d" % number for number in range(len(ground.values))]


def test_each_partition_keeps_its_order_and_all_of_it_arrives(ground: Ground) -> None:
    _, log = ground.process("writer")
    _, other = ground.process("reader")

    async def exchange() -> list[bytes | None]:
        publisher, reader = await log.publisher("p"), await other.reader("r")
        await reader.assign({PARTITION: START})
        for number in range(50):
            await publisher.send(record(b"%d" % number))
            await asyncio.sleep(0.001)
        found: list[bytes | None] = []
        while len(found) < 50:
            found += [item.value for item in await reader.read(timeout_s=1)]
        return found

    assert ground.run(exchange()) == [b"%d" % number for number in range(50)]


def test_cleaning_keeps_the_last_of_each_key_and_readers_pass_over_the_rest(ground: Ground) -> None:
    _, log = ground.process("p")

    async def clean() -> list[tuple[bytes | None, bytes | None]]:
        publisher = await log.publisher("p")
        for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None), (b"c", b"1")):
            await publisher.send(NewRecord(STATUS.name, key, value, partition=0))
        await publisher.flush()
        await asyncio.sleep(100)
        ground.broker.clean(lag_ms=10_000, tombstone_ms=50_000)
        reader = await log.reader("r")
        await reader.assign({Partition(STATUS.name, 0): START})
        return [(item.key, item.value) for item in await reader.read()]

    assert ground.run(clean()) == [(b"a", b"2"), (b"c", b"1")]


def test_who_waits_long_for_records_is_told_when_the_log_is_lost(ground: Ground) -> None:
    process, log = ground.process("p")

    async def live() -> None:
        reader = await log.reader("p")
        await reader.assign({PARTITION: START})
        ground.links["p"].cut(20)
        cut_at = ground.loop.time()
        with pytest.raises(LogError, match="away"):
            await reader.read(timeout_s=100)
        assert ground.loop.time() - cut_at < 7

    ground.run(process.spawn(live()))
