"""`python -m services.autoscaler replay`: derives decisions again from what stands in them, and compares.

Nothing is written. The settings must be those of the autoscaler whose decisions these are.

Exit codes: 0 nothing is different, 1 something is, or the log is away, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

from services.autoscaler.configuration import defaults, policy, scheduler_config, times
from services.autoscaler.decision.nodes.cycle import Terms
from services.autoscaler.journal import PLACE
from services.autoscaler.replay.judging import Judge
from services.autoscaler.settings import AutoscalerSettings
from shared.adapters.clock import SystemClock
from shared.events.topics import DECISIONS
from shared.kernel.replay import Outcome, Verdict
from shared.model.identities import WorkloadKey
from shared.observability.logs import configure_logs
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError
from shared.runtime.connections import open_log
from shared.runtime.reading import all_of


def main(arguments: Sequence[str]) -> int:
    asked = parse(arguments)
    configure_logs("autoscaler", level="warning", fmt="console")
    try:
        return asyncio.run(_run(AutoscalerSettings(), asked))
    except LogError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def parse(arguments: Sequence[str]) -> Namespace:
    """Exits with 2 for what it does not understand."""
    parser = ArgumentParser(
        "python -m services.autoscaler replay", description="Derive decisions again from what stands in them."
    )
    parser.add_argument(
        "--from", dest="begin", type=int, metavar="OFFSET", help="those at this offset of the journal on"
    )
    parser.add_argument("--to", dest="end", type=int, metavar="OFFSET", help="those up to this offset of the journal")
    parser.add_argument(
        "--workload", dest="key", type=_key, metavar="NAMESPACE/NAME", help="those on this workload alone"
    )
    parser.add_argument("--nodegroup", dest="key", metavar="CLUSTER/GROUP", help="those on this node group alone")
    parser.add_argument("--all", action="store_true", help="all that the journal has; without any of these: the newest")
    return parser.parse_args(arguments)


def _key(text: str) -> str:
    return str(WorkloadKey.parse(text if "/" in text else f"default/{text}"))


async def _run(settings: AutoscalerSettings, asked: Namespace) -> int:
    async with AsyncExitStack() as stack:
        events = await open_log(settings, "autoscaler-replay", stack)
        return await replay(events, SystemClock(), settings, asked, sys.stdout.write)


async def replay(
    events: EventLog, clock: Clock, settings: AutoscalerSettings, asked: Namespace, write: Callable[[str], object]
) -> int:
    """Raises LogError."""
    counts: Counter[Outcome] = Counter()
    async for verdict in _selected(_verdicts(events, clock, settings, asked.end), asked):
        counts[verdict.outcome] += 1
        write(verdict.line() + "\n")
    write(", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome) + "\n")
    return 1 if counts[Outcome.DIFFERENT] else 0


async def _verdicts(
    events: EventLog, clock: Clock, settings: AutoscalerSettings, last: int | None
) -> AsyncIterator[Verdict]:
    if PLACE not in await events.partitions(DECISIONS.name):
        raise LogError(f"there is no topic {DECISIONS.name}: no control plane of Flotilla ever ran on this broker")
    judge = Judge(defaults(settings), Terms(policy(settings), scheduler_config(settings)), times(settings))
    reader = await events.reader("autoscaler-replay")
    try:
        async for record in all_of(reader, PLACE, clock, settings.kafka_timeout_s, last):
            for verdict in judge.judge(record):
                yield verdict
    finally:
        await reader.close()


async def _selected(verdicts: AsyncIterator[Verdict], asked: Namespace) -> AsyncIterator[Verdict]:
    newest: list[Verdict] = []
    several = asked.all or asked.begin is not None or asked.end is not None
    async for verdict in verdicts:
        if asked.begin is not None and verdict.offset < asked.begin:
            continue
        if asked.key is not None and verdict.key != asked.key:
            continue
        if several:
            yield verdict
        else:
            newest = [*(item for item in newest if item.offset == verdict.offset), verdict]
    for verdict in newest:
        yield verdict
