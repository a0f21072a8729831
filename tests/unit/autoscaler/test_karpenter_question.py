"""What Karpenter's scheduler is asked beside a plan of node groups: the same pods, nodes and prices."""

from __future__ import annotations

from tests.bench.nodes import large, small
from tests.bench.nodes_karpenter import question


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
