"""`python -m services.scheduler replay`: derives decisions again from the log, and says whether they are the same.

Nothing is written. The settings must be those of the scheduler whose decisions these are.

Exit codes: 0 nothing is different, 1 something is, or the log is away, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

from services.scheduler.bootstrap import configuration
from services.scheduler.replay.engine import Replay
from services.scheduler.replay.source import LogSource
from services.scheduler.replay.verdicts import STATE
from services.scheduler.settings import SchedulerSettings
from shared.adapters.clock import SystemClock
from shared.kernel.replay import Outcome, Verdict
from shared.model.identities import WorkloadKey
from shared.observability.logs import configure_logs
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError
from shared.runtime.connections import open_log


def main(arguments: Sequence[str]) -> int:
    asked = parse(arguments)
    configure_logs("scheduler", level="warning", fmt="console")
    try:
        return asyncio.run(_run(SchedulerSettings(), asked))
    except LogError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def parse(arguments: Sequence[str]) -> Namespace:
    """Exits with 2 for what it does not understand."""
    parser = ArgumentParser("python -m services.scheduler replay", description="Derive decisions again from the log.")
    parser.add_argument(
        "--from", dest="begin", type=int, metavar="OFFSET", help="those at this offset of the journal on"
    )
    parser.add_argument("--to", dest="end", type=int, metavar="OFFSET", help="those up to this offset of the journal")
    parser.add_argument("--workload", type=_key, metavar="NAMESPACE/NAME", help="those on this workload alone")
    parser.add_argument("--all", action="store_true", help="all that the journal has; without any of these: the newest")
    return parser.parse_args(arguments)


def _key(text: str) -> str:
    return str(WorkloadKey.parse(text if "/" in text else f"default/{text}"))


async def _run(settings: SchedulerSettings, asked: Namespace) -> int:
    async with AsyncExitStack() as stack:
        events = await open_log(settings, "scheduler-replay", stack)
        return await replay(events, SystemClock(), settings, asked, sys.stdout.write)


async def replay(
    events: EventLog, clock: Clock, settings: SchedulerSettings, asked: Namespace, write: Callable[[str], object]
) -> int:
    """Raises LogError, and DecodeError for a journal that cannot be read."""
    async with AsyncExitStack() as stack:
        source = LogSource(events, clock, settings.scheduler_cell, settings.kafka_timeout_s)
        await source.open(stack)
        work = Replay(source, configuration(settings), settings.scheduler_max_request_bytes)
        counts: Counter[Outcome] = Counter()
        async for verdict in _selected(work.run(asked.end), asked):
            counts[verdict.outcome] += 1
            write(verdict.line() + "\n")
    write(
        ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
        + f"; of {work.exact + work.inexact} entries {work.exact} were derived exactly, state and all\n"
    )
    return 1 if counts[Outcome.DIFFERENT] else 0


async def _selected(verdicts: AsyncIterator[Verdict], asked: Namespace) -> AsyncIterator[Verdict]:
    newest: list[Verdict] = []
    several = asked.all or asked.begin is not None or asked.end is not None
    async for verdict in verdicts:
        if asked.begin is not None and verdict.offset < asked.begin:
            continue
        if asked.workload is not None and verdict.key not in (asked.workload, STATE):
            continue
        if several:
            yield verdict
        else:
            newest = [*(item for item in newest if item.offset == verdict.offset), verdict]
    for verdict in newest:
        yield verdict
