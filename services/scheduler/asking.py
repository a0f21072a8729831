"""`python -m services.scheduler why NAMESPACE/NAME`: why replicas wait now, and what would let them run.

The state is rebuilt from the log as a replica's is, nothing is decided and nothing written. Printed is JSON.

Exit codes: 0 done, 1 not found or the log is away, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import orjson

from services.scheduler.bootstrap import configuration
from services.scheduler.decision.placing.explanations import refusals_of, refused_by_price
from services.scheduler.decision.remedies import remedies
from services.scheduler.decision.scoring.prices import counted
from services.scheduler.decision.state import SchedulerState
from services.scheduler.refusals import Refusals
from services.scheduler.replica import Replica
from services.scheduler.settings import SchedulerSettings
from shared.adapters.clock import SystemClock
from shared.model.identities import WorkloadKey
from shared.observability.logs import configure_logs
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError
from shared.runtime.connections import open_log

Json = dict[str, Any]

_USAGE = "usage: python -m services.scheduler why NAMESPACE/NAME\n"
_MOST_REFUSALS = 200
_DIGITS = 9


def main(arguments: Sequence[str]) -> int:
    try:
        (text,) = arguments
        key = str(WorkloadKey.parse(text if "/" in text else f"default/{text}"))
    except ValueError as error:
        sys.stderr.write(f"{_USAGE}{error}\n")
        return 2
    configure_logs("scheduler", level="warning", fmt="console")
    try:
        answer = asyncio.run(_ask(SchedulerSettings(), key))
    except LogError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if answer is None:
        sys.stderr.write(f"{key}: not found\n")
        return 1
    sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0


async def _ask(settings: SchedulerSettings, key: str) -> Json | None:
    async with AsyncExitStack() as stack:
        events = await open_log(settings, "scheduler-why", stack)
        return await ask(events, SystemClock(), settings, key, stack)


async def ask(
    events: EventLog, clock: Clock, settings: SchedulerSettings, key: str, stack: AsyncExitStack
) -> Json | None:
    """None where there is no such workload. Raises LogError."""
    refusals = Refusals()
    config, cell = configuration(settings), settings.scheduler_cell
    replica = Replica(events, clock, config, cell, "why", refusals.add)
    await replica.rebuild(stack)
    refusals.drop()
    return answer(replica.state, key, clock.now_ms())


def answer(state: SchedulerState, key: str, now_ms: int) -> Json | None:
    """What is to be said of a workload as it is now; the state is of no other use afterwards."""
    record = state.find(key)
    if record is None:
        return None
    state.fleet.clusters.watch_silence(now_ms)
    pod_sets: list[Json] = []
    prices = state.price_of(record)
    for plan in record.plans:
        placement = record.placement(plan.name)
        if placement is None:
            continue
        found = placement.model_dump(mode="json", by_alias=True, exclude_none=True)
        if plan.name in prices:
            found["pricePerHourNow"] = round(prices[plan.name], _DIGITS)
        if placement.reason:
            profile = state.fleet.profile_for(plan.demand, plan.facts(record.placed.workload))
            listed, left_out = refusals_of(state.fleet, profile, limit=_MOST_REFUSALS)
            if plan.price_limit is not None:
                left = counted(plan.price_limit) - counted(sum(prices.values()))
                listed = (*refused_by_price(state.fleet, profile, max(left, 0))[:_MOST_REFUSALS], *listed)
            found["now"] = {
                "refusals": [item.model_dump(mode="json", by_alias=True) for item in listed],
                "leftOut": left_out,
            }
        pod_sets.append(found)
    changes = [
        {"podSet": item.pod_set, "change": item.text, "workload": orjson.loads(item.workload.to_json())}
        for item in remedies(state, key, now_ms)
    ]
    return {"workload": key, "podSets": pod_sets, "anyOfTheseChangesIsEnough": changes}
