"""What Karpenter's scheduler is asked beside a plan of node groups: the same pods, nodes and prices."""

from __future__ import annotations

from collections import Counter

from tests.bench.nodes import large, small
from tests.bench.nodes_karpenter import divided, question


def test_every_pod_and_group_is_asked_about_once() -> None:
    seen = small(3)
    asked = question(seen, 20.0)
    assert sum(pods["count"] for pods in asked["pods"]) == sum(item.count for item in seen.pending)
    assert {(kind["name"], kind["price"]) for kind in asked["instance_types"]} == {
        (f"{group.cluster}.{group.name}", group.price) for group in seen.groups
    }
    # How many pods a node takes is no container's request.
    assert all("pods" not in pods["requests"] and pods["requests"] for pods in asked["pods"])


def test_of_a_node_what_its_pods_leave_is_free() -> None:
    seen = large(100, 20, 0)
    asked = {node["name"]: node["free"] for node in question(seen, 20.0)["nodes"]}
    assert len(asked) == len(seen.nodes) == 20
    for node in seen.nodes:
        used = sum(dict(pod.demand.shape.requests)["cpu"] for pod in node.pods)
        assert asked[f"{node.cluster}.{node.name}"]["cpu"] == dict(node.allocatable)["cpu"] - used
    assert any(node.pods for node in seen.nodes)


def test_one_in_each_cluster_has_its_own_nodes_and_an_equal_part_of_the_pods() -> None:
    seen = large(1_003, 30, 0)
    parts = divided(seen)
    assert [part.clusters for part in parts] == [(cluster,) for cluster in seen.clusters]
    for part in parts:
        name = part.clusters[0].name
        assert all(group.cluster == name for group in part.groups)
        assert all(node.cluster == name for node in part.nodes)
    assert sum(len(part.nodes) for part in parts) == len(seen.nodes)
    assert sum(len(part.groups) for part in parts) == len(seen.groups)
    assert {sum(item.count for item in part.pending) for part in parts} == {100, 101}
    again = Counter[str]()
    for part in parts:
        again.update({item.key: item.count for item in part.pending})
    assert again == Counter({item.key: item.count for item in seen.pending})
