"""The embedded servers start, keep data, survive crashes and leave nothing behind."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import UnknownTopicOrPartitionError

from shared.runtime.embedded import (
    EmbeddedError,
    EmbeddedKafka,
    EmbeddedKafkaCluster,
    EmbeddedSettings,
    EmbeddedValkey,
    KafkaConfig,
    StartError,
    ValkeyConfig,
)
from shared.runtime.embedded.jars import install_jars
from shared.runtime.embedded.jvm import JavaRuntime
from shared.runtime.embedded.lockfile import read_lock
from shared.runtime.embedded.process import ProcessId
from shared.runtime.embedded.progress import silent
from shared.runtime.embedded.waiting import until
from tests.fixtures.clients import admin, consume, create_topic, get_key, produce, set_key
from tests.fixtures.embedded import jar_directory


class TestKafka:
    pytestmark = pytest.mark.kafka

    async def test_what_is_produced_is_consumed_by_a_group(self, kafka_bootstrap: str) -> None:
        await create_topic(kafka_bootstrap, "embedded.group")
        await produce(kafka_bootstrap, "embedded.group", [b"1", b"2", b"3"])
        async with AIOKafkaConsumer(
            "embedded.group",
            bootstrap_servers=kafka_bootstrap,
            group_id="embedded",
            auto_offset_reset="earliest",
        ) as consumer:
            assert [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(3)] == [b"1", b"2", b"3"]
            await consumer.commit()

    async def test_topics_are_not_created_by_use(self, kafka_bootstrap: str) -> None:
        async with admin(kafka_bootstrap) as client:
            (described,) = await client.describe_topics(["embedded.never-created"])
            assert described["error_code"] == UnknownTopicOrPartitionError.errno
            assert "embedded.never-created" not in await client.list_topics()

    async def test_a_restart_keeps_the_records(self, parts: EmbeddedSettings, tmp_path: Path) -> None:
        async with EmbeddedKafka(tmp_path, settings=parts) as kafka:
            await create_topic(kafka.bootstrap, "kept")
            await produce(kafka.bootstrap, "kept", [b"before"])
        async with EmbeddedKafka(tmp_path, settings=parts) as kafka:
            await produce(kafka.bootstrap, "kept", [b"after"])
            assert await consume(kafka.bootstrap, "kept", 2) == [b"before", b"after"]

    async def test_a_crash_keeps_what_was_acknowledged(self, parts: EmbeddedSettings, tmp_path: Path) -> None:
        values = [b"%d" % number for number in range(500)]
        async with EmbeddedKafka(tmp_path, settings=parts) as kafka:
            await create_topic(kafka.bootstrap, "kept")
            await produce(kafka.bootstrap, "kept", values)
            address = kafka.bootstrap
            kafka.kill()
            assert not kafka.running
            await kafka.start()
            assert kafka.bootstrap == address, "clients must find the broker again"
            assert await consume(address, "kept", len(values)) == values

    async def test_two_brokers_never_share_a_directory(self, parts: EmbeddedSettings, tmp_path: Path) -> None:
        async with EmbeddedKafka(tmp_path, settings=parts) as kafka:
            with pytest.raises(EmbeddedError, match=rf"in use by process {kafka.process_id.pid}"):
                await EmbeddedKafka(tmp_path, settings=parts).start()
            await create_topic(kafka.bootstrap, "still-serves")

    async def test_a_failed_start_gives_the_brokers_own_reason(self, parts: EmbeddedSettings, tmp_path: Path) -> None:
        broken = KafkaConfig(overrides={"num.io.threads": "0"})
        kafka = EmbeddedKafka(tmp_path, config=broken, settings=parts)
        with pytest.raises(StartError, match=r"(?s)---.*num\.io\.threads"):
            await kafka.start()
        assert not kafka.running

    async def test_a_taken_port_is_an_error_that_names_it(self, parts: EmbeddedSettings, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(EmbeddedError, match=f"port {port} .* taken"):
                await EmbeddedKafka(tmp_path, port, settings=parts).start()

    async def test_a_damaged_startup_cache_does_no_harm(self, parts: EmbeddedSettings, tmp_path: Path) -> None:
        shutil.copytree(jar_directory(parts), jar_directory(EmbeddedSettings(cache=tmp_path / "cache")))
        settings = EmbeddedSettings(cache=tmp_path / "cache")
        runtime = JavaRuntime.locate(await install_jars(read_lock(), settings, silent))
        damaged = tmp_path / "cache" / "kafka" / "startup" / f"{runtime.fingerprint()}.aot"
        damaged.parent.mkdir()
        damaged.write_bytes(b"not a cache")
        async with EmbeddedKafka(tmp_path / "data", settings=settings) as kafka:
            await create_topic(kafka.bootstrap, "serves")

    @pytest.mark.slow
    async def test_a_cluster_of_three_serves_without_one(self, parts: EmbeddedSettings, tmp_path: Path) -> None:
        async with EmbeddedKafkaCluster(tmp_path, settings=parts) as cluster:
            await create_topic(cluster.bootstrap, "copied", replicas=3)
            await produce(cluster.bootstrap, "copied", [b"all three"])
            lost = cluster.nodes[0]
            lost.kill()
            rest = ",".join(node.bootstrap for node in cluster.nodes[1:])
            await produce(rest, "copied", [b"only two"])
            await lost.start()
            await cluster.wait_complete()
            assert await consume(cluster.bootstrap, "copied", 2) == [b"all three", b"only two"]


class TestValkey:
    pytestmark = pytest.mark.redis

    async def test_a_restart_keeps_the_keys(self, redis_url: str, tmp_path: Path) -> None:
        assert redis_url
        for persistence in ("appendonly", "snapshot"):
            config = ValkeyConfig(persistence=persistence)
            async with EmbeddedValkey(tmp_path / persistence, config=config) as valkey:
                await set_key(valkey.url, "key", "kept")
            async with EmbeddedValkey(tmp_path / persistence, config=config) as valkey:
                assert await get_key(valkey.url, "key") == b"kept"

    async def test_a_crash_keeps_what_was_acknowledged(self, redis_url: str, tmp_path: Path) -> None:
        assert redis_url
        async with EmbeddedValkey(tmp_path) as valkey:
            for number in range(200):
                await set_key(valkey.url, f"key-{number}", "kept")
            valkey.kill()
            await valkey.start()
            assert await get_key(valkey.url, "key-199") == b"kept"

    async def test_two_servers_never_share_a_directory(self, redis_url: str, tmp_path: Path) -> None:
        assert redis_url
        async with EmbeddedValkey(tmp_path) as valkey:
            with pytest.raises(EmbeddedError, match=rf"in use by process {valkey.process_id.pid}"):
                await EmbeddedValkey(tmp_path).start()


class TestProcesses:
    async def test_servers_die_with_the_process_that_started_them(self, redis_url: str, tmp_path: Path) -> None:
        assert redis_url
        owner = await _run_owner(tmp_path, detached=False)
        server = _process(await _line(owner))
        owner.kill()
        await owner.wait()
        assert await until(partial(_ended, server), within_s=30)

    async def test_a_detached_server_outlives_it(self, redis_url: str, tmp_path: Path) -> None:
        assert redis_url
        owner = await _run_owner(tmp_path, detached=True)
        server = _process(await _line(owner))
        try:
            owner.kill()
            await owner.wait()
            assert not await until(partial(_ended, server), within_s=0.5)
        finally:
            server.signal(signal.SIGKILL)
        assert await until(partial(_ended, server), within_s=30)

    def test_a_reused_pid_is_not_signalled(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        try:
            mine = ProcessId.of(child.pid)
            assert mine is not None
            assert mine.alive
            earlier = ProcessId(child.pid, mine.started + "0")
            assert not earlier.alive
            earlier.signal(signal.SIGKILL)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.3)
            mine.signal(signal.SIGKILL)
            assert child.wait(30) == -signal.SIGKILL
            assert not mine.alive
        finally:
            child.kill()
            child.wait(30)


_OWNER = """
    import asyncio, pathlib, sys
    from shared.runtime.embedded import EmbeddedValkey

    async def main():
        valkey = EmbeddedValkey(pathlib.Path(sys.argv[1]), detached=sys.argv[2] == "True")
        await valkey.start()
        print(valkey.process_id.pid, valkey.process_id.started, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


async def _run_owner(data_dir: Path, *, detached: bool) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(_OWNER), str(data_dir), str(detached)), stdout=subprocess.PIPE
    )


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()


def _process(line: str) -> ProcessId:
    pid, started = line.split(" ", 1)
    process = ProcessId(int(pid), started)
    assert process.alive
    return process


async def _ended(process: ProcessId) -> bool:
    return not process.alive
