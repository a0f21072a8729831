"""How full the queues of simulated processes become: what is bounded in a service must show as bounded.

Bounds are made small, so that a few requests go beyond them: what happens then happens in every flood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from services.scheduler.intake import Intake
from shared.ports.event_log import Record
from tests.simulation.history import History
from tests.simulation.loop import OWNER

_SMALL_LANE = {"all_records": 48}


@contextmanager
def measured(history: History) -> Iterator[None]:
    """Notes the most that any queue of each process held; a batch in a queue counts as its records."""
    put, offer = asyncio.Queue.put_nowait, Intake.offer

    def note(held: int) -> None:
        process = str(OWNER.get())
        if held > history.backlogs.get(process, 0):
            history.backlogs[process] = held

    def put_nowait(self: asyncio.Queue[Any], item: Any) -> None:
        put(self, item)
        waiting: Any = self._queue  # type: ignore[attr-defined]
        note(sum(len(one) if isinstance(one, list) else 1 for one in waiting))

    def offered(self: Intake, record: Record) -> None:
        offer(self, record)
        note(len(self))

    defaults: Any = Intake.__init__.__kwdefaults__
    with (
        patch.object(asyncio.Queue, "put_nowait", put_nowait),
        patch.object(Intake, "offer", offered),
        patch.dict(defaults, _SMALL_LANE),
    ):
        yield
