"""Processes that simulate beside one another. They end with the one that started them, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
from concurrent.futures import ProcessPoolExecutor

from tests.simulation import logs

# Of Linux: prctl(2).
_PR_SET_PDEATHSIG = 1


def pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),))


def _begin(parent: int) -> None:
    """A worker that waits for its next seed would otherwise wait for ever, and one that works would go on."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    logs.configure(verbose=False)
