"""How full the queues of simulated processes become: what is bounded in a service must show as bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tests.simulation.history import History
from tests.simulation.loop import OWNER


@contextmanager
def measured(history: History) -> Iterator[None]:
    """Notes the most that any queue of each process held; a batch in a queue counts as its records."""
    original = asyncio.Queue.put_nowait

    def put_nowait(self: asyncio.Queue[Any], item: Any) -> None:
        original(self, item)
        process = str(OWNER.get())
        held = sum(len(waiting) if isinstance(waiting, list) else 1 for waiting in self._queue)  # type: ignore[attr-defined, misc]
        if held > history.backlogs.get(process, 0):
            history.backlogs[process] = held

    with patch.object(asyncio.Queue, "put_nowait", put_nowait):
        yield
