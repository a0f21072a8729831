"""Nodes that fail, return and go, and what becomes of their pods."""

from __future__ import annotations

from typing import Any

from services.simulator.core.meta import condition_true
from services.simulator.spec import NodeGroup, Timing
from tests.unit.simulator.builders import EXACT, START, add, cluster, deployment, get, pod, pods

Json = dict[str, Any]


def _by_node(made: Any) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for item in pods(made):
        found.setdefault(item["spec"].get("nodeName", ""), []).append(item)
    return found


def test_nodes_carry_what_their_group_says() -> None:
    group = NodeGroup(name="gpu", count=2, cpu="16", memory="64Gi", gpu=4, zones=("a", "b"), price_per_hour=1.5)
    made = cluster(group, region="eu-1", provider="cloud")
    node = get(made, "nodes", "unit-gpu-1", "")
    labels = node["metadata"]["labels"]
    assert labels["topology.kubernetes.io/zone"] == "eu-1b"
    assert labels["topology.kubernetes.io/region"] == "eu-1"
    assert labels["flotilla.dev/price-per-hour"] == "1.5"
    assert node["spec"]["providerID"] == "cloud://eu-1/unit-gpu-1"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "4"
    assert condition_true(node, "Ready")


def test_a_failed_node_is_noticed_after_the_grace() -> None:
    made = cluster()
    add(made, deployment(replicas=2))
    made.settle(START + 5)
    made.fail_node("unit-default-0")
    made.settle(START + 14)
    assert condition_true(get(made, "nodes", "unit-default-0", ""), "Ready")
    made.settle(START + 16)
    node = get(made, "nodes", "unit-default-0", "")
    assert not condition_true(node, "Ready")
    assert {(t["key"], t["effect"]) for t in node["spec"]["taints"]} == {
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    }
    assert not any(condition_true(item, "Ready") for item in _by_node(made)["unit-default-0"])


def test_pods_leave_a_failed_node_when_their_toleration_ends() -> None:
    made = cluster()
    tolerations = [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    ]
    add(made, deployment(replicas=2, tolerations=tolerations))
    made.settle(START + 5)
    made.fail_node("unit-default-0")
    made.settle(START + 44)
    assert not any("deletionTimestamp" in item["metadata"] for item in pods(made))
    made.settle(START + 60)
    found = _by_node(made)
    assert all("deletionTimestamp" in item["metadata"] for item in found["unit-default-0"])
    assert len(found["unit-default-1"]) == 2
    made.recover_node("unit-default-0")
    made.settle(START + 70)
    assert condition_true(get(made, "nodes", "unit-default-0", ""), "Ready")
    assert "taints" not in get(made, "nodes", "unit-default-0", "")["spec"]
    assert set(_by_node(made)) == {"unit-default-1"}


def test_a_silent_kubelet_starts_nothing_until_it_returns() -> None:
    made = cluster(NodeGroup(count=1))
    made.fail_node("unit-default-0")
    add(made, pod())
    made.settle(START + 8)
    assert "startTime" not in get(made, "pods", "one")["status"]
    made.recover_node("unit-default-0")
    made.settle(START + 11)
    assert get(made, "pods", "one")["status"]["phase"] == "Running"


def test_pods_that_were_given_up_are_ready_again_when_their_kubelet_returns() -> None:
    made = cluster(NodeGroup(count=1))
    add(made, pod())
    made.settle(START + 5)
    made.fail_node("unit-default-0")
    made.settle(START + 30)
    assert not condition_true(get(made, "pods", "one"), "Ready")
    made.recover_node("unit-default-0")
    made.settle(START + 31)
    assert condition_true(get(made, "pods", "one"), "Ready")


def test_pods_of_a_removed_node_are_replaced() -> None:
    made = cluster()
    add(made, deployment(replicas=4))
    made.settle(START + 5)
    made.remove_node("unit-default-0")
    made.settle(START + 9)
    assert "unit-default-0" in _by_node(made)
    made.settle(START + 15)
    assert {name: len(found) for name, found in _by_node(made).items()} == {"unit-default-1": 4}
    assert get(made, "deployments.apps", "web")["status"]["availableReplicas"] == 4


def test_leases_are_renewed_if_asked_for() -> None:
    made = cluster(NodeGroup(count=1), timing=Timing(lease_renewal=10))
    made.settle(START + 25)
    lease = get(made, "leases.coordination.k8s.io", "unit-default-0", "kube-node-lease")
    assert lease["spec"]["renewTime"] == "2023-11-14T22:13:40.000000Z"
    made.fail_node("unit-default-0")
    made.settle(START + 60)
    again = get(made, "leases.coordination.k8s.io", "unit-default-0", "kube-node-lease")
    assert again["spec"]["renewTime"] == lease["spec"]["renewTime"]


def test_a_node_that_somebody_registers_gets_a_kubelet() -> None:
    made = cluster(NodeGroup(count=0), timing=EXACT)
    add(made, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "own"}, "spec": {}})
    add(made, pod())
    made.settle(START + 10)
    assert condition_true(get(made, "nodes", "own", ""), "Ready")
    assert get(made, "pods", "one")["spec"]["nodeName"] == "own"


def test_the_same_seed_gives_the_same_bytes() -> None:
    def run(seed: str) -> list[bytes]:
        made = cluster(seed=seed)
        add(made, deployment(replicas=5))
        made.settle(START + 20)
        return [item.raw for collection in made.state.store.collections() for item in collection.in_namespace("")]

    assert run("one") == run("one")
    assert run("one") != run("two")
