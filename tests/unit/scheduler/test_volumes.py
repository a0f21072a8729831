"""Pods that name persistent volume claims go where these are, and to nodes that reach their volumes."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.seen.observed import CLAIMS, CLASSES, VOLUMES
from shared.events.registry import DecodeError
from shared.model.identities import ObjectKey
from tests.scheduling import World, nodes_of, placed, workload

ZONE = "topology.kubernetes.io/zone"
CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}


def with_claim(name: str, *further: dict[str, Any], binding: str = "node", replicas: int = 1) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": "i"}], "volumes": [CLAIM, {"name": "tmp", "emptyDir": {}}]}
    pod_set = {"name": "main", "replicas": replicas, "template": {"spec": spec}}
    return workload(name, pod_set, *further, placement={"binding": binding})


def claim(world: World, cluster: str, volume: str = "", storage_class: str = "") -> None:
    spec = {"volumeName": volume, "storageClassName": storage_class}
    given = {key: value for key, value in spec.items() if value}
    world.observe(ObjectKey(cluster, CLAIMS, "default", "data"), {"spec": given})


def storage_class(world: World, cluster: str, name: str, *zones: str) -> None:
    """It provides volumes for nodes of these zones."""
    topologies = [{"matchLabelExpressions": [{"key": ZONE, "values": list(zones)}]}]
    world.observe(ObjectKey(cluster, CLASSES, "", name), {"provisioner": "p", "allowedTopologies": topologies})


def volume(world: World, cluster: str, name: str, key: str, value: str) -> None:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}
    affinity = {"required": {"nodeSelectorTerms": [term]}}
    world.observe(ObjectKey(cluster, VOLUMES, "", name), {"spec": {"nodeAffinity": affinity}})


@pytest.fixture
def world() -> World:
    world = World()
    for cluster in ("east", "west"):
        world.cluster(cluster)
        world.node(cluster, f"{cluster}-a", labels={ZONE: "a"})
        world.node(cluster, f"{cluster}-b", labels={ZONE: "b"})
    return world


@pytest.mark.parametrize("binding", ["node", "cluster"])
@pytest.mark.parametrize("cluster", ["east", "west"])
def test_pods_go_to_the_cluster_that_has_the_claim(world: World, cluster: str, binding: str) -> None:
    claim(world, cluster)
    decision = placed(world.apply(with_claim("one", binding=binding, replicas=3)))
    assert [share.cluster for share in decision.pod_sets[0].shares] == [cluster]


@pytest.mark.parametrize("zone", ["a", "b"])
def test_pods_go_to_nodes_that_reach_the_volume(world: World, zone: str) -> None:
    claim(world, "east", "pv-1")
    volume(world, "east", "pv-1", ZONE, zone)
    assert nodes_of(placed(world.apply(with_claim("one")))) == {"east": (f"east-{zone}",)}


@pytest.mark.parametrize("zone", ["a", "b"])
def test_a_claim_without_a_volume_gets_one_where_its_class_may_provide_it(world: World, zone: str) -> None:
    claim(world, "east", storage_class="fast")
    storage_class(world, "east", "fast", zone)
    storage_class(world, "west", "fast", "c")
    assert nodes_of(placed(world.apply(with_claim("one")))) == {"east": (f"east-{zone}",)}


def test_a_class_without_topologies_provides_everywhere(world: World) -> None:
    claim(world, "east", storage_class="fast")
    world.observe(ObjectKey("east", CLASSES, "", "fast"), {"provisioner": "p"})
    nodes = nodes_of(placed(world.apply(with_claim("one", replicas=2))))
    assert {cluster: sorted(names) for cluster, names in nodes.items()} == {"east": ["east-a", "east-b"]}


def test_it_waits_for_a_node_in_what_the_class_allows_and_says_so(world: World) -> None:
    claim(world, "east", storage_class="fast")
    storage_class(world, "east", "fast", "c")
    waiting = placed(world.apply(with_claim("one"))).pod_sets[0]
    assert "2 node(s) didn't find available persistent volumes to bind" in waiting.message
    world.observe(ObjectKey("east", CLASSES, "", "fast"), None)
    world.pending()
    assert world.placements["default/one"].pod_sets[0].placed == 1


def test_the_volume_counts_and_not_the_class_once_there_is_one(world: World) -> None:
    claim(world, "east", "pv-1", storage_class="fast")
    storage_class(world, "east", "fast", "a")
    volume(world, "east", "pv-1", ZONE, "b")
    assert nodes_of(placed(world.apply(with_claim("one")))) == {"east": ("east-b",)}


def test_a_local_volume_names_its_node(world: World) -> None:
    world.node("west", "west-c", labels={"kubernetes.io/hostname": "west-c"})
    claim(world, "west", "local")
    volume(world, "west", "local", "kubernetes.io/hostname", "west-c")
    assert nodes_of(placed(world.apply(with_claim("one")))) == {"west": ("west-c",)}


def test_a_claim_that_no_cluster_has_restricts_nothing(world: World) -> None:
    assert placed(world.apply(with_claim("one"))).pod_sets[0].placed == 1


def test_a_claim_of_the_workload_itself_goes_with_it(world: World) -> None:
    claim(world, "east")
    world.node("east", "east-a", cpu="1m")
    world.node("east", "east-b", cpu="1m")
    manifest = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {}}
    decision = placed(world.apply(with_claim("one", {"name": "claim", "manifest": manifest})))
    assert decision.pod_sets[0].placed == 1


def test_it_waits_for_a_node_that_reaches_the_volume_and_says_so(world: World) -> None:
    claim(world, "east", "pv-1")
    volume(world, "east", "pv-1", ZONE, "c")
    waiting = placed(world.apply(with_claim("one"))).pod_sets[0]
    assert waiting.placed == 0
    assert "2 node(s) had volume node affinity conflict" in waiting.message
    assert "2 node(s) in clusters without persistentvolumeclaim 'default/data'" in waiting.message
    assert waiting.why is not None
    assert {(item.cluster, item.filter) for item in waiting.why.refusals} == {("east", "volumes"), ("west", "volumes")}
    world.node("east", "east-c", labels={ZONE: "c"})
    world.pending()
    assert nodes_of(world.placements["default/one"]) == {"east": ("east-c",)}


def test_it_runs_when_the_volume_is_elsewhere(world: World) -> None:
    claim(world, "east", "pv-1")
    volume(world, "east", "pv-1", ZONE, "c")
    assert placed(world.apply(with_claim("one"))).pod_sets[0].placed == 0
    volume(world, "east", "pv-1", ZONE, "b")
    world.pending()
    assert nodes_of(world.placements["default/one"]) == {"east": ("east-b",)}


def test_a_volume_that_nobody_could_have_written_changes_nothing(world: World) -> None:
    before = world.state.fleet.table.volumes.version
    with pytest.raises(DecodeError):
        world.observe(
            ObjectKey("east", VOLUMES, "", "pv-1"), {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": []}}}}
        )
    assert world.state.fleet.table.volumes.version == before
