"""The `EventLog` port on Apache Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.structs import OffsetAndMetadata

from shared.adapters.kafka.diagnosis import why_unreachable
from shared.adapters.kafka.lifecycle import ended, start, stop_consumer
from shared.adapters.kafka.offsets import stored_offsets
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.kafka.publisher import KafkaPublisher
from shared.adapters.kafka.reader import KafkaReader
from shared.events.topics import Topic
from shared.ports.event_log import Committed, LogError, Partition

T = TypeVar("T")

_RETRY_S = 0.5
# The client does not see by itself that the controller is another broker now: it looks at the metadata again so often.
_ADMIN_METADATA_MS = 2_000
_ATTEMPTS = 5


class KafkaLog:
    """One admin connection, and a committing consumer for each group that commits."""

    def __init__(self, options: KafkaOptions, admin: AIOKafkaAdminClient, client_id: str) -> None:
        self._options = options
        self._admin = admin
        self._client_id = client_id
        self._committers: dict[str, AIOKafkaConsumer] = {}

    @classmethod
    async def connect(cls, options: KafkaOptions, client_id: str = "flotilla") -> KafkaLog:
        """Waits for the brokers for `options.connect_s` at most. Raises LogError."""
        deadline = time.monotonic() + options.connect_s
        while True:
            admin = AIOKafkaAdminClient(**_admin_arguments(options, client_id))
            try:
                await admin.start()
            except (KafkaError, OSError) as error:
                await ended(admin.close(), options.timeout_s)
                if time.monotonic() + _RETRY_S > deadline:
                    raise LogError(
                        f"no broker at {options.bootstrap} within {options.connect_s:.0f} s: "
                        f"{await why_unreachable(options)}"
                    ) from error
                await asyncio.sleep(_RETRY_S)
            else:
                return cls(options, admin, client_id)

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        wanted = list(topics)
        if not wanted:
            return
        try:
            # Who may not create topics may use those that are there: only what is missing is asked for.
            described = await self._persistently(lambda: self._admin.describe_topics([topic.name for topic in wanted]))
            codes = {item["topic"]: item["error_code"] for item in described}
            missing = [t for t in wanted if codes[t.name] == UnknownTopicOrPartitionError.errno]
            if missing:
                await self._create(missing)
            # What this account may not see is nothing that its service uses, and for others to make.
            visible = [t.name for t in wanted if codes[t.name] != TopicAuthorizationFailedError.errno]
            await self._until_visible(visible)
        except KafkaError as error:
            raise LogError(f"topics were not created: {error!r}") from error

    async def _create(self, topics: Sequence[Topic]) -> None:
        copies, more = self._options.replication, self._options.topic_arguments()
        new = [NewTopic(t.name, t.partitions, copies, topic_configs=t.config() | more) for t in topics]
        timeout_ms = round(self._options.timeout_s * 1000)
        response = await self._persistently(lambda: self._admin.create_topics(new, timeout_ms=timeout_ms))
        for name, code, *rest in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise LogError(f"topic {name} was not created: {for_code(code).__name__} {rest[0] if rest else ''}")

    async def partitions(self, topic: str) -> Sequence[Partition]:
        try:
            (described,) = await self._persistently(lambda: self._admin.describe_topics([topic]))
        except KafkaError as error:
            raise LogError(f"{topic}: {error!r}") from error
        code = described["error_code"]
        if code == UnknownTopicOrPartitionError.errno:
            return []
        if code:
            raise LogError(f"{topic}: {for_code(code).__name__}")
        return sorted(Partition(topic, item["partition"]) for item in described["partitions"])

    async def publisher(self, client_id: str) -> KafkaPublisher:
        try:
            return await KafkaPublisher.open(self._options, client_id)
        except (KafkaError, TimeoutError) as error:
            raise LogError(f"publisher: {error!r}") from error

    async def sole_publisher(self, client_id: str, writer: str, announce: Iterable[Partition] = ()) -> KafkaPublisher:
        return await KafkaPublisher.open_sole(self._options, client_id, writer, announce)

    async def reader(self, client_id: str) -> KafkaReader:
        try:
            return await KafkaReader.open(self._options, client_id)
        except (KafkaError, TimeoutError) as error:
            raise LogError(f"reader: {error!r}") from error

    async def committed(self, group: str, partitions: Iterable[Partition]) -> Mapping[Partition, Committed]:
        wanted = [TopicPartition(*partition) for partition in partitions]
        try:
            # A young broker creates the offsets topic, and a new coordinator loads it, on the first request.
            stored = await self._persistently(lambda: stored_offsets(self._admin, group, wanted))
        except KafkaError as error:
            raise LogError(f"committed positions of {group}: {error!r}") from error
        return {
            Partition(*tp): Committed(item.offset, item.metadata or "")
            for tp, item in stored.items()
            if item.offset >= 0
        }

    async def commit(self, group: str, positions: Mapping[Partition, Committed]) -> None:
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(item.offset, item.metadata)
            for partition, item in positions.items()
        }
        try:
            # The client looks for the group's coordinator for as long as there is none.
            async with asyncio.timeout(self._options.timeout_s):
                committer = await self._committer(group)
                if committer.assignment() != set(offsets):
                    committer.assign(list(offsets))
                    committer.pause(*offsets)
                await committer.commit(offsets)
        except TimeoutError as error:
            raise LogError(f"commit of {group}: no answer within {self._options.timeout_s:g} s") from error
        except KafkaError as error:
            raise LogError(f"commit of {group}: {error!r}") from error

    async def close(self) -> None:
        for committer in self._committers.values():
            await stop_consumer(committer, self._options.timeout_s)
        await ended(self._admin.close(), self._options.timeout_s)

    async def _committer(self, group: str) -> AIOKafkaConsumer:
        """A consumer that only commits: its partitions are paused, it never joins the group."""
        if group not in self._committers:
            committer = AIOKafkaConsumer(
                **self._options.client_arguments(f"{self._client_id}-commit"), group_id=group, enable_auto_commit=False
            )
            await start(committer, self._options.timeout_s)
            await asyncio.sleep(0)  # as in KafkaReader.open
            self._committers[group] = committer
        return self._committers[group]

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Asks again, until the deadline, where a retry may help: the admin client may take a broker that is dead.

        An attempt has a part of that time only: the client waits for the broker that it has taken for as long as it
        may, and would not see meanwhile that another is the controller. Raises KafkaError.
        """
        deadline = time.monotonic() + self._options.timeout_s
        while True:
            try:
                async with asyncio.timeout(self._options.timeout_s / _ATTEMPTS):
                    return await call()
            except TimeoutError as error:
                if time.monotonic() > deadline:
                    raise KafkaTimeoutError(f"no answer within {self._options.timeout_s:g} s") from error
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RETRY_S / 5)

    async def _until_visible(self, names: Sequence[str]) -> None:
        deadline = time.monotonic() + self._options.timeout_s
        while True:
            described = await self._persistently(lambda: self._admin.describe_topics(list(names)))
            missing = [
                item["topic"]
                for item in described
                if item["error_code"] or any(part["leader"] < 0 for part in item["partitions"])
            ]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise LogError(f"topics have no leader after {self._options.timeout_s:.0f} s: {missing}")
            await asyncio.sleep(0.05)


def _admin_arguments(options: KafkaOptions, client_id: str) -> dict[str, object]:
    return options.client_arguments(f"{client_id}-admin") | {"metadata_max_age_ms": _ADMIN_METADATA_MS}
