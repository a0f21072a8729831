"""The journal's promises: one append decides, epochs fence, a successor goes on, derived topics repeat nothing new."""

from __future__ import annotations

import asyncio

from services.scheduler.journal import decode_entry, encode_entry
from shared.events.topics import DECISIONS, PLACEMENTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import DecisionsMade, EpochStarted
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.results import CommandReported
from shared.ports.event_log import NewRecord
from tests.integration.scheduler.world import World, apply_request, delete_request, scheduler, start_scheduler

Placements = dict[str, PlacementPublished]


def placed(state: Placements, *names: str) -> bool:
    return all(f"it/{name}" in state for name in names)


def replicas(item: PlacementPublished) -> int:
    assert item.placement is not None
    return sum(pod_set.placed for pod_set in item.placement.pod_sets)


async def epochs(world: World) -> list[EpochStarted]:
    entries = [decode_entry(record) for record in await world.records(DECISIONS.name)]
    return [entry for entry in entries if isinstance(entry, EpochStarted)]


async def test_a_request_becomes_a_decision_a_placement_and_commands(world: World) -> None:
    await world.prepare()
    async with scheduler(world.log):
        await world.request(apply_request("web", replicas=4))
        state = await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "web"))
    item = state["it/web"]
    assert item.placement is not None
    assert replicas(item) == 4
    entries = {r.offset: decode_entry(r) for r in await world.records(DECISIONS.name)}
    decided = entries[item.generation]
    assert isinstance(decided, DecisionsMade)
    assert [d.kind for d in decided.decisions] == ["placed"]
    assert decided.inputs["fleet.requests"]
    for share in item.placement.pod_sets[0].shares:
        commands = await world.latest(commands_topic(share.cluster).name, CommandIssued)
        command = commands["workload/it/web"]
        assert (command.generation, command.action) == (item.generation, "run")
        assert command.objects[0].manifest["spec"]["replicas"] == share.replicas


async def test_a_successor_takes_over_and_decides_nothing_again(world: World) -> None:
    await world.prepare()
    first = start_scheduler(world.log, "first")
    await world.request(apply_request("before"))
    before = await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "before"))
    second = start_scheduler(world.log, "second")
    await asyncio.sleep(0.3)
    await first.crash()
    await world.request(apply_request("after"))
    after = await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "after"))
    await second.stop()
    assert after["it/before"] == before["it/before"]
    assert [(e.epoch, e.leader) for e in await epochs(world)] == [(1, "first"), (2, "second")]
    decided = [
        str(decision.workload.key)
        for record in await world.records(DECISIONS.name)
        if isinstance(entry := decode_entry(record), DecisionsMade)
        for decision in entry.decisions
        if decision.kind == "placed"
    ]
    assert decided == ["it/before", "it/after"]


async def test_what_a_replaced_leader_appends_is_void(world: World) -> None:
    await world.prepare()
    first = start_scheduler(world.log, "first")
    await world.request(apply_request("real"))
    state = await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "real"))
    await first.crash()
    second = start_scheduler(world.log, "second")
    async with asyncio.timeout(60):
        while len(await epochs(world)) < 2:  # noqa: ASYNC110 - what is awaited is in the log
            await asyncio.sleep(0.05)
    item = state["it/real"]
    assert item.placement is not None
    ghost = item.placement.workload.model_copy(update={"name": "ghost"})
    stale = DecisionsMade(
        cell="0",
        epoch=1,
        leader="first",
        decided_at=1,
        decisions=(item.placement.model_copy(update={"workload": ghost}),),
    )
    await world.send(encode_entry(stale, cell=0, leader="first", at_ms=1))
    await world.request(apply_request("later"))
    state = await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "later"))
    assert "it/ghost" not in state
    await second.stop()
    async with scheduler(world.log, "third"):
        await world.request(apply_request("last"))
        state = await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "last"))
    assert set(state) == {"it/real", "it/later", "it/last"}


async def test_a_leader_that_was_replaced_steps_down_and_stands_by(world: World) -> None:
    await world.prepare()
    async with scheduler(world.log, "first"):
        await world.request(apply_request("one"))
        await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "one"))
        marker = EpochStarted(cell="0", epoch=2, leader="usurper")
        await world.send(encode_entry(marker, cell=0, leader="usurper", at_ms=1))
        await world.request(apply_request("two"))
        # The usurper never appends anything: the first one waits out its lease and leads again, as epoch 3.
        await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "two"))
    assert [(e.epoch, e.leader) for e in await epochs(world)] == [(1, "first"), (2, "usurper"), (3, "first")]


async def test_deletion_ends_when_every_cluster_has_confirmed(world: World) -> None:
    await world.prepare(clusters=["alpha"])
    topic = commands_topic("alpha").name
    async with scheduler(world.log):
        await world.request(apply_request("web", replicas=2))
        await world.until(PLACEMENTS.name, PlacementPublished, lambda s: placed(s, "web"))
        await world.request(delete_request("web"))
        commands = await world.until(
            topic, CommandIssued, lambda s: "workload/it/web" in s and s["workload/it/web"].action == "withdraw"
        )
        command = commands["workload/it/web"]
        assert placed(await world.latest(PLACEMENTS.name, PlacementPublished), "web")
        await world.report(
            CommandReported(
                cluster="alpha",
                subject=command.subject,
                epoch=command.epoch,
                generation=command.generation,
                digest=command.digest,
                outcome="withdrawn",
                reported_at=1,
            )
        )
        await world.until(PLACEMENTS.name, PlacementPublished, lambda s: not s)
        await world.until(topic, CommandIssued, lambda s: not s)


async def test_a_refused_command_is_published_again(world: World) -> None:
    await world.prepare(clusters=["alpha"])
    topic = commands_topic("alpha").name
    async with scheduler(world.log):
        await world.request(apply_request("web"))
        commands = await world.until(topic, CommandIssued, lambda s: "workload/it/web" in s)
        command = commands["workload/it/web"]
        # An older record, left behind the newer one by a publisher that did not know better.
        older = command.model_copy(update={"generation": 0, "digest": "older"})
        await world.send(NewRecord(topic, older.subject.encode(), older.to_json()))
        await world.report(
            CommandReported(
                cluster="alpha",
                subject=command.subject,
                epoch=1,
                generation=0,
                digest="older",
                outcome="refused",
                reported_at=1,
                applied_generation=command.generation,
            )
        )
        state = await world.until(topic, CommandIssued, lambda s: s["workload/it/web"].generation > 0)
    assert state["workload/it/web"] == command


async def test_a_refused_tombstone_is_published_over_where_something_is_asked(world: World) -> None:
    """Left behind the newer command by a leader that did not know that it was replaced."""
    await world.prepare(clusters=["alpha"])
    topic = commands_topic("alpha").name

    async def refuse(subject: str, generation: int) -> None:
        await world.send(NewRecord(topic, subject.encode(), None))
        await world.report(
            CommandReported(
                cluster="alpha",
                subject=subject,
                epoch=1,
                generation=generation,
                digest="",
                outcome="refused",
                reported_at=1,
                applied_generation=generation + 1,
            )
        )

    async with scheduler(world.log):
        await world.request(apply_request("web"))
        commands = await world.until(topic, CommandIssued, lambda s: "workload/it/web" in s)
        await refuse("workload/it/nobody-asked-for-it", 0)
        await refuse("workload/it/web", 0)
        assert await world.until(topic, CommandIssued, lambda s: "workload/it/web" in s) == commands
    keys = [record.key for record in await world.records(topic)]
    assert keys.count(b"workload/it/nobody-asked-for-it") == 1, "a tombstone is what should stand there"
