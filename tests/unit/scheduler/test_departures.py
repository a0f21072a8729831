"""Clusters that leave the fleet: what they ran goes elsewhere, and nothing waits for them."""

from __future__ import annotations

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.derivation import CommandRecord, PlacementRecord, derive
from shared.events.v1.decisions import DecisionsMade, WorkloadForgotten
from shared.events.v1.placements import PlacementPublished
from shared.model.identities import CLUSTER_LABEL
from tests.scheduling import World, counts_of, image, nodes_of, placed, workload

IN_EAST = {"placement": {"clusterSelector": {"matchLabels": {"region": "east"}}}}
BINDINGS = pytest.mark.parametrize("binding", ["cluster", "node"])


@BINDINGS
def test_what_a_cluster_ran_goes_elsewhere_when_it_leaves(world: World, binding: str) -> None:
    first = placed(world.apply(workload("shop", image(replicas=4), placement={"binding": binding})))
    assert counts_of(first) == {"east": 2, "west": 2}
    world.leaves("east")
    moved = placed(world.pending())
    assert counts_of(moved) == {"west": 4}
    # Told to withdraw, so that it runs nothing twice should it ever return.
    assert moved.withdrawn == ("east",)
    assert world.pending() == []
    assert not world.state.has_work


def test_nothing_new_goes_to_a_cluster_that_left(world: World) -> None:
    world.leaves("east")
    assert counts_of(placed(world.apply(workload("shop", image(replicas=2))))) == {"west": 2}
    by_name = {"placement": {"clusterSelector": {"matchLabels": {CLUSTER_LABEL: "east"}}}}
    stuck = placed(world.apply(workload("only-there", **by_name))).pod_sets[0]
    assert stuck.shares == ()
    assert stuck.message == (
        "0/6 nodes are available: 3 node(s) in clusters that have left the fleet, "
        "3 node(s) in clusters that were not selected."
    )


def test_a_tombstone_alone_says_that_a_cluster_left(world: World) -> None:
    """Compaction may leave no more of it."""
    world.apply(workload("shop", image(replicas=2)))
    world.state.forget_cluster("east")
    assert counts_of(placed(world.pending())) == {"west": 2}


def test_a_cluster_that_was_never_heard_of_has_not_left() -> None:
    """A log that lost its heartbeats must not move the fleet."""
    world, follower = World(), World()
    world.cluster("east")
    world.node("east", "n")
    follower.state.apply(placed(world.apply(workload("shop"))))
    assert follower.pending() == []


def test_a_silent_cluster_has_not_left(world: World) -> None:
    world.apply(workload("shop", image(replicas=2)))
    world.now += 3_600_000
    assert world.pending() == []


def test_what_fits_nowhere_else_waits_and_comes_back_with_the_cluster(world: World) -> None:
    world.apply(workload("shop", **IN_EAST))
    world.leaves("east")
    assert placed(world.pending()).pod_sets[0].shares == ()
    assert not world.state.has_work
    world.cluster("east", {"region": "east"})
    back = placed(world.pending())
    assert (counts_of(back), back.withdrawn) == ({"east": 1}, ())


def test_copies_everywhere_are_fewer_by_those_of_the_cluster(world: World) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"a": "b"},
    }
    first = placed(world.apply(workload("shop", {"name": "settings", "manifest": manifest})))
    world.leaves(next(iter(counts_of(first))))
    after = placed(world.pending())
    assert set(counts_of(after)) == {"east", "west"} - set(after.withdrawn)


@BINDINGS
def test_a_follower_that_takes_over_moves_it(world: World, binding: str) -> None:
    """What is stranded follows from the folded state alone."""
    follower = World()
    for cluster in ("east", "west"):
        follower.cluster(cluster, {"region": cluster})
        for number in range(3):
            name = f"{cluster}-{number}"
            follower.node(cluster, name, labels={"kubernetes.io/hostname": name})
    follower.leaves("east")
    follower.state.apply(placed(world.apply(workload("shop", image(replicas=2), placement={"binding": binding}))))
    assert set(nodes_of(placed(follower.pending()))) == {"west"}


def test_many_are_moved_in_portions() -> None:
    world = World(SchedulerConfig(placements_per_call=8))
    for cluster in ("east", "west"):
        world.cluster(cluster)
        world.node(cluster, "n", cpu="64", memory="64Gi")
    for number in range(20):
        world.apply(workload(f"w{number}", image(replicas=2)))
    world.leaves("east")
    calls = 0
    while world.state.has_work or not calls:
        assert len(world.pending()) <= 8
        calls += 1
        assert calls < 20
    assert calls > 2
    assert all(set(counts_of(item)) == {"west"} for item in world.placements.values())


class TestDeletion:
    def test_no_deletion_waits_for_a_cluster_that_left(self, world: World) -> None:
        world.apply(workload("shop", image(replicas=2)))
        world.leaves("east")
        world.pending()
        world.delete("shop")
        world.withdrawn("west", "shop")
        (forgotten,) = world.pending()
        assert isinstance(forgotten, WorkloadForgotten)
        assert (forgotten.unconfirmed, forgotten.retired) == (("east",), ("west",))

    def test_one_that_waited_ends_when_the_cluster_leaves(self, world: World) -> None:
        world.apply(workload("shop", **IN_EAST))
        assert placed(world.delete("shop")).withdrawn == ("east",)
        assert world.pending() == []
        world.leaves("east")
        assert [type(item) for item in world.pending()] == [WorkloadForgotten]
        assert not world.state.has_work

    def test_the_withdrawal_stays_commanded(self, world: World) -> None:
        """So a cluster that returns after all takes down what it still runs."""
        commands: dict[str, str | None] = {}
        published: dict[str, PlacementPublished] = {}
        world.apply(workload("shop", **IN_EAST))
        world.leaves("east")
        world.pending()
        world.delete("shop")
        assert isinstance(world.journal[-1], WorkloadForgotten)
        for offset, decision in enumerate(world.journal):
            batch = DecisionsMade(cell="0", epoch=1, leader="a", decided_at=world.now, decisions=(decision,))
            for record in derive(published, batch, offset):
                if isinstance(record, CommandRecord):
                    commands[record.cluster] = record.command.action if record.command is not None else None
                else:
                    assert isinstance(record, PlacementRecord)
        assert commands == {"east": "withdraw"}
        assert published == {}
