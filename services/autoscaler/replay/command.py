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

from services.autoscaler.configuration import defaults, pace, policy, scheduler_config, times
from services.autoscaler.decision.nodes.cycle import Terms
from services.autoscaler.journal import PLACE
from services.autoscaler.replay.judging import Judge, keys_of, read
from services.autoscaler.settings import AutoscalerSettings
from shared.adapters.clock import SystemClock
from shared.events.registry import DecodeError
from shared.events.topics import DECISIONS
from shared.events.v1.node_groups import PLAN_KEY
from shared.kernel.replay import Outcome, Verdict
from shared.model.identities import WorkloadKey
from shared.observability.logs import configure_logs
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError, Record
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
    async for verdict in _verdicts(events, clock, settings, asked):
        counts[verdict.outcome] += 1
        write(verdict.line() + "\n")
    write(", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome) + "\n")
    return 1 if counts[Outcome.DIFFERENT] else 0


async def _verdicts(
    events: EventLog, clock: Clock, settings: AutoscalerSettings, asked: Namespace
) -> AsyncIterator[Verdict]:
    """Of those that are asked for; of all others before them only that they are there."""
    if PLACE not in await events.partitions(DECISIONS.name):
        raise LogError(f"there is no topic {DECISIONS.name}: no control plane of Flotilla ever ran on this broker")
    judge = Judge(
        defaults(settings), Terms(policy(settings), scheduler_config(settings)), times(settings), pace(settings)
    )
    reader = await events.reader("autoscaler-replay")
    timeout_s = settings.kafka_timeout_s
    begin, end = asked.begin or 0, asked.end
    try:
        if not (asked.all or asked.begin is not None or end is not None):
            async for record in all_of(reader, PLACE, clock, timeout_s):
                end = record.offset if _is_asked(record, asked) else end
            if end is None:
                return
            begin = end
        async for record in all_of(reader, PLACE, clock, timeout_s, end):
            if record.offset < begin or not _is_asked(record, asked):
                judge.follow(record)
                continue
            for verdict in judge.judge(record):
                if asked.key is None or verdict.key in (asked.key, PLAN_KEY):
                    yield verdict
    finally:
        await reader.close()


def _is_asked(record: Record, asked: Namespace) -> bool:
    """Also what cannot be read, if it says that it is one; not that where one workload or group alone is asked for."""
    try:
        decided = read(record)
    except DecodeError:
        return asked.key is None
    return decided is not None and (asked.key is None or asked.key in keys_of(decided))
