"""A flood of one namespace, a leader that dies in the middle of it, and everybody else."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from services.cli.fleet.requesting import request_record
from services.scheduler.journal import Checkpoint, decode_entry, is_entry
from shared.events.topics import DECISIONS
from shared.events.v1.decisions import DecisionsMade, ReadAhead, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.ports.event_log import NewRecord
from tests.integration.scheduler.world import World, start_scheduler

FLOOD = 4000


def request(namespace: str, number: int) -> NewRecord:
    pod_set = {"name": "main", "replicas": 1, "image": "nginx", "resources": {"requests": {"cpu": "1m"}}}
    body = {"namespace": namespace, "name": f"w{number}", "podSets": [pod_set]}
    made = WorkloadRequested.model_validate({"operation": "apply", "workload": body})
    return request_record(made, source="test", request_id=f"{namespace}-{number}")[0]


async def decided(world: World) -> list[str]:
    """The requests that the journal decided, in its order."""
    entries = [decode_entry(record) for record in await world.records(DECISIONS.name) if is_entry(record)]
    batches = [entry for entry in entries if isinstance(entry, DecisionsMade)]
    return [d.request.id for batch in batches for d in batch.decisions if isinstance(d, WorkloadPlaced)]


async def until(world: World, wanted: set[str], within: float = 100.0) -> list[str]:
    deadline = time.monotonic() + within
    while not wanted <= set(found := await decided(world)):
        assert time.monotonic() < deadline, f"{len(wanted - set(found))} are missing"
        await asyncio.sleep(0.05)
    return found


async def test_a_flood_delays_nobody_else_and_a_death_in_it_decides_nothing_twice(world: World) -> None:
    await world.prepare()
    # All of it stands in the log before anybody reads: what is asked later than it is decided proves nothing.
    await world.send(*(request("noisy", number) for number in range(FLOOD)))
    quiet = {f"quiet-{number}" for number in range(5)}
    await world.send(*(request("quiet", number) for number in range(5)))
    first = start_scheduler(world.log, "first")
    found = await until(world, quiet)
    assert len(found) < FLOOD, "the flood was decided first"
    # Reading the whole flood comes first, for the quiet ones stand behind it; deciding may take a tenth of the time.
    latest = max(found.index(name) for name in quiet)
    assert latest < FLOOD // 4, f"a quiet request was decided as number {latest}"
    await first.crash()
    second = start_scheduler(world.log, "second")
    flood = {f"noisy-{number}" for number in range(FLOOD)}
    counts = Counter(await until(world, quiet | flood))
    assert {name for name, count in counts.items() if count > 1} == set()
    await second.stop()


def test_a_checkpoint_keeps_what_was_decided_ahead() -> None:
    ahead = ReadAhead(read={0: 10, 1: 7}, waiting={"noisy": {0: 3}})
    checkpoint = Checkpoint(5, 2, "one", {"fleet.requests": {0: 3, 1: 7}}, ahead)
    assert Checkpoint.from_committed(checkpoint.to_committed()) == checkpoint
    before = Checkpoint(5, 2, "one", {"fleet.requests": {0: 3}})
    assert Checkpoint.from_committed(before.to_committed()) == before
