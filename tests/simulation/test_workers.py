"""Workers of a simulation end with the process that started them, also when that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
# A worker inherits the standard output: who reads that to its end waits until the last of them is gone.
_PARENT = """
import os, time
from tests.simulation.workers import pool
with pool(1) as workers:
    print(workers.submit(os.getpid).result(), flush=True)
    workers.submit(time.sleep, 600).result()
"""


def test_a_worker_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) != parent.pid
        parent.kill()
        assert parent.stdout.read() == ""
