"""Placement terms through the topics: what is asked in a request ends in the clusters' commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import PLACEMENTS
from shared.events.v1.commands import CommandIssued
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
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


async def test_what_pods_need_goes_where_they_go_in_one_command() -> None:
    world = World(MemoryLog())
    await world.prepare()
    request = apply_request("shop", replicas=4).model_dump(by_alias=True, mode="json", exclude_none=True)
    request["workload"]["podSets"] = [
        {"name": "main", "replicas": 4, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
        {"name": "conf", "manifest": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}}},
    ]
    request["workload"]["podSets"][0]["template"]["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "conf"}}]
    async with scheduler(world.log):
        await world.request(WorkloadRequested.model_validate(request))
        for cluster in ("alpha", "beta"):
            issued = await command(world, cluster)
            assert [item.manifest["kind"] for item in issued.objects] == ["ConfigMap", "Deployment"]


async def test_weights_and_then_tiers_share_replicas_out() -> None:
    world = World(MemoryLog())
    await world.prepare()
    weights = [{"clusters": ["alpha"], "weight": 3}, {"clusters": ["beta"], "weight": 1}]

    def has(alpha: int, beta: int) -> Callable[[dict[str, PlacementPublished]], bool]:
        wanted = {name: count for name, count in (("alpha", alpha), ("beta", beta)) if count}

        def holds(state: dict[str, PlacementPublished]) -> bool:
            placement = state["it/shop"].placement if "it/shop" in state else None
            shares = placement.pod_sets[0].shares if placement is not None else ()
            return {share.cluster: share.replicas for share in shares} == wanted

        return holds

    async with scheduler(world.log):
        await world.request(apply_request("shop", replicas=8, weightPreference={"staticWeightList": weights}))
        await world.until(PLACEMENTS.name, PlacementPublished, has(6, 2))
        await world.request(
            apply_request("shop", replicas=8, overflow=[{"clusters": ["beta"]}, {"clusters": ["alpha"]}])
        )
        await world.until(PLACEMENTS.name, PlacementPublished, has(0, 8))
