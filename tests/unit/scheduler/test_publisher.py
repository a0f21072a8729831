"""The publisher of the journal, on a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.journal import Checkpoint, encode_decided, encode_entry, load_checkpoint
from services.scheduler.publisher import COMMIT_EVERY_S, FencedError, JournalPublisher, encode_placement
from services.scheduler.replica import Replica
from shared.adapters.memory.event_log import MemoryLog
from shared.events.registry import DecodeError, decode
from shared.events.topics import ALL_TOPICS, PLACEMENTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import Decision, DecisionsMade, EpochStarted, RequestRef, RequestRejected
from shared.events.v1.workloads import FieldError
from shared.ports.event_log import START, Partition, Publisher, Reader, Record
from shared.testing.clock import FakeClock
from tests.unit.status.world import KEY, placement

EPOCH = 3


class Journal:
    """A leader's journal and the publisher that follows it; `assigned` is from where the journal was read."""

    def __init__(self, events: MemoryLog, checkpoint: Checkpoint) -> None:
        self.events = events
        self.clock = FakeClock()
        self.follower = JournalPublisher(events, self.clock, 0, checkpoint, {}, self._decided, asyncio.Event())
        self.offsets: list[int] = []
        self.assigned: list[int] = []
        self._decisions = 0
        self._caught_up = asyncio.Event()
        self._journal: Publisher

    def _decided(self, _: Decision, offset: int) -> None:
        self.offsets.append(offset)

    @asynccontextmanager
    async def led(self, begin: int) -> AsyncIterator[Journal]:
        self._journal = await self.events.publisher("journal")
        reader, derived = await self.events.reader("publisher"), await self.events.publisher("derived")
        running = asyncio.create_task(self.follower.run(self._noted(reader), derived, EPOCH, begin))
        try:
            await _first(running, self._caught_up.wait())
            yield self
            await _first(running, self.follower.all_published())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _noted(self, reader: Reader) -> Reader:
        original = reader.assign

        async def assign(positions: dict[Partition, int]) -> None:
            self.assigned += positions.values()
            if not positions:
                self._caught_up.set()
            await original(positions)

        reader.assign = assign  # type: ignore[method-assign,assignment]
        return reader

    async def append(self, entry: DecisionsMade | EpochStarted, *, own: bool = True) -> None:
        acknowledgement = await self._journal.send(encode_entry(entry, cell=0, leader=entry.leader, at_ms=1))
        if own:
            assert isinstance(entry, DecisionsMade)
            await self.follower.expect(entry, acknowledgement)

    async def decide(self) -> None:
        self._decisions += 1
        number = self._decisions
        error = FieldError(field="", reason="Invalid", message="no")
        decision = RequestRejected(
            key=f"shop/w{number}", request=RequestRef(id=f"r{number}", published_at=1), errors=(error,)
        )
        await self.append(DecisionsMade(cell="0", epoch=EPOCH, leader="us", decided_at=1, decisions=(decision,)))


async def _first(running: asyncio.Task[None], other: Coroutine[Any, Any, Any]) -> None:
    """Waits for whatever ends first, and raises what it raised."""
    async with asyncio.timeout(30):
        done, _ = await asyncio.wait({running, asyncio.create_task(other)}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def marker(epoch: int, leader: str) -> EpochStarted:
    return EpochStarted(cell="0", epoch=epoch, leader=leader)


@pytest.fixture
async def journal() -> Journal:
    """Led by us since offset 0."""
    events = MemoryLog()
    await events.ensure_topics(ALL_TOPICS)
    publisher = await events.publisher("before")
    await publisher.send(encode_entry(marker(EPOCH, "us"), cell=0, leader="us", at_ms=1))
    return Journal(events, Checkpoint(0))


async def test_a_leader_that_was_replaced_before_it_read_the_checkpoint_notices() -> None:
    """Found by simulation: its successor's marker stood before that checkpoint, and it led on for ever."""
    events = MemoryLog()
    await events.ensure_topics(ALL_TOPICS)
    journal = Journal(events, Checkpoint(0, epoch=4, leader="successor"))
    with pytest.raises(FencedError, match="successor started epoch 4"):
        async with journal.led(0):
            pass


async def test_what_the_leader_appended_is_published_without_reading_it_back(journal: Journal) -> None:
    async with journal.led(1):
        for _ in range(3):
            await journal.decide()
    assert journal.offsets == [1, 2, 3]
    assert journal.assigned == [0], "only what stood there before was read"
    keys = {record.key for record in journal.events.records(PLACEMENTS.name)}
    assert keys == {b"shop/w1", b"shop/w2", b"shop/w3"}
    assert journal.follower.position == 4


async def test_what_stands_between_own_entries_is_read(journal: Journal) -> None:
    """A void entry of a former leader: the broker should have refused it, and nobody relies on that."""
    late = DecisionsMade(cell="0", epoch=EPOCH - 1, leader="former", decided_at=1)
    async with journal.led(1):
        await journal.decide()
        await journal.append(late, own=False)
        await journal.decide()
        await journal.decide()
    assert journal.offsets == [1, 3, 4]
    assert journal.assigned == [0, 2]


async def test_the_marker_of_a_higher_epoch_between_own_entries_ends_the_term(journal: Journal) -> None:
    async def lead() -> None:
        async with journal.led(1):
            await journal.decide()
            await journal.append(marker(EPOCH + 1, "successor"), own=False)
            await journal.decide()

    with pytest.raises(FencedError, match="successor started epoch 4"):
        await lead()
    assert journal.offsets == [1], "what stands behind the marker is void"


async def test_a_cluster_is_told_again_what_is_asked_of_it_and_that_nothing_is() -> None:
    """What a leader that had been replaced left behind the newest record may be of a workload that ended."""
    events, clock = MemoryLog(), FakeClock()
    await events.ensure_topics(ALL_TOPICS)
    published = {KEY: placement({"east": 2}, generation=7)}
    publisher = JournalPublisher(events, clock, 0, Checkpoint(0), published, lambda *_: None, asyncio.Event())
    derived = await events.publisher("derived")
    for cluster, key in (("east", KEY), ("west", KEY), ("east", "shop/ended")):
        await publisher.republish(derived, cluster, key)
    east, west = await _records(events, "east"), await _records(events, "west")
    assert [record.key for record in east] == [b"workload/shop/cart", b"workload/shop/ended"]
    command = decode(CommandIssued, east[0].value)
    assert (command.cluster, command.action, command.generation) == ("east", "run", 7)
    assert east[1].value is None
    assert [(record.key, record.value) for record in west] == [(b"workload/shop/cart", None)]
    seqs = [record.header("fleet_seq") for record in (*east, *west)]
    assert seqs == [b"7", b"0", b"0"], "that nothing is asked is so as of the publisher's position"


async def test_tombstones_have_the_generation_of_their_decision(journal: Journal) -> None:
    """Otherwise nobody could tell one that is repeated late from one that counts."""
    async with journal.led(1):
        await journal.decide()
        await journal.decide()
    records = sorted(journal.events.records(PLACEMENTS.name), key=lambda record: (record.key, record.offset))
    said = [(record.value is None, record.header("fleet_epoch"), record.header("fleet_seq")) for record in records]
    assert said == [(False, b"3", b"1"), (True, b"3", b"1"), (False, b"3", b"2"), (True, b"3", b"2")]


async def test_a_checkpoint_that_waits_for_the_broker_does_not_hold_up_what_is_published(journal: Journal) -> None:
    """Every half second everybody's placement waited for it, 10 to 60 ms."""
    derived, flushing = await journal.events.publisher("derived"), asyncio.Event()

    async def flush() -> None:
        flushing.set()
        await asyncio.Event().wait()

    derived.flush = flush  # type: ignore[method-assign]
    keeping = asyncio.create_task(journal.follower.keep_checkpoint(derived))
    async with journal.led(1):
        await journal.decide()
        await _first(keeping, journal.follower.all_published())
        async with asyncio.timeout(30):
            while not flushing.is_set():
                await journal.clock.advance(COMMIT_EVERY_S)
        await journal.decide()
    assert journal.offsets == [1, 2]
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_checkpoint_behind_a_resignation_says_so_until_somebody_else_leads(journal: Journal) -> None:
    """The entry itself stands before it, so nobody reads it again: a restart waited for the lease of a leader that was
    gone."""
    derived = await journal.events.publisher("derived")
    async with journal.led(1):
        await journal.append(DecisionsMade(cell="0", epoch=EPOCH, leader="us", decided_at=1, resigned=True))
    await journal.follower.commit(derived)
    assert (await load_checkpoint(journal.events, 0)).resigned
    async with AsyncExitStack() as stack:
        replica = Replica(journal.events, FakeClock(), SchedulerConfig(), 0, "next", _refuse)
        await replica.rebuild(stack)
        assert replica.resigned
        await (await journal.events.publisher("next")).send(
            encode_entry(marker(EPOCH + 1, "successor"), cell=0, leader="successor", at_ms=1)
        )
        await replica.follow_journal(0)
        assert not replica.resigned


def _refuse(record: Record, error: DecodeError) -> None:
    raise AssertionError(f"{record}: {error}")


async def _records(events: MemoryLog, cluster: str) -> list[Record]:
    reader = await events.reader("test")
    await reader.assign(dict.fromkeys(await events.partitions(commands_topic(cluster).name), START))
    return list(await reader.read(timeout_s=0))


def test_what_is_encoded_once_is_what_the_models_say() -> None:
    """Of an entry, and of the placement that follows from it; also where a text looks like the field."""
    published = placement({"c1": 2}, generation=3)
    placed = published.placement
    assert placed is not None
    ref = RequestRef(id='"decisions":[]', published_at=1)
    error = FieldError(field="", reason="Invalid", message='no "decisions":[]')
    rejected = RequestRejected(key="shop/other", request=ref, errors=(error,))
    entry = DecisionsMade(
        cell="0",
        epoch=EPOCH,
        leader='"decisions":[]',
        decided_at=1,
        inputs={"decisions": {0: 3}},
        decisions=(placed, rejected),
        resigned=True,
    )
    bare, encoded = entry.model_copy(update={"decisions": ()}), [placed.to_json(), rejected.to_json()]
    record = encode_decided(bare, encoded, cell=0, leader="us", at_ms=1)
    assert record.value == entry.to_json()
    assert encode_decided(bare, [], cell=0, leader="us", at_ms=1).value == bare.to_json()
    said = {id(entry.decisions[0]): encoded[0]}
    assert encode_placement(published, said) == published.to_json()
    assert encode_placement(published, {id(placed): b"this text"}) == published.to_json().replace(
        placed.to_json(), b"this text"
    )
    refused = published.model_copy(update={"rejection": rejected})
    assert encode_placement(refused, said) == refused.to_json()
