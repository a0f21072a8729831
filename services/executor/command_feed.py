"""The command topics of all clusters of this process, through one reader.

Each topic is read from its start, to the end that it had then, and is followed from there. A topic that does not exist
yet is looked for with back-off, alone: the others go on. When the log fails, all topics are read from their start
again, which repeats commands and so changes nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from services.executor import metrics
from shared.events.topics import commands_topic
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import START, EventLog, LogError, Partition, Reader, Record

log = get_logger(__name__)

# Told the records that came, and whether all that the topic held has been told by now.
Deliver = Callable[[Sequence[Record], bool], None]

# Records end a wait at once; a cluster that joins, or its topic, is seen only after it.
_READ_S = 0.5
_CALM_S = 1.0
_FIRST_LOOK_S = 0.25
_LONGEST_LOOK_S = 5.0


@dataclass(slots=True)
class _Subscription:
    """`end` is where the topic ended when it was assigned; None until then."""

    topic: str
    deliver: Deliver
    partition: Partition | None = None
    end: int | None = None
    caught_up: bool = False
    looks: int = 0
    look_again_at: float = 0.0


class CommandFeed:
    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._subscriptions: dict[str, _Subscription] = {}
        self._changed = asyncio.Event()

    def add(self, cluster: str, deliver: Deliver) -> None:
        topic = commands_topic(cluster).name
        self._subscriptions[topic] = _Subscription(topic, deliver)
        self._changed.set()

    def remove(self, cluster: str) -> None:
        self._subscriptions.pop(commands_topic(cluster).name, None)
        self._changed.set()

    def problem(self, cluster: str) -> str:
        """Why a cluster's commands are not all known yet; empty if they are."""
        topic = commands_topic(cluster).name
        subscription = self._subscriptions.get(topic)
        if subscription is None or subscription.caught_up:
            return ""
        if subscription.partition is None:
            return f"waiting for topic {topic}" + (", which does not exist" if subscription.looks else "")
        return f"reading {topic}"

    async def run(self) -> None:
        """Reads until cancelled; begins anew when the log fails."""
        failures = 0
        while True:
            try:
                async with AsyncExitStack() as stack:
                    reader = await self._events.reader("executor")
                    stack.push_async_callback(reader.close)
                    self._forget_positions()
                    failures = 0
                    await self._follow(reader)
            except LogError as error:
                failures += 1
                delay = random.uniform(0, min(30.0, 0.5 * 2 ** min(failures, 10)))  # noqa: S311 - jitter
                metrics.FEED_RESTARTS.inc()
                log.warning("commands cannot be read", error=str(error), retry_s=round(delay, 2))
                await self._clock.sleep(delay)

    async def _follow(self, reader: Reader) -> None:
        assigned: frozenset[Partition] = frozenset()
        while True:
            self._changed.clear()
            await self._look_for_topics()
            found = {sub.partition: sub for sub in self._subscriptions.values() if sub.partition}
            fresh = {partition: sub for partition, sub in found.items() if sub.end is None}
            if fresh or found.keys() != assigned:
                positions = reader.positions()
                known = {partition: positions[partition] for partition in found if partition not in fresh}
                await reader.assign(known | dict.fromkeys(fresh, START))
                assigned = frozenset(found)
                for partition, end in (await reader.end_offsets(fresh)).items() if fresh else ():
                    fresh[partition].end = end
            if assigned:
                lacking = any(sub.partition is None for sub in self._subscriptions.values())
                self._hand_out(await reader.read(timeout_s=_READ_S if lacking else _CALM_S), reader)
            else:
                await self._pause()

    async def _look_for_topics(self) -> None:
        """Resolves the partitions of new topics. A topic has one partition."""
        for subscription in list(self._subscriptions.values()):
            if subscription.partition is not None or self._clock.monotonic() < subscription.look_again_at:
                continue
            found = await self._events.partitions(subscription.topic)
            if found:
                subscription.partition = found[0]
                continue
            if subscription.looks == 0:
                log.info("the command topic does not exist yet", topic=subscription.topic)
            subscription.looks += 1
            ceiling = min(_LONGEST_LOOK_S, _FIRST_LOOK_S * 2 ** min(subscription.looks, 10))
            delay = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter
            subscription.look_again_at = self._clock.monotonic() + delay

    def _hand_out(self, records: Sequence[Record], reader: Reader) -> None:
        by_topic: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_topic[record.topic].append(record)
        positions = reader.positions()
        for subscription in list(self._subscriptions.values()):
            batch = by_topic.get(subscription.topic, [])
            if subscription.partition is None or subscription.end is None:
                continue
            newly = not subscription.caught_up and positions.get(subscription.partition, -1) >= subscription.end
            subscription.caught_up = subscription.caught_up or newly
            if batch or newly:
                subscription.deliver(batch, subscription.caught_up)

    async def _pause(self) -> None:
        """Until topics are looked for again, or a cluster comes or goes."""
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self._changed.wait()
        except TimeoutError:
            return

    def _forget_positions(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.partition = subscription.end = None
            subscription.caught_up = False
            subscription.looks, subscription.look_again_at = 0, 0.0
