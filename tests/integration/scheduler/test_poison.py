"""Records that nobody can read, in the topics that only schedulers write: leader and successors go on without them."""

from __future__ import annotations

import pytest

from shared.events.envelope import DEAD_LETTER_SOURCE
from shared.events.topics import DECISIONS, PLACEMENTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.ports.event_log import NewRecord
from tests.integration.scheduler.world import World, apply_request, scheduler

HEADERS = (("ce_type", b"fleet.status.changed.v1"), ("ce_time", b"yesterday"))


@pytest.mark.parametrize("headers", [(), HEADERS])
async def test_what_is_no_entry_of_the_journal_is_void(world: World, headers: tuple[tuple[str, bytes], ...]) -> None:
    await world.prepare(clusters=["alpha"])
    poison = [NewRecord(DECISIONS.name, None, value, headers, partition=0) for value in (b"\xff\x00", b"{}", b"")]
    await world.send(*poison)
    topic = commands_topic("alpha").name
    async with scheduler(world.log, "first"):
        await world.request(apply_request("before"))
        await world.until(topic, CommandIssued, lambda s: "workload/it/before" in s)
        await world.send(*poison)
        await world.request(apply_request("between"))
        await world.until(topic, CommandIssued, lambda s: "workload/it/between" in s)
    async with scheduler(world.log, "second"):
        await world.request(apply_request("after"))
        await world.until(topic, CommandIssued, lambda s: "workload/it/after" in s)


async def test_a_placement_that_cannot_be_read_is_refused(world: World) -> None:
    await world.prepare(clusters=["alpha"])
    poison = (
        NewRecord(PLACEMENTS.name, b"\xff\xfe", b"{}"),
        NewRecord(PLACEMENTS.name, b"poison/wrong", b'{"epoch": "x"}'),
    )
    await world.send(*poison)
    async with scheduler(world.log, "first"):
        await world.request(apply_request("web"))
        topic = commands_topic("alpha").name
        await world.until(topic, CommandIssued, lambda s: "workload/it/web" in s)
    letters = await world.records(f"{PLACEMENTS.name}.dlq")
    assert {letter.value for letter in letters} == {record.value for record in poison}
    assert all(letter.header(DEAD_LETTER_SOURCE) for letter in letters)
