"""TLS, client certificates, SASL and ACLs on a real broker and a real Redis; what a mistake is told."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
import pytest_asyncio

from services.autoscaler.windows import FaustWindows
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.events.topics import METRICS, Cleanup, Topic
from shared.ports.event_log import START, Committed, LogError, NewRecord, Partition, Record
from shared.ports.key_value import KeyValueError
from tests.fixtures.redis import Command
from tests.fixtures.secure import PASSWORD, REDIS_USER, USER, SecureBroker, SecureRedis, secure_broker, secure_redis
from tests.testbed.pki import Authority, KeyPair

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.kafka]

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureBroker]:
    assert kafka_bootstrap, "the parts are there"
    async with secure_broker(tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis(redis_server: Command, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureRedis]:
    """One that asks for user and password."""
    async with secure_redis(tmp_path_factory.mktemp("redis") / "own", redis_server, mutual=False) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mutual(redis_server: Command, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureRedis]:
    """One that asks for a certificate besides."""
    async with secure_redis(tmp_path_factory.mktemp("mutual") / "own", redis_server, mutual=True) as running:
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
async def test_redis_with_a_password_over_tls(redis: SecureRedis) -> None:
    await stored(RedisOptions(redis.url, ca_file=str(redis.authority), username=REDIS_USER, password=PASSWORD))


@pytest.mark.redis
async def test_redis_with_user_and_password_in_the_url(redis: SecureRedis) -> None:
    url = redis.url.replace("//", f"//{REDIS_USER}:{quote(PASSWORD)}@")
    await stored(RedisOptions(url, ca_file=str(redis.authority)))


@pytest.mark.redis
async def test_redis_with_a_certificate(mutual: SecureRedis) -> None:
    await stored(by_redis_certificate(mutual))


@pytest.mark.redis
async def test_what_the_url_says_of_tls_counts(redis: SecureRedis) -> None:
    """The certificate is for 127.0.0.1."""
    url = redis.url.replace("127.0.0.1", "localhost") + "?ssl_check_hostname=false"
    await stored(RedisOptions(url, ca_file=str(redis.authority), username=REDIS_USER, password=PASSWORD))


@pytest.mark.redis
async def test_a_certificate_that_was_renewed_is_taken_without_a_restart(mutual: SecureRedis, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "pki", "somebody else").client("status")
    own = KeyPair(tmp_path / "tls.crt", tmp_path / "tls.key")

    def renew(pair: KeyPair) -> None:
        shutil.copy(pair.certificate, own.certificate)
        shutil.copy(pair.key, own.key)

    renew(stranger)
    store = RedisKeyValue.open(_with(by_redis_certificate(mutual), own))
    with pytest.raises(KeyValueError, match="FLOTILLA_REDIS_CERTIFICATE"):
        await store.get("t", "a")
    renew(mutual.client)
    assert await store.get("t", "a") is None
    await store.close()


async def stored(options: RedisOptions) -> None:
    """Every command that the adapter has, by the rights of the user that ships."""
    store = RedisKeyValue.open(options)
    table = uuid4().hex
    await store.write(table, {"a": b"1", "b": b"2"}, ["c"])
    assert await store.get(table, "a") == b"1"
    assert {key: value async for key, value in store.items(table)} == {"a": b"1", "b": b"2"}
    await store.clear(table)
    assert await store.get(table, "a") is None
    await store.close()


@pytest.mark.redis
async def test_a_mistake_about_redis_is_told_too(redis: SecureRedis, mutual: SecureRedis, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "pki", "somebody else")
    good = RedisOptions(redis.url, timeout_s=20, ca_file=str(redis.authority), username=REDIS_USER, password=PASSWORD)
    certified = replace(by_redis_certificate(mutual), timeout_s=20)
    who = "(FLOTILLA_REDIS_USERNAME, FLOTILLA_REDIS_PASSWORD)"
    pair = "FLOTILLA_REDIS_CERTIFICATE, FLOTILLA_REDIS_KEY"
    mistakes = {
        "a wrong password": (replace(good, password="wrong"), who),
        "a wrong user": (replace(good, username="bob"), who),
        "no password": (replace(good, username="", password=""), who),
        "what the user may not touch": (replace(good, prefix="others:"), who),
        "a wrong authority": (replace(good, ca_file=str(stranger.files.certificate)), "(FLOTILLA_REDIS_CA)"),
        "no authority": (replace(good, ca_file=""), "(FLOTILLA_REDIS_CA)"),
        "a file that is no authority": (replace(good, ca_file=str(redis.client.key)), "FLOTILLA_REDIS_CA"),
        "another name": (replace(good, url=redis.url.replace("127.0.0.1", "localhost")), "(FLOTILLA_REDIS_URL)"),
        "no TLS": (replace(good, url=redis.url.replace("rediss", "redis"), ca_file=""), "(FLOTILLA_REDIS_URL)"),
        "no certificate": (replace(certified, certificate="", key=""), pair),
        "a stranger's certificate": (_with(certified, stranger.client("status")), pair),
        "a certificate with another's key": (replace(certified, key=str(stranger.files.key)), pair),
    }
    told = await asyncio.gather(*(complaint(options) for options, _ in mistakes.values()))
    assert {
        mistake: text
        for (mistake, (_, named)), text in zip(mistakes.items(), told, strict=True)
        if named not in text or PASSWORD in text
    } == {}


async def complaint(options: RedisOptions) -> str:
    """What the first call, or opening, is refused with; empty if nothing is."""
    try:
        store = RedisKeyValue.open(options)
    except KeyValueError as error:
        return str(error)
    try:
        await store.get("t", "a")
    except KeyValueError as error:
        return str(error)
    finally:
        await store.close()
    return ""


def by_redis_certificate(server: SecureRedis) -> RedisOptions:
    options = RedisOptions(server.url, ca_file=str(server.authority), username=REDIS_USER, password=PASSWORD)
    return _with(options, server.client)


def _with(options: RedisOptions, pair: KeyPair) -> RedisOptions:
    return replace(options, certificate=str(pair.certificate), key=str(pair.key))
