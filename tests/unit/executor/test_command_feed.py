"""The command topics of many clusters through one reader: from the start, to the end, and on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import pytest
import pytest_asyncio

from services.executor.command_feed import CommandFeed
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog, MemoryReader
from shared.events.topics import commands_topic
from shared.ports.event_log import LogError, NewRecord, Reader, Record


class Sink:
    """What one cluster was told: values, and how many of them before it was first told that this was all."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.before_end: int | None = None

    def __call__(self, records: Sequence[Record], caught_up: bool) -> None:
        self.values += [record.value for record in records]
        if caught_up and self.before_end is None:
            self.before_end = len(self.values)


class BreakingLog(MemoryLog):
    """`breaks` reads fail before reading goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks = 0

    async def reader(self, client_id: str) -> Reader:  # type: ignore[override]
        del client_id
        return BreakingReader(self)


class BreakingReader(MemoryReader):
    def __init__(self, log: BreakingLog) -> None:
        super().__init__(log)
        self._breaking = log

    async def read(self, *, max_records: int = 1000, timeout_s: float = 1.0) -> Sequence[Record]:
        if self._breaking.breaks:
            self._breaking.breaks -= 1
            raise LogError("the broker is away")
        # In small portions, so that a topic takes several reads.
        return await super().read(max_records=min(2, max_records), timeout_s=timeout_s)


@pytest.fixture
def log() -> BreakingLog:
    return BreakingLog()


@pytest_asyncio.fixture
async def feed(log: BreakingLog) -> AsyncIterator[CommandFeed]:
    feed = CommandFeed(log, SystemClock())
    task = asyncio.create_task(feed.run())
    yield feed
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def put(log: MemoryLog, cluster: str, *values: bytes) -> None:
    for value in values:
        log.append(NewRecord(commands_topic(cluster).name, b"k", value))


async def until(condition: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


async def test_a_topic_is_read_from_its_start_to_its_end_and_followed(log: BreakingLog, feed: CommandFeed) -> None:
    await log.ensure_topics([commands_topic("a")])
    put(log, "a", b"1", b"2", b"3")
    sink = Sink()
    feed.add("a", sink)
    await until(lambda: sink.before_end is not None)
    assert (sink.values, sink.before_end) == ([b"1", b"2", b"3"], 3)
    put(log, "a", b"4")
    await until(lambda: sink.values[3:] == [b"4"])


async def test_an_empty_topic_is_read_to_its_end_too(log: BreakingLog, feed: CommandFeed) -> None:
    await log.ensure_topics([commands_topic("a")])
    sink = Sink()
    feed.add("a", sink)
    await until(lambda: sink.before_end == 0)
    assert feed.problem("a") == ""


async def test_a_missing_topic_holds_up_no_other_and_is_found_when_it_comes(
    log: BreakingLog, feed: CommandFeed
) -> None:
    await log.ensure_topics([commands_topic("a")])
    put(log, "a", b"1")
    a, b = Sink(), Sink()
    feed.add("b", b)
    feed.add("a", a)
    await until(lambda: a.values == [b"1"])
    await until(lambda: "fleet.commands.b, which does not exist" in feed.problem("b"))
    await log.ensure_topics([commands_topic("b")])
    put(log, "b", b"2")
    await until(lambda: b.values == [b"2"])
    put(log, "a", b"3")
    await until(lambda: a.values == [b"1", b"3"])


async def test_a_cluster_that_comes_back_reads_from_the_start_again(log: BreakingLog, feed: CommandFeed) -> None:
    await log.ensure_topics([commands_topic("a"), commands_topic("b")])
    put(log, "a", b"1")
    first, second, other = Sink(), Sink(), Sink()
    feed.add("a", first)
    feed.add("b", other)
    await until(lambda: first.before_end == 1 and other.before_end == 0)
    feed.remove("a")
    feed.add("a", second)
    await until(lambda: second.before_end == 1)
    put(log, "b", b"2")
    await until(lambda: other.values == [b"2"])


async def test_nobody_is_told_of_a_cluster_that_left(log: BreakingLog, feed: CommandFeed) -> None:
    await log.ensure_topics([commands_topic("a"), commands_topic("b")])
    gone, stays = Sink(), Sink()
    feed.add("a", gone)
    feed.add("b", stays)
    await until(lambda: gone.before_end == 0 and stays.before_end == 0)
    feed.remove("a")
    put(log, "a", b"1")
    put(log, "b", b"2")
    await until(lambda: stays.values == [b"2"])
    assert gone.values == []


async def test_when_the_log_fails_everything_is_told_again_from_the_start(log: BreakingLog, feed: CommandFeed) -> None:
    await log.ensure_topics([commands_topic("a")])
    put(log, "a", b"1", b"2")
    sink = Sink()
    feed.add("a", sink)
    await until(lambda: sink.before_end == 2)
    log.breaks = 2
    put(log, "a", b"3")
    await until(lambda: sink.values[-3:] == [b"1", b"2", b"3"])
