"""`python -m services.scheduler replay`: derives decisions again from the log, and says whether they are the same.

Nothing is written. The settings must be those of the scheduler whose decisions these are.

Exit codes: see `shared.runtime.replaying`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

from services.scheduler.bootstrap import configuration
from services.scheduler.replay.engine import Replay
from services.scheduler.replay.source import LogSource
from services.scheduler.replay.verdicts import STATE
from services.scheduler.settings import SchedulerSettings
from shared.kernel.replay import Verdict
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog
from shared.runtime.replaying import Write, options_of, run, tell


def main(arguments: Sequence[str]) -> int:
    return run("scheduler", SchedulerSettings(), parse(arguments), replay)


def parse(arguments: Sequence[str]) -> Namespace:
    """Exits with 2 for what it does not understand."""
    return options_of("scheduler", "Derive decisions again from the log.").parse_args(arguments)


async def replay(events: EventLog, clock: Clock, settings: SchedulerSettings, asked: Namespace, write: Write) -> int:
    """Raises LogError, and DecodeError for a journal that cannot be read."""
    async with AsyncExitStack() as stack:
        source = LogSource(events, clock, settings.scheduler_cell, settings.kafka_timeout_s)
        await source.open(stack)
        work = Replay(source, configuration(settings), settings.scheduler_max_request_bytes)

        def exactly() -> str:
            return f"; of {work.exact + work.inexact} entries {work.exact} were derived exactly, state and all"

        return await tell(_selected(work.run(asked.end), asked), write, exactly)


async def _selected(verdicts: AsyncIterator[Verdict], asked: Namespace) -> AsyncIterator[Verdict]:
    newest: list[Verdict] = []
    several = asked.all or asked.begin is not None or asked.end is not None
    async for verdict in verdicts:
        if asked.begin is not None and verdict.offset < asked.begin:
            continue
        if asked.key is not None and verdict.key not in (asked.key, STATE):
            continue
        if several:
            yield verdict
        else:
            newest = [*(item for item in newest if item.offset == verdict.offset), verdict]
    for verdict in newest:
        yield verdict
