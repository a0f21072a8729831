"""Priority through the topics: who makes room is told for whom, and its cluster that it goes."""

from __future__ import annotations

from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import PLACEMENTS
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from tests.integration.scheduler.world import World, apply_request, scheduler


def asked(name: str, priority: int) -> WorkloadRequested:
    """More than half of a node, on the only cluster that is eligible."""
    request = apply_request(name, replicas=1, cpu="5", binding="node", clusters=["alpha"])
    workload = request.root.workload.model_copy(update={"priority": priority})
    return WorkloadRequested(request.root.model_copy(update={"workload": workload}))


async def placement(world: World, name: str, reason: str) -> WorkloadPlaced:
    def is_so(state: dict[str, PlacementPublished]) -> bool:
        found = state.get(f"it/{name}")
        return found is not None and found.placement is not None and found.placement.pod_sets[0].reason == reason

    found = (await world.until(PLACEMENTS.name, PlacementPublished, is_so))[f"it/{name}"].placement
    assert found is not None
    return found


async def test_the_less_important_makes_room() -> None:
    world = World(MemoryLog())
    await world.prepare()
    async with scheduler(world.log):
        for name, priority in (("one", 0), ("other", 0), ("high", 10)):
            await world.request(asked(name, priority))
            await placement(world, name, "")
        taken = await placement(world, "high", "")
        assert taken.pod_sets[0].why is not None
        [by] = taken.pod_sets[0].why.displaced
        made_room = await placement(world, by.workload.removeprefix("it/"), "Preempted")
        assert (taken.clusters, made_room.withdrawn) == ({"alpha"}, ("alpha",))
        assert made_room.pod_sets[0].preempted[0].workload == "it/high"
        subject = f"workload/{by.workload}"
        told = await world.until(
            "fleet.commands.alpha", CommandIssued, lambda state: state[subject].action == "withdraw"
        )
        assert told[subject].generation <= told["workload/it/high"].generation
