"""`python -m services.autoscaler replay`: derives decisions again from what stands in them, and compares.

Nothing is written. The settings must be those of the autoscaler whose decisions these are.

Exit codes: see `shared.runtime.replaying`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator, Sequence

from services.autoscaler.configuration import defaults, pace, policy, scheduler_config, times
from services.autoscaler.decision.nodes.cycle import Terms
from services.autoscaler.journal import PLACE
from services.autoscaler.replay.judging import Judge, keys_of, read
from services.autoscaler.settings import AutoscalerSettings
from shared.events.registry import DecodeError
from shared.events.topics import DECISIONS
from shared.events.v1.node_groups import PLAN_KEY
from shared.kernel.replay import Verdict
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError, Record
from shared.runtime.reading import all_of
from shared.runtime.replaying import Write, options_of, run, tell


def main(arguments: Sequence[str]) -> int:
    return run("autoscaler", AutoscalerSettings(), parse(arguments), replay)


def parse(arguments: Sequence[str]) -> Namespace:
    """Exits with 2 for what it does not understand."""
    parser = options_of("autoscaler", "Derive decisions again from what stands in them.")
    parser.add_argument("--nodegroup", dest="key", metavar="CLUSTER/GROUP", help="those on this node group alone")
    return parser.parse_args(arguments)


async def replay(events: EventLog, clock: Clock, settings: AutoscalerSettings, asked: Namespace, write: Write) -> int:
    """Raises LogError."""
    return await tell(_verdicts(events, clock, settings, asked), write)


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
