"""The command `replay` of a service that decides: derive decisions again, tell of each, exit by what came of it.

Exit codes: 0 nothing is different, 1 something is, or the log is away, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from shared.adapters.clock import SystemClock
from shared.kernel.replay import Outcome, Verdict
from shared.model.identities import WorkloadKey
from shared.observability.logs import configure_logs
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError
from shared.runtime.connections import open_log
from shared.runtime.settings import CommonSettings

Write = Callable[[str], object]
S = TypeVar("S", bound=CommonSettings)


def options_of(service: str, description: str) -> ArgumentParser:
    """What can be asked of every journal; who parses with it exits with 2 for what it does not understand."""
    parser = ArgumentParser(f"python -m services.{service} replay", description=description)
    parser.add_argument(
        "--from", dest="begin", type=int, metavar="OFFSET", help="those at this offset of the journal on"
    )
    parser.add_argument("--to", dest="end", type=int, metavar="OFFSET", help="those up to this offset of the journal")
    parser.add_argument(
        "--workload", dest="key", type=_key, metavar="NAMESPACE/NAME", help="those on this workload alone"
    )
    parser.add_argument("--all", action="store_true", help="all that the journal has; without any of these: the newest")
    return parser


def run(
    service: str,
    settings: S,
    asked: Namespace,
    replay: Callable[[EventLog, Clock, S, Namespace, Write], Awaitable[int]],
) -> int:
    """`replay` on the log of the settings, to the standard output."""
    configure_logs(service, level="warning", fmt="console")

    async def work() -> int:
        async with AsyncExitStack() as stack:
            events = await open_log(settings, f"{service}-replay", stack)
            return await replay(events, SystemClock(), settings, asked, sys.stdout.write)

    try:
        return asyncio.run(work())
    except LogError as error:
        sys.stderr.write(f"{error}\n")
        return 1


async def tell(verdicts: AsyncIterable[Verdict], write: Write, beside: Callable[[], str] = str) -> int:
    """A line for each, and a last one with how many came out how and what is said `beside`; returns the exit code."""
    counts: Counter[Outcome] = Counter()
    async for verdict in verdicts:
        counts[verdict.outcome] += 1
        write(verdict.line() + "\n")
    write(", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome) + beside() + "\n")
    return 1 if counts[Outcome.DIFFERENT] else 0


def _key(text: str) -> str:
    return str(WorkloadKey.parse(text if "/" in text else f"default/{text}"))
