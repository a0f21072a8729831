"""A cluster leaves the fleet, in the very records that its watcher writes; schedulers hear of it soon, late, or never.

In memory alone: there the topic can be compacted on demand, down to the tombstones and beyond them.
"""

from __future__ import annotations

import time

import pytest

from services.watcher.decision.mirror import ClusterMirror
from services.watcher.decision.stimuli import ClusterLeft
from services.watcher.records import RecordFactory
from shared.adapters.kafka.partitioner import partition_for
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import OBJECTS, PLACEMENTS
from shared.events.v1.decisions import PodSetPlacement
from shared.events.v1.placements import PlacementPublished
from shared.model.identities import heartbeat_key
from tests.integration.scheduler.world import World, apply_request, node, scheduler


async def leave(world: World, cluster: str) -> None:
    """Its watcher's last words, and tombstones for all that the log has of it."""
    keys = {(record.key or b"").decode() for record in await world.records(OBJECTS.name) if record.value is not None}
    mirror = ClusterMirror(cluster, 2, 5_000, inherited={key for key in keys if key.startswith(f"{cluster}/")})
    factory, now_ms = RecordFactory(cluster, 2), time.time_ns() // 1_000_000
    left = mirror.handle(ClusterLeft(id="left", at_ms=now_ms))
    await world.send(*(factory.object(publish, factory.time(now_ms)) for publish in left))


async def placed(world: World, name: str) -> PodSetPlacement:
    """What was decided of a workload, as soon as it was."""
    state = await world.until(PLACEMENTS.name, PlacementPublished, lambda state: f"it/{name}" in state)
    return _only(state, name)


def _only(state: dict[str, PlacementPublished], name: str) -> PodSetPlacement:
    placement = state[f"it/{name}"].placement
    assert placement is not None
    (pod_set,) = placement.pod_sets
    return pod_set


def shares(pod_set: PodSetPlacement) -> dict[str, int]:
    return {share.cluster: share.replicas for share in pod_set.shares}


async def gets_nothing(world: World, number: int) -> None:
    """Asks for what would like to be in beta, and for what can be nowhere else."""
    await world.request(apply_request(f"any-{number}", replicas=4))
    await world.request(apply_request(f"pinned-{number}", clusters=["beta"]))
    assert shares(await placed(world, f"any-{number}")) == {"alpha": 4}
    pinned = await placed(world, f"pinned-{number}")
    assert (shares(pinned), pinned.reason) == ({}, "NoCluster")
    assert "silent" not in pinned.message
    assert "not ready" not in pinned.message


async def join(world: World) -> None:
    for number in range(2):
        await world.observe("beta", node(f"beta-{number}"))
    await world.heartbeat("beta")


async def neighbour_of(world: World, cluster: str) -> str:
    """A name whose records stand in the same partition."""
    count = len(await world.log.partitions(OBJECTS.name))
    number = partition_for(cluster.encode(), count)
    return next(name for i in range(10_000) if partition_for((name := f"n{i}").encode(), count) == number)


@pytest.mark.parametrize("drop_tombstones", [False, True])
async def test_a_cluster_that_left_gets_nothing_from_whoever_leads_until_it_is_back(drop_tombstones: bool) -> None:
    log = MemoryLog()
    world = World(log)
    await world.prepare()
    async with scheduler(log, "early"):
        await world.request(apply_request("before", replicas=4))
        assert shares(await placed(world, "before")) == {"alpha": 2, "beta": 2}
        await leave(world, "beta")
        # The leader folds what it reads between two rounds: the request behind the tombstones may overtake them.
        await world.until(PLACEMENTS.name, PlacementPublished, lambda s: shares(_only(s, "before")) == {"alpha": 4})
        await gets_nothing(world, 1)
    # The log cleaner spares the segment that is written to, so something stands behind what it takes away.
    await world.heartbeat(await neighbour_of(world, "beta"))
    log.compact(OBJECTS.name, drop_tombstones=drop_tombstones)
    of_beta = [(r.key, r.value) for r in log.records(OBJECTS.name) if (r.key or b"").startswith(b"beta/")]
    assert ((heartbeat_key("beta").encode(), None) in of_beta) is not drop_tombstones
    assert all(value is None for _, value in of_beta)
    async with scheduler(log, "late"):
        await gets_nothing(world, 2)
        assert shares(_only(await world.latest(PLACEMENTS.name, PlacementPublished), "before")) == {"alpha": 4}
        await join(world)
        await world.until(
            PLACEMENTS.name,
            PlacementPublished,
            lambda s: all(shares(_only(s, f"pinned-{number}")) == {"beta": 1} for number in (1, 2)),
        )


async def test_a_tombstone_alone_takes_a_cluster_out_at_once_for_whoever_had_heard_it() -> None:
    """A standby that slept while the topic was compacted reads no last words."""
    log = MemoryLog()
    world = World(log)
    await world.prepare()
    async with scheduler(log):
        await world.request(apply_request("before", replicas=4))
        assert shares(await placed(world, "before")) == {"alpha": 2, "beta": 2}
        factory = RecordFactory("beta", 2)
        mirror = ClusterMirror("beta", 2, 5_000)
        (*_, tombstone) = mirror.handle(ClusterLeft(id="left", at_ms=0))
        assert (tombstone.key, tombstone.value) == (heartbeat_key("beta").encode(), None)
        await world.send(factory.object(tombstone, factory.time(0)))
        await world.until(PLACEMENTS.name, PlacementPublished, lambda s: shares(_only(s, "before")) == {"alpha": 4})
        await world.request(apply_request("pinned", clusters=["beta"]))
        pinned = await placed(world, "pinned")
    assert (shares(pinned), pinned.reason) == ({}, "NoCluster")
    assert "2 node(s) in clusters that have left the fleet" in pinned.message
