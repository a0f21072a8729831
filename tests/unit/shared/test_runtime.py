"""Signals, readiness and exit codes of a service, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[3]

SERVICE = """
import asyncio
from shared.runtime.service import Readiness, main
from shared.runtime.settings import CommonSettings

class Service:
    def readiness(self):
        return Readiness(ready=True)

    async def run(self, stop):
        print("started", flush=True)
        {body}
        print("drained", flush=True)

async def build(settings, stack):
    stack.callback(lambda: print("closed", flush=True))
    return Service()

main("test", CommonSettings, build)
"""


def start(body: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVICE).format(body=body)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    out, _ = process.communicate(timeout=60)
    return process.returncode, out.split()


def test_sigterm_drains_and_closes() -> None:
    process = start("await stop.wait()")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (0, ["drained", "closed"])


def test_a_drain_that_takes_too_long_is_ended() -> None:
    process = start("await asyncio.sleep(60)", FLOTILLA_DRAIN_S="0.2")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert finish(process) == (3, ["closed"])


def test_a_second_signal_ends_at_once() -> None:
    process = start("await stop.wait(); print('draining', flush=True); await asyncio.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "draining\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (130, [])


def test_a_service_that_fails_says_so() -> None:
    process = start("raise RuntimeError('broken')")
    out, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "broken" in complaint
    assert "closed" in out


def test_a_setting_that_is_wrong_is_named() -> None:
    process = start("pass", FLOTILLA_HTTP_PORT="many")
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 2
    assert complaint.startswith("FLOTILLA_HTTP_PORT: ")


def test_help_names_every_setting() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "services.scheduler", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "FLOTILLA_KAFKA_BOOTSTRAP" in process.stdout
    assert "FLOTILLA_SCHEDULER_LEASE_S" in process.stdout
