"""What the churn benchmark says of processes: CPU that they used, and CPU that they lacked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import orjson

from shared.events.registry import decode
from shared.events.v1.results import CommandReported
from tests.bench.churn import published_from, withdrawn
from tests.bench.support import core_wait_s, cpu_s

_SPINNING = "print(flush=True)\nwhile True: pass"


def test_what_shares_a_core_with_two_others_lacks_it_for_most_of_the_time() -> None:
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, "-c", _SPINNING]
    spinning = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for process in spinning:
            assert process.stdout is not None
            process.stdout.readline()
        pid = spinning[0].pid
        # Whoever looks may have to wait for a core between two looks: so long it took at least, and at most.
        earliest, used, lacked, began = time.monotonic(), cpu_s(pid), core_wait_s(pid), time.monotonic()
        time.sleep(0.6)
        ended, used, lacked, latest = time.monotonic(), cpu_s(pid) - used, core_wait_s(pid) - lacked, time.monotonic()
    finally:
        for process in spinning:
            process.kill()
            process.communicate()
    # It runs or waits all the time, and of three each has a third at most, but for others' turns and a tick.
    assert 0.8 * (ended - began) < used + lacked < 1.2 * (latest - earliest)
    assert lacked > used


def test_what_sleeps_lacks_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"], stdout=-1
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 30
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < deadline, "it does not come to sleep"
            time.sleep(0.01)
        lacked = core_wait_s(process.pid)
        time.sleep(0.3)
        assert core_wait_s(process.pid) - lacked < 0.05
        process.kill()


def test_a_withdrawal_is_confirmed_as_an_executor_would() -> None:
    placed = {"workload": {"namespace": "team", "name": "w"}, "request": {"publishedAt": 1}}
    published = published_from(orjson.dumps({"epoch": 3, "generation": 17, "placement": placed}))
    record = withdrawn("c9", published, 1_700)
    assert (record.key, record.partition_key) == (b"c9/workload/team/w", b"c9")
    assert decode(CommandReported, record.value) == CommandReported(
        cluster="c9",
        subject="workload/team/w",
        epoch=3,
        generation=17,
        digest="",
        outcome="withdrawn",
        reported_at=1_700,
    )
