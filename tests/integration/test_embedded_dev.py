"""`flotilla dev` as a user runs it: in a process of its own, on a directory and ports of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.runtime.embedded import EmbeddedSettings
from shared.runtime.embedded.network import free_ports
from shared.runtime.embedded.process import ProcessId
from shared.runtime.embedded.waiting import until
from tests.fixtures.clients import consume, create_topic, get_key, produce, set_key

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


class TestDevCommand:
    @pytest.fixture
    async def dev(self, parts: EmbeddedSettings, redis_url: str, tmp_path: Path) -> AsyncIterator[Dev]:
        assert parts
        assert redis_url
        dev = Dev(tmp_path / "dev")
        yield dev
        await dev.run("down")

    async def test_up_status_down_up_keeps_the_records(self, dev: Dev) -> None:
        assert (await dev.run("status")).code == 3

        first = await dev.run("up", *dev.ports)
        assert first.code == 0, first.errors
        kafka = first.exports["FLOTILLA_KAFKA_BOOTSTRAP"]
        await create_topic(kafka, "kept")
        await produce(kafka, "kept", [b"before"])
        await set_key(first.exports["FLOTILLA_REDIS_URL"], "key", "kept")
        status = await dev.run("status")
        assert status.code == 0
        assert status.output.count("running") == 2

        again, pids = await dev.run("up", *dev.ports), dev.pids()
        assert again.exports == first.exports
        assert "already running" in again.errors
        assert dev.pids() == pids

        down = await dev.run("down")
        assert (down.code, down.errors.strip()) == (0, "Kafka and Valkey stopped.")
        assert (await dev.run("status")).code == 3
        assert not any(_exists(pid) for pid in pids)
        assert (await dev.run("down")).errors.strip() == "Nothing was running."

        after = await dev.run("up", *dev.ports)
        assert after.exports == first.exports
        assert await consume(kafka, "kept", 1) == [b"before"]
        assert await get_key(after.exports["FLOTILLA_REDIS_URL"], "key") == b"kept"

    async def test_up_replaces_only_what_crashed(self, dev: Dev) -> None:
        await dev.run("up", *dev.ports)
        kafka, valkey = dev.pids()
        os.kill(kafka, signal.SIGKILL)
        status = await dev.run("status")
        assert status.code == 3
        assert "stopped" in status.output
        assert (await dev.run("up", *dev.ports)).code == 0
        assert dev.pids()[0] != kafka
        assert dev.pids()[1] == valkey

    async def test_down_finds_what_a_killed_up_had_started(self, dev: Dev) -> None:
        up = await dev.begin("up", *dev.ports)

        async def started() -> bool:
            return dev.state().get("kafka") is not None

        assert await until(started, within_s=30)
        up.kill()
        await up.communicate()
        kafka = dev.state()["kafka"]["pid"]
        assert "Kafka" in (await dev.run("down")).errors
        assert not _exists(kafka)

    async def test_a_taken_port_is_replaced_and_said(self, dev: Dev) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            result = await dev.run("up", "--kafka-port", str(taken), "--redis-port", dev.ports[3])
        assert result.code == 0
        assert f"Port {taken} is in use by another program" in result.errors
        await create_topic(result.exports["FLOTILLA_KAFKA_BOOTSTRAP"], "serves")

    async def test_wipe_removes_the_data(self, dev: Dev) -> None:
        await dev.run("up", *dev.ports)
        foreign = dev.directory / "mine.txt"
        foreign.write_text("not flotilla's")
        assert (await dev.run("down", "--wipe")).code == 0
        assert [path.name for path in dev.directory.iterdir() if not path.name.startswith(".")] == ["mine.txt"]

    async def test_a_damaged_state_file_is_an_error_not_a_traceback(self, dev: Dev) -> None:
        dev.directory.mkdir()
        state = dev.directory / "state.json"
        state.write_text("{")
        result = await dev.run("status")
        state.unlink()
        assert result.code == 1
        assert "damaged" in result.errors
        assert "Traceback" not in result.errors


class Result:
    def __init__(self, code: int | None, output: str, errors: str) -> None:
        self.code, self.output, self.errors = code, output, errors

    @property
    def exports(self) -> dict[str, str]:
        lines = [line.removeprefix("export ") for line in self.output.splitlines() if line.startswith("export ")]
        return dict(line.split("=", 1) for line in lines)


class Dev:
    """`flotilla dev` as a user runs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        kafka, redis = free_ports(2)
        self.ports = ("--kafka-port", str(kafka), "--redis-port", str(redis))

    async def begin(self, command: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", "dev", command, "--dir", str(self.directory), *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"COLUMNS": "200"},
        )

    async def run(self, command: str, *arguments: str) -> Result:
        process = await self.begin(command, *arguments)
        output, errors = await asyncio.wait_for(process.communicate(), 180)
        return Result(process.returncode, output.decode(), errors.decode())

    def state(self) -> dict[str, Any]:
        path = self.directory / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def pids(self) -> tuple[int, int]:
        state = self.state()
        return state["kafka"]["pid"], state["valkey"]["pid"]


def _exists(pid: int) -> bool:
    return ProcessId.of(pid) is not None
