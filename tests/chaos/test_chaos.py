"""A short run with real processes: a handful of faults, everything as asked afterwards, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import network
from tests.testbed.process import REPOSITORY

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.testbed,
    pytest.mark.slow,
    pytest.mark.timeout(780),
    pytest.mark.usefixtures("kafka_bootstrap", "testbed_binaries"),  # so that missing parts are noticed
    pytest.mark.skipif(bool(network.unavailable()), reason=f"no network namespaces: {network.unavailable()}"),
]
SMALL = ("--clusters", "1", "--no-hub", "--seed", "11", "--every", "0.3", "--gap", "1.5")


def start(report: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.chaos", *SMALL, "--report", str(report), *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes_with(text: str) -> list[int]:
    """Pids of the processes whose command line has the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the two calls
    return found


def lines_until(process: subprocess.Popen[str], text: str) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if text in line:
            return
    raise AssertionError(f"ended without {text!r}")


def test_a_handful_of_faults_and_everything_is_as_it_was_asked(tmp_path: Path) -> None:
    report = tmp_path / "chaos.json"
    # It ends with the eighth fault: how long they take is the machine's business.
    process = start(report, "--minutes", "4", "--faults", "8", "--settle", "200")
    try:
        out, _ = process.communicate(timeout=700)
    except subprocess.TimeoutExpired:
        process.kill()  # the kernel takes its children
        out, _ = process.communicate()
        pytest.fail(f"has not ended:\n{out[-6000:]}")
    assert process.returncode == 0, out[-6000:]
    said = json.loads(out.splitlines()[-1])
    assert (said["ok"], said["faults"], said["violations"], said["not_recovered"]) == (True, 8, 0, 0)
    assert said["requests"] > 10
    assert said["writes"] > 20
    assert json.loads(report.read_text())["summary"] == said
    kinds = {json.loads(line)["kind"] for line in report.with_suffix(".jsonl").read_text().splitlines()}
    assert {"appended", "written", "asked", "lived", "fault begins", "fault ends"} <= kinds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_run(tmp_path: Path, number: signal.Signals) -> None:
    """Killed, the kernel takes its children; told to end while the bed starts, it does so in order."""
    process = start(tmp_path / "chaos.json", "--minutes", "1")
    lines = list(lines_until(process, "starting three brokers"))
    (directory,) = [line.split()[-1] for line in lines if "data and logs in" in line]
    deadline = time.monotonic() + 180
    while len(processes_with(directory)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(processes_with(directory)) >= 3
    process.send_signal(number)
    process.communicate(timeout=240)
    deadline = time.monotonic() + 60
    while processes_with(directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_with(directory) == []
