"""Placement terms through the topics: what is asked in a request ends in the clusters' commands."""

from __future__ import annotations

from typing import Any

from shared.adapters.memory.event_log import MemoryLog
from shared.events.v1.commands import CommandIssued
from tests.integration.scheduler.world import World, apply_request, scheduler

SUBJECT = "workload/it/shop"


async def command(world: World, cluster: str) -> CommandIssued:
    """What a cluster is told of the workload, as soon as it is."""
    topic = f"fleet.commands.{cluster}"
    return (await world.until(topic, CommandIssued, lambda state: SUBJECT in state))[SUBJECT]


async def container(world: World, cluster: str) -> dict[str, Any]:
    issued = await command(world, cluster)
    return dict(issued.objects[0].manifest["spec"]["template"]["spec"]["containers"][0])


async def test_clusters_differ_by_overrides_and_a_change_is_a_new_generation() -> None:
    world = World(MemoryLog())
    await world.prepare()
    override = {"name": "beta", "clusters": ["beta"], "imageRegistry": "mirror", "args": ["1"]}
    async with scheduler(world.log):
        await world.request(apply_request("shop", replicas=4, overrides=[override]))
        assert (await container(world, "alpha"))["image"] == "nginx"
        assert (await container(world, "beta"))["image"] == "mirror/nginx"
        before = await command(world, "beta")
        await world.request(apply_request("shop", replicas=4, overrides=[{**override, "args": ["2"]}]))
        state = await world.until(
            "fleet.commands.beta", CommandIssued, lambda state: state[SUBJECT].generation > before.generation
        )
    assert state[SUBJECT].objects[0].manifest["spec"]["template"]["spec"]["containers"][0]["args"] == ["2"]
    assert state[SUBJECT].digest != before.digest
