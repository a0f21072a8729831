"""What the records of `fleet.objects` tell the scheduler of who is in the fleet."""

from __future__ import annotations

from services.scheduler.inputs import cluster_of, fold_input
from shared.events.topics import OBJECTS
from shared.events.v1.objects import LEFT, ClusterObserved
from shared.model.identities import ObjectKey, Resource, heartbeat_key, sync_marker_key
from shared.ports.event_log import Record
from tests.scheduling import NOW, World, counts_of, image, placed, workload

NODES = Resource("", "v1", "nodes")


def record(key: str, value: bytes | None = None) -> Record:
    return Record(OBJECTS.name, 0, 0, NOW, key.encode(), value, ())


def beat(cluster: str, **changes: object) -> Record:
    fields = {"cluster": cluster, "epoch": 1, "observed_at": NOW, "interval_ms": 5_000, "ready": True, **changes}
    return record(heartbeat_key(cluster), ClusterObserved.model_validate(fields).to_json())


def test_of_a_heartbeats_tombstone_nothing_that_was_heard_is_left(world: World) -> None:
    fold_input(world.state, beat("east"), world.now)
    fold_input(world.state, record(heartbeat_key("east")), world.now)
    east = world.state.fleet.clusters.get("east")
    assert east is not None
    assert not east.heard
    assert (east.heartbeat, east.refusal) == (None, "have left the fleet")
    assert counts_of(placed(world.apply(workload("shop", image(replicas=2))))) == {"west": 2}


def test_the_last_words_take_a_cluster_out_before_its_tombstone_comes(world: World) -> None:
    fold_input(world.state, beat("east", ready=False, reason=LEFT), world.now)
    stuck = placed(world.apply(workload("there", placement={"clusters": ["east"]}))).pod_sets[0]
    assert (stuck.shares, stuck.reason) == ((), "NoCluster")
    assert "3 node(s) in clusters that have left the fleet" in stuck.message
    assert counts_of(placed(world.apply(workload("shop", image(replicas=2))))) == {"west": 2}


def test_a_silent_cluster_that_left_is_heard_at_once_when_it_comes_back(world: World) -> None:
    world.now += 60_000
    world.cluster("west")
    world.pending()
    fold_input(world.state, record(heartbeat_key("east")), world.now)
    fold_input(world.state, beat("east", observed_at=world.now), world.now)
    assert counts_of(placed(world.apply(workload("shop", image(replicas=2))))) == {"east": 1, "west": 1}


def test_other_tombstones_say_nothing_of_a_cluster(world: World) -> None:
    before = world.state.hash()
    fold_input(world.state, record(sync_marker_key("east", NODES)), world.now)
    fold_input(world.state, record(str(ObjectKey("east", NODES, "", "heartbeat"))), world.now)
    assert world.state.hash() == before
    assert counts_of(placed(world.apply(workload("shop", image(replicas=2))))) == {"east": 1, "west": 1}


def test_a_topic_for_commands_is_made_for_members_alone() -> None:
    assert cluster_of(beat("east")) == "east"
    assert cluster_of(record(heartbeat_key("east"))) is None
    assert cluster_of(record(str(ObjectKey("east", NODES, "", "heartbeat")), b"{}")) is None
