"""TLS, client certificates and SASL on a real broker, and before a real Valkey; what a mistake is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from services.autoscaler.windows import FaustWindows
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.events.topics import METRICS, Cleanup, Topic
from shared.ports.event_log import START, Committed, LogError, NewRecord, Partition, Record
from shared.ports.key_value import KeyValueError
from shared.runtime.embedded import EmbeddedValkey
from tests.fixtures.secure import PASSWORD, USER, SecureBroker, TlsFront, secure_broker, tls_front
from tests.testbed.pki import Authority

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.kafka]

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureBroker]:
    assert kafka_bootstrap, "the parts are there"
    async with secure_broker(tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsFront]:
    """A Valkey of our own that wants a password, behind TLS that wants a certificate."""
    assert redis_url
    directory = tmp_path_factory.mktemp("front")
    async with EmbeddedValkey(directory / "valkey") as valkey:
        async with Redis.from_url(valkey.url) as client:
            await client.config_set("requirepass", PASSWORD)
        async with tls_front(directory, valkey.config.port) as running:
            yield running


def by_password(broker: SecureBroker, mechanism: str = "SCRAM-SHA-512") -> KafkaOptions:
    return KafkaOptions(
        bootstrap=broker.sasl,
        security="SASL_SSL",
        ca=str(broker.authority),
        sasl_mechanism=mechanism,
        username=USER,
        password=PASSWORD,
        timeout_s=20,
    )


def by_certificate(broker: SecureBroker) -> KafkaOptions:
    return KafkaOptions(
        bootstrap=broker.mutual,
        security="SSL",
        ca=str(broker.authority),
        certificate=str(broker.client.certificate),
        key=str(broker.client.key),
        timeout_s=20,
    )


async def everything(options: KafkaOptions) -> None:
    """Every kind of client that a service has: admin, publishers, reader, committer, and faust."""
    name = f"secure-{uuid4().hex[:8]}"
    topic = Topic(name, "", key="k", partitions=1, cleanup=Cleanup.DELETE, messages=(), written_by=(), read_by=())
    place = Partition(name, 0)
    log = await KafkaLog.connect(options, "secure")
    try:
        await log.ensure_topics([topic, METRICS])
        for publisher in (await log.publisher("secure"), await log.sole_publisher("secure", name, [place])):
            await publisher.send(NewRecord(name, b"k", b"v"))
            await publisher.close()
        reader = await log.reader("secure")
        await reader.assign({place: START})
        read: list[Record] = []
        async with asyncio.timeout(20):
            while len(read) < 2:
                read += await reader.read(timeout_s=1)
        await reader.close()
        assert [record.value for record in read] == [b"v", b"v"]
        await log.commit(name, {place: Committed(1, "here")})
        assert await log.committed(name, [place]) == {place: Committed(1, "here")}
        await sampled(options, log, name.encode())
    finally:
        await log.close()


async def sampled(options: KafkaOptions, log: KafkaLog, key: bytes) -> None:
    seen: asyncio.Queue[Record] = asyncio.Queue()
    async with FaustWindows(options).open(seen.put_nowait, asyncio.Event()):
        publisher = await log.publisher("secure")
        await publisher.send(NewRecord(METRICS.name, key, b"sample", (), key))
        await publisher.close()
        async with asyncio.timeout(20):
            while (await seen.get()).key != key:
                continue


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_with_a_password_over_tls(broker: SecureBroker, mechanism: str) -> None:
    await everything(by_password(broker, mechanism))


async def test_with_a_certificate(broker: SecureBroker) -> None:
    await everything(by_certificate(broker))


async def test_a_mistake_is_told_by_the_name_of_its_setting(broker: SecureBroker, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "pki", "somebody else")
    good = replace(by_password(broker), connect_s=0.1)
    mistakes = {
        "FLOTILLA_KAFKA_PASSWORD": replace(good, password="wrong"),
        "FLOTILLA_KAFKA_USERNAME": replace(good, username="bob"),
        "FLOTILLA_KAFKA_CA:": replace(good, ca=str(stranger.files.certificate)),
        "FLOTILLA_KAFKA_SECURITY": replace(good, security="PLAINTEXT", timeout_s=3),
        "FLOTILLA_KAFKA_CERTIFICATE": replace(by_certificate(broker), certificate="", key="", connect_s=0.1),
        "FLOTILLA_KAFKA_BOOTSTRAP: ": replace(good, bootstrap="127.0.0.1:9"),
        "FLOTILLA_KAFKA_CERTIFICATE, FLOTILLA_KAFKA_KEY:": replace(
            by_certificate(broker), key=str(stranger.files.key), connect_s=0.1
        ),
        f"FLOTILLA_KAFKA_CA: {broker.client.key}": replace(good, ca=str(broker.client.key)),
    }
    for named, options in mistakes.items():
        with pytest.raises(LogError) as caught:
            await KafkaLog.connect(options, "mistaken")
        assert named in str(caught.value)
        assert PASSWORD not in str(caught.value)


@pytest.mark.redis
async def test_redis_over_tls_with_a_password(front: TlsFront) -> None:
    store = RedisKeyValue.open(redis_options(front))
    await store.write("t", {"a": b"1"})
    assert await store.get("t", "a") == b"1"
    await store.close()


@pytest.mark.redis
async def test_a_mistake_about_redis_is_told_too(front: TlsFront, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "pki", "somebody else")
    good = redis_options(front)
    mistakes = {
        "FLOTILLA_REDIS_PASSWORD": replace(good, password="wrong"),
        "FLOTILLA_REDIS_CA": replace(good, ca_file=str(stranger.files.certificate)),
        "FLOTILLA_REDIS_URL": replace(
            good, url=front.url.replace("rediss", "redis"), ca_file="", certificate="", key=""
        ),
    }
    for named, options in mistakes.items():
        store = RedisKeyValue.open(replace(options, timeout_s=4))
        with pytest.raises(KeyValueError) as caught:
            await store.get("t", "a")
        await store.close()
        assert named in str(caught.value)
        assert PASSWORD not in str(caught.value)


def redis_options(front: TlsFront) -> RedisOptions:
    return RedisOptions(
        front.url,
        prefix=f"{uuid4()}:",
        ca_file=str(front.authority),
        certificate=str(front.client.certificate),
        key=str(front.client.key),
        password=PASSWORD,
    )
