"""First guards, to be switched off so that the second ones are seen; see `mutant`. None of them is a mutant itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from services.executor.decision.world import World
from services.scheduler.decision.rebalancing.rebalancing import Rate
from services.scheduler.reminding import Reminder
from services.watcher.auditor import Auditor
from tests.simulation.broker import Broker


@contextmanager
def the_broker_refuses_nobody() -> Iterator[None]:
    """Else the broker lets only the newest writer of a name write: a leader that was replaced never gets as far."""
    with patch.object(Broker, "admits", return_value=True):
        yield


@contextmanager
def nobody_audits() -> Iterator[None]:
    """Else an audit finds within minutes what the log has of a cluster and should not, and repairs it."""
    with patch.object(Auditor, "run", _rest):
        yield


@contextmanager
def nobody_reminds() -> Iterator[None]:
    """Else the scheduler finds in the executors' inventories what they lack, and publishes it again."""
    with patch.object(Reminder, "run", _rest):
        yield


@contextmanager
def nobody_looks_for_room() -> Iterator[None]:
    """Else the executor binds a pod that it was given no room for only when there is some."""
    with patch.object(World, "lacking", return_value=[]):
        yield


@contextmanager
def moves_may_be_many() -> Iterator[None]:
    """Else the next replica moves when the last one has long been replaced, whoever looks."""
    with patch.object(Rate, "spend", lambda *_: None):
        yield


async def _rest(self: object) -> None:
    del self
    await asyncio.Event().wait()
