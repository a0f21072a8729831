"""The default scheduler: where pods go, why they wait, and that no node is ever overcommitted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.simulator.controllers.scheduling import amounts, pod_requests
from services.simulator.core.meta import with_spec
from services.simulator.spec import NodeGroup, NodeTaint
from tests.unit.simulator.builders import START, add, cluster, condition, deployment, drop, get, pod, pods

Json = dict[str, Any]

SMALL = NodeGroup(name="small", count=2, cpu="2", memory="4Gi", zones=("a", "b"))
TAINTED = NodeGroup(name="gpu", count=1, cpu="16", gpu=4, taints=(NodeTaint(key="gpu", value="yes"),))


def _node_of(made: Any, name: str) -> str:
    return str(get(made, "pods", name)["spec"].get("nodeName", ""))


def _settled(*bodies: Json) -> Any:
    made = cluster(SMALL, TAINTED)
    for body in bodies:
        add(made, body)
    made.settle(START + 5)
    return made


def test_taints_need_tolerations() -> None:
    toleration = {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
    made = _settled(
        pod("plain", {"cpu": "10"}),
        pod("tolerant", {"cpu": "10", "nvidia.com/gpu": "1"}, tolerations=[toleration]),
    )
    assert _node_of(made, "tolerant") == "unit-gpu-0"
    assert _node_of(made, "plain") == ""
    message = condition(get(made, "pods", "plain"), "PodScheduled")["message"]
    assert message.startswith("0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.")


@pytest.mark.parametrize(
    ("spec", "nodes"),
    [
        ({"nodeSelector": {"topology.kubernetes.io/zone": "simulated-1b"}}, {"unit-small-1"}),
        ({"nodeSelector": {"missing": "x"}}, {""}),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchFields": [
                                        {"key": "metadata.name", "operator": "In", "values": ["unit-small-0"]}
                                    ]
                                }
                            ]
                        }
                    }
                }
            },
            {"unit-small-0"},
        ),
    ],
)
def test_selectors_and_affinity(spec: Json, nodes: set[str]) -> None:
    made = _settled(pod("one", **spec))
    assert {_node_of(made, "one")} == nodes


def test_preferred_affinity_decides_between_equals() -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["unit-small-1"]}]}
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}
    made = _settled(pod("one", affinity={"nodeAffinity": preferred}))
    assert _node_of(made, "one") == "unit-small-1"


def _anti_affinity() -> Json:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_anti_affinity_keeps_apart() -> None:
    made = _settled(deployment(replicas=3, affinity=_anti_affinity()))
    assert sorted(item["spec"].get("nodeName", "") for item in pods(made)) == ["", "unit-small-0", "unit-small-1"]


def test_affinity_keeps_together() -> None:
    term = {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": "web"}}}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    made = _settled(deployment(replicas=3, affinity=affinity))
    assert len({item["spec"]["nodeName"] for item in pods(made)}) == 1


def test_topology_spread_is_kept() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    made = cluster(SMALL)
    add(made, deployment(replicas=6, topologySpreadConstraints=[constraint]))
    made.settle(START + 5)
    nodes = [item["spec"]["nodeName"] for item in pods(made)]
    assert sorted(nodes.count(name) for name in set(nodes)) == [3, 3]


def test_replicas_spread_without_being_told() -> None:
    made = cluster(NodeGroup(count=3, cpu="8"))
    add(made, deployment(replicas=6))
    made.settle(START + 5)
    nodes = [item["spec"]["nodeName"] for item in pods(made)]
    assert [nodes.count(name) for name in sorted(set(nodes))] == [2, 2, 2]


def test_a_waiting_pod_is_tried_again_when_room_is_made() -> None:
    made = cluster(NodeGroup(count=1, cpu="2"))
    add(made, pod("first", {"cpu": "2"}))
    add(made, pod("second", {"cpu": "2"}))
    made.settle(START + 5)
    assert [_node_of(made, name) for name in ("first", "second")] == ["unit-default-0", ""]
    drop(made, "Pod", "first")
    made.settle(START + 10)
    assert _node_of(made, "second") == "unit-default-0"


def test_a_waiting_pod_is_tried_again_when_a_node_comes() -> None:
    made = cluster(NodeGroup(count=0))
    add(made, pod("one"))
    made.settle(START + 5)
    assert condition(get(made, "pods", "one"), "PodScheduled")["message"] == "no nodes available to schedule pods"
    made.add_nodes(NodeGroup(name="late"), 1)
    made.settle(START + 10)
    assert get(made, "pods", "one")["status"]["phase"] == "Running"


def test_a_cordoned_node_gets_nothing() -> None:
    made = cluster(NodeGroup(count=1))
    made.state.store.replace("nodes", with_spec(get(made, "nodes", "unit-default-0", ""), unschedulable=True))
    add(made, pod("one"))
    made.settle(START + 5)
    assert "1 node(s) were unschedulable" in condition(get(made, "pods", "one"), "PodScheduled")["message"]


def test_host_ports_exclude_each_other() -> None:
    made = cluster(NodeGroup(count=1))
    for name in ("one", "two"):
        body = pod(name)
        body["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 8080}]
        add(made, body)
    made.settle(START + 5)
    assert sorted(_node_of(made, name) for name in ("one", "two")) == ["", "unit-default-0"]


def test_other_schedulers_keep_their_pods() -> None:
    made = _settled(pod("held", schedulerName="somebody"), pod("gated", schedulingGates=[{"name": "x"}]))
    assert _node_of(made, "held") == ""
    assert "conditions" not in get(made, "pods", "held")["status"]
    assert condition(get(made, "pods", "gated"), "PodScheduled")["reason"] == "SchedulingGated"


def test_init_containers_and_overhead_count() -> None:
    def container(cpu: str, **more: str) -> Json:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [container("1"), container("500m")],
        "initContainers": [container("2"), container("250m", restartPolicy="Always")],
        "overhead": {"cpu": "100m"},
    }
    assert pod_requests(spec)["cpu"] == 2350


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 4000)), max_size=25), st.integers(1, 4))
def test_no_node_is_overcommitted(sizes: list[tuple[int, int]], nodes: int) -> None:
    made = cluster(NodeGroup(count=nodes, cpu="4", memory="8Gi", pods=6))
    for index, (cpu, memory) in enumerate(sizes):
        add(made, pod(f"p{index}", {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}))
    made.settle(START + 30)
    for item in made.state.items("nodes"):
        allocatable = amounts(item.object["status"]["allocatable"])
        bound = [found for found in pods(made) if found["spec"].get("nodeName") == item.object["metadata"]["name"]]
        assert len(bound) <= allocatable["pods"]
        for name in ("cpu", "memory"):
            assert sum(pod_requests(found["spec"])[name] for found in bound) <= allocatable[name]
    for found in pods(made):
        wanted = pod_requests(found["spec"])
        if "nodeName" not in found["spec"]:
            assert condition(found, "PodScheduled")["reason"] == "Unschedulable"
            assert wanted
