"""One process at a time, across processes, for work on a shared directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from shared.runtime.embedded.errors import EmbeddedError
from shared.runtime.embedded.waiting import until


@asynccontextmanager
async def exclusive(path: Path, *, deadline_s: float = 900.0) -> AsyncIterator[None]:
    """Hold an advisory lock on `path`. The kernel releases it when the holder ends, however that happens.

    Raises:
        EmbeddedError: another process still held it at the deadline.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not await until(partial(_try_lock_soon, descriptor), within_s=deadline_s):
            raise EmbeddedError(f"another process has held {path} for {deadline_s:g} s")
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock on an open file if nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _try_lock_soon(descriptor: int) -> bool:
    return try_lock(descriptor)
