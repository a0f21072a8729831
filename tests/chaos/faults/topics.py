"""What can happen to topics: crowds of readers, forced compaction, truncation, records that are poison.

- Compaction is only brought forward: what a topic promises (tombstones for a day) stays, and so does a grace for what
  is compacted on purpose (`fleet.placements` shows refusals before they go).
- Truncation takes only what its readers have behind them: positions in the leader's checkpoint, in the status
  service's commits, and our own. The journal and the compacted topics are the truth and are never truncated.
- Poison has keys of its own. Under the key of something real it would replace what only its writer can say again;
  against that a topic has ACLs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer

from services.scheduler.journal import load_checkpoint
from shared.adapters.kafka.lifecycle import stop_consumer
from shared.events.topics import (
    ALL_TOPICS,
    DECISIONS,
    EVENTS,
    METRICS,
    PLACEMENTS,
    REQUESTS,
    RESULTS,
    Cleanup,
    Topic,
    commands_topic,
)
from shared.ports.event_log import LogError, NewRecord, Partition
from tests.chaos.bed import Bed
from tests.chaos.broker_admin import BrokerError, bounds, configure_topic, delete_records
from tests.chaos.evidence import read_topic
from tests.chaos.faults.base import RECOVERY_S, Fault
from tests.chaos.journalist import POISON_HEADER

_STATUS_GROUP: Final = "flotilla-status"
_READERS: Final = 24
_RETRY_S: Final = 1.0
_STAY_S: Final = (0.3, 3.0)
_LEAVE_S: Final = 10.0
# Small segments that close at once, so that nearly all of a topic can be compacted.
_FORCED: Final = {"segment.ms": "500", "min.cleanable.dirty.ratio": "0.0", "max.compaction.lag.ms": "500"}
_GRACE_MS: Final = {PLACEMENTS.name: "60000"}


def _topics(bed: Bed) -> dict[str, Topic]:
    return {topic.name: topic for topic in (*ALL_TOPICS, *(commands_topic(name) for name in bed.clusters))}


class GroupStorm(Fault):
    """Readers and members of groups that come and go: rebalances, fetches from the start, connections."""

    name = "consumer-group storm"
    hold = (6.0, 12.0)

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        del bed
        return ["groups"]

    async def inject(self) -> None:
        self._over = asyncio.Event()
        self._storm = asyncio.create_task(self._blow(), name="storm")

    async def heal(self) -> None:
        """The readers are asked to leave: aiokafka swallows a cancellation that comes while it stops."""
        self._over.set()
        await asyncio.wait({self._storm}, timeout=RECOVERY_S)
        if not self._storm.done():
            raise TimeoutError("the readers have not left")
        await self._storm

    async def _blow(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(_READERS):
                group.create_task(self._come_and_go(f"chaos-storm-{number % 4}" if number % 3 else None))

    async def _come_and_go(self, group: str | None) -> None:
        topics = list(_topics(self.bed))
        while not self._over.is_set():
            consumer = AIOKafkaConsumer(
                *self.rng.sample(topics, 3),
                bootstrap_servers=self.bed.kafka.bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,  # aiokafka's own commits fail in tasks that nobody awaits
            )
            with contextlib.suppress(*BrokerError):
                try:
                    await consumer.start()
                    leaves_at = time.monotonic() + self.rng.uniform(*_STAY_S)
                    while time.monotonic() < leaves_at and not self._over.is_set():
                        await consumer.getmany(timeout_ms=200)
                    if group and consumer.assignment():
                        await consumer.commit()
                finally:
                    await stop_consumer(consumer, _LEAVE_S)
            await asyncio.sleep(self.rng.uniform(0, 1))


class Compacted(Fault):
    name = "forced compaction"
    hold = (5.0, 10.0)

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return [name for name, topic in _topics(bed).items() if topic.cleanup is Cleanup.COMPACT]

    async def inject(self) -> None:
        grace = _GRACE_MS.get(self.target, "0")
        forced = {**_FORCED, "min.compaction.lag.ms": grace}
        if grace != "0":
            forced["max.compaction.lag.ms"] = grace
        await self._configure({**_topics(self.bed)[self.target].config(), **forced})

    async def heal(self) -> None:
        await self._configure(_topics(self.bed)[self.target].config())
        await persistently(self._count)

    async def _count(self) -> None:
        """How much is left: the offsets that the log spans, and the records that are still there."""
        spans = await bounds(self.bed.kafka.bootstrap, await self.bed.log.partitions(self.target))
        records = await read_topic(self.bed.log, self.target)
        offsets = sum(after - first for first, after in spans.values())
        self.journalist.note("compacted", topic=self.target, offsets=offsets, records=len(records))

    async def _configure(self, settings: Mapping[str, str]) -> None:
        await persistently(lambda: configure_topic(self.bed.kafka.bootstrap, self.target, settings))


class Truncated(Fault):
    """Records that were read by all who need them are gone."""

    name = "truncated topic"
    hold = (0.5, 1.0)

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        del bed
        return [REQUESTS.name, RESULTS.name, EVENTS.name, METRICS.name]

    async def inject(self) -> None:
        await persistently(self._truncate)

    async def heal(self) -> None:
        """Nothing comes back."""

    async def _truncate(self) -> None:
        partitions = await self.bed.log.partitions(self.target)
        behind = await self._behind(partitions)
        ends = await bounds(self.bed.kafka.bootstrap, partitions)
        wanted = {p: offset for p, offset in behind.items() if ends[p][0] < offset <= ends[p][1]}
        if wanted:
            await delete_records(self.bed.kafka.bootstrap, wanted)
        taken = sum(offset - ends[p][0] for p, offset in wanted.items())
        self.journalist.note("truncated", topic=self.target, records=taken)

    async def _behind(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """What every reader has behind it, by partition."""
        if self.target == METRICS.name:  # samples: every reader begins at the end
            return {p: end for p, (_, end) in (await bounds(self.bed.kafka.bootstrap, partitions)).items()}
        ours = self.journalist.positions
        found = {p: ours.get(p, 0) for p in partitions}
        if self.target in {REQUESTS.name, RESULTS.name}:
            checkpoint = await load_checkpoint(self.bed.log, 0)
            leaders = (checkpoint.inputs or {}).get(self.target, {})
            found = {p: min(offset, leaders.get(p.partition, 0)) for p, offset in found.items()}
        if self.target in {RESULTS.name, EVENTS.name}:
            committed = await self.bed.log.committed(_STATUS_GROUP, partitions)
            found = {p: min(offset, committed[p].offset if p in committed else 0) for p, offset in found.items()}
        return found


def _garbage(_: str) -> NewRecord:
    return NewRecord("", b"\xff\xfe poison", b"\x00\xff\xfe not anything", ())


def _wrong_types(_: str) -> NewRecord:
    return NewRecord("", b"poison/wrong", b'{"operation": [], "cluster": 7, "namespace": {}, "epoch": "x"}', ())


def _strange_headers(_: str) -> NewRecord:
    headers = (("ce_time", b"yesterday"), ("ce_id", b"\xff"), ("x" * 1000, b"y" * 200_000))
    return NewRecord("", b"poison/headers", b"{}", headers)


def _nothing(_: str) -> NewRecord:
    return NewRecord("", b"poison/never-there", None, ())


def _no_key(_: str) -> NewRecord:
    return NewRecord("", None, b"[1, 2", ())


def _of_type(topic: str) -> NewRecord:
    """It says that it is what the topic is for."""
    messages = next((t.messages for t in ALL_TOPICS if t.name == topic), ())
    kind = messages[0].ce_type if messages else "fleet.command.issued.v1"
    return NewRecord("", b"poison/of-type", b'{"half": ', (("ce_type", kind.encode()),))


_POISONS: Final[tuple[Callable[[str], NewRecord], ...]] = (
    _garbage,
    _wrong_types,
    _strange_headers,
    _nothing,
    _no_key,
    _of_type,
)


class Poisoned(Fault):
    """One record that nobody can read, on one topic."""

    name = "poison record"
    hold = (0.1, 0.5)
    weight = 6

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return list(_topics(bed))

    async def inject(self) -> None:
        await persistently(self._publish)

    async def heal(self) -> None:
        """It stays: readers have to live with it."""

    async def _publish(self) -> None:
        partition = self.rng.choice(await self.bed.log.partitions(self.target))
        for record in self._records():
            poison = record._replace(
                topic=self.target,
                partition=partition.partition,
                headers=(*record.headers, (POISON_HEADER, b"1")),
            )
            publisher = await self.bed.log.publisher("chaos-poison")
            try:
                await publisher.send(poison)
                await publisher.flush()
            finally:
                await publisher.close()

    def _records(self) -> list[NewRecord]:
        poisons = list(_POISONS)
        topic = _topics(self.bed)[self.target]
        if topic.cleanup is Cleanup.COMPACT:
            poisons.remove(_no_key)  # the broker itself refuses it
        if topic.name == DECISIONS.name:
            # What claims to be an entry of the journal and cannot be read stops its readers on purpose (ADR 1): they
            # must not go on without knowing what was decided. Only the leader may write there.
            poisons.remove(_of_type)
        return [self.rng.choice(poisons)(self.target)]


async def persistently(work: Callable[[], Awaitable[None]]) -> None:
    """An operator's call, again and again while a fault is in its way. Raises TimeoutError."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            with contextlib.suppress(LogError, *BrokerError):
                return await work()
            await asyncio.sleep(_RETRY_S)
