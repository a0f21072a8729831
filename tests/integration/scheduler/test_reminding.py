"""A command that got lost, or was overwritten, is published again when the cluster's executor does not hold it."""

from __future__ import annotations

import time

import pytest

from services.scheduler.decision.seen import inventory
from shared.events.registry import decode
from shared.events.topics import INVENTORIES, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.inventories import HeldSubject, InventoryReported
from shared.ports.event_log import NewRecord
from tests.integration.scheduler.world import World, apply_request, scheduler

SUBJECT = "workload/it/web"
TOPIC = commands_topic("alpha").name


async def command(world: World) -> CommandIssued | None:
    """The last word of the topic."""
    last = [record for record in await world.records(TOPIC) if record.key == SUBJECT.encode()][-1]
    return decode(CommandIssued, last.value) if last.value is not None else None


async def say_held(world: World, *held: HeldSubject) -> None:
    reported = InventoryReported(
        cluster="alpha", reported_at=time.time_ns() // 1_000_000, interval_ms=1000, digest="", subjects=held
    )
    await world.send(NewRecord(INVENTORIES.name, b"alpha", reported.to_json()))


async def test_what_an_executor_does_not_hold_is_published_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "GRACE_MS", 0)
    await world.prepare(("alpha",))
    async with scheduler(world.log):
        await world.request(apply_request("web", replicas=2))
        state = await world.until(TOPIC, CommandIssued, lambda state: SUBJECT in state)
        issued = state[SUBJECT]
        held = HeldSubject(subject=SUBJECT, generation=issued.generation, digest=issued.digest, objects=1)

        await world.send(NewRecord(TOPIC, SUBJECT.encode(), None))
        assert await command(world) is None
        await say_held(world, held.model_copy(update={"commanded": False}))
        state = await world.until(TOPIC, CommandIssued, lambda state: SUBJECT in state)
        assert state[SUBJECT] == issued

        older = issued.model_copy(update={"generation": issued.generation - 1, "objects": ()})
        await world.send(NewRecord(TOPIC, SUBJECT.encode(), older.to_json()))
        await say_held(world, held.model_copy(update={"generation": older.generation}))
        await world.until(TOPIC, CommandIssued, lambda state: state[SUBJECT] != older)
        assert await command(world) == issued

        before = len(await world.records(TOPIC))
        await world.send(NewRecord(INVENTORIES.name, b"alpha", b"no inventory"))
        await say_held(world, held)
        await world.request(apply_request("later"))
        await world.until(TOPIC, CommandIssued, lambda state: "workload/it/later" in state)
        assert len(await world.records(TOPIC)) == before + 1, "what is held is not published again"
