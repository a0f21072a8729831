"""`python -m tests.testbed up`: clusters for people and for the demo, which end when they are told to."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.testbed import run_kubectl
from tests.testbed.process import REPOSITORY

pytestmark = pytest.mark.testbed


async def _up(directory: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.testbed", "up", "--dir", str(directory), *options,
        cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, process_group=0,
    )  # fmt: skip


async def _read_until_ready(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(90):
        while not lines or not lines[-1].startswith("ready"):
            line = (await process.stdout.readline()).decode()
            assert line, f"ended early after {lines}"
            lines.append(line.strip())
    return lines


def _children(of: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def _what_is_left(pids: list[int], directory: Path) -> list[Path]:
    return [p for p in (Path(f"/proc/{pid}") for pid in pids) if p.exists()] + list(directory.iterdir())


async def test_clusters_run_until_interrupted(testbed_binaries: object, tmp_path: Path) -> None:
    process = await _up(tmp_path, "--clusters", "1", "--nodes", "2", "--hub")
    try:
        lines = await _read_until_ready(process)
        nodes = await run_kubectl(tmp_path / "real-1.kubeconfig", "get", "nodes", "--no-headers")
        hub = await run_kubectl(tmp_path / "hub.kubeconfig", "get", "--raw", "/readyz")
        children = _children(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), 30)

    assert code == 0
    assert sorted(line.split()[0] for line in lines[:-1]) == ["hub", "real-1"]
    assert [line.split()[1] for line in nodes.splitlines()] == ["Ready", "Ready"]
    assert hub == "ok"
    assert len(children) == 7
    assert _what_is_left(children, tmp_path) == []


async def test_interrupted_while_starting_leaves_nothing(testbed_binaries: object, tmp_path: Path) -> None:
    process = await _up(tmp_path, "--clusters", "2")
    children: list[int] = []
    try:
        async with asyncio.timeout(30):
            while len(children) < 3:  # the first cluster's API server is starting
                await asyncio.sleep(0.02)
                children = _children(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 30)

    assert code == 0
    assert _what_is_left(children, tmp_path) == []
