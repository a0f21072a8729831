"""What is done about a node group at one look."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.decision.draining import Blocked, Pod, Waiting, drain, pod_of
from services.executor.decision.fence import Fence
from services.executor.decision.node_groups import (
    GIVEN_UP_ANNOTATION,
    HANDED_OVER_ANNOTATION,
    REMOVAL_ANNOTATION,
    DeleteNode,
    Evict,
    GroupPlan,
    Look,
    Node,
    PatchNode,
    RemoveNodes,
    Resize,
    Terms,
    plan_group,
    plan_release,
)
from shared.events.v1.commands import NodeGroupOrder
from shared.model.node_groups import GroupState, NodeRef

NOW = 1_000_000
DRAIN_MS = 60_000
FENCE = Fence(1, 7)
SINCE = {REMOVAL_ANNOTATION: str(NOW - 1_000)}
HANDED = SINCE | {HANDED_OVER_ANNOTATION: "true"}


def node(name: str, annotations: dict[str, str] | None = None, **more: Any) -> Node:
    return Node(name, f"uid-{name}", ready=True, annotations=annotations or {}, **more)


def pod(name: str, **more: Any) -> Pod:
    return Pod("shop", name, f"uid-{name}", **more)


def planned(
    size: int,
    remove: tuple[str, ...] = (),
    *,
    nodes: tuple[Node, ...] = (),
    asked: int | None = None,
    there: dict[str, bool] | None = None,
    unjoined: int = 0,
    pods: dict[str, tuple[Pod, ...]] | None = None,
    held_back: dict[str, tuple[int, str]] | None = None,
) -> GroupPlan:
    facts = {
        "group": "small",
        "provider": {"kind": "kwok"},
        "template": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}},
        "size": size,
        "remove": remove,
    }
    there = dict.fromkeys((item.name for item in nodes), False) if there is None else there
    state = GroupState(len(there) if asked is None else asked, there, unjoined)
    look = Look({item.name: item for item in nodes}, pods or {}, state)
    return plan_group(NodeGroupOrder.model_validate(facts), look, Terms(FENCE, NOW, DRAIN_MS, held_back or {}))


def resized(plan: GroupPlan) -> int | None:
    return next((step.size for step in plan.steps if isinstance(step, Resize)), None)


def test_a_group_is_asked_to_grow() -> None:
    assert planned(3).steps == [Resize(3)]
    assert planned(3, asked=3).steps == []


def test_fewer_are_asked_for_only_as_far_as_none_is_taken_that_should_stay() -> None:
    nodes = (node("a"), node("b"))
    assert resized(planned(1, nodes=nodes, asked=5)) == 2
    assert resized(planned(0, nodes=nodes, asked=5, unjoined=1)) == 3
    assert planned(1, nodes=nodes).steps == []


def test_a_node_that_is_to_go_is_marked_and_cordoned_first() -> None:
    plan = planned(1, ("a",), nodes=(node("a"), node("b")), pods={})
    marks = {REMOVAL_ANNOTATION: str(NOW), GIVEN_UP_ANNOTATION: None}
    assert plan.steps == [PatchNode(node("a"), marks, unschedulable=True)], "and the provider keeps two"
    assert plan.removing == ["a"]


def test_its_pods_are_evicted_and_the_provider_keeps_it_meanwhile() -> None:
    marked = node("a", SINCE, unschedulable=True)
    plan = planned(1, ("a",), nodes=(marked, node("b")), pods={"a": (pod("x"), pod("y", leaving=True))})
    assert plan.steps == [Evict("a", pod("x"))]
    assert planned(1, ("a",), nodes=(marked, node("b")), asked=3, pods={"a": (pod("x"),)}).steps[-1] == Resize(2)


def test_a_node_that_somebody_uncordons_is_cordoned_again() -> None:
    marked = node("a", SINCE)
    plan = planned(0, ("a",), nodes=(marked,), pods={"a": (pod("x", leaving=True),)})
    assert plan.steps == [PatchNode(marked, {}, unschedulable=True)]


def test_an_empty_node_is_handed_over_before_fewer_are_asked_for() -> None:
    marked = node("a", SINCE, unschedulable=True, provider_id="test:///a")
    plan = planned(1, ("a",), nodes=(marked, node("b")), pods={"a": (pod("daemon", stays=True),)})
    assert plan.steps == [
        PatchNode(marked, {HANDED_OVER_ANNOTATION: "true"}),
        RemoveNodes((NodeRef("a", "test:///a"),)),
        Resize(1),
    ]


def test_a_node_that_is_leaving_is_not_counted_and_not_asked_for_again() -> None:
    nodes = (node("a", HANDED), node("b"))
    there = {"a": True, "b": False}
    plan = planned(1, ("a",), nodes=nodes, there=there, asked=1)
    assert (plan.steps, plan.removing) == ([], ["a"])
    assert planned(1, ("a",), nodes=nodes, there=there, asked=2).steps == [Resize(1)], "died before it was asked"


def test_what_the_provider_leaves_behind_is_deleted_if_it_was_handed_over() -> None:
    handed, other = node("a", HANDED), node("b", SINCE, unschedulable=True)
    plan = planned(0, ("a", "b"), nodes=(handed, other), there={})
    assert plan.steps == [DeleteNode(handed)]
    assert [(item.name, item.reason) for item in plan.failures] == [("b", "NotFound")]


def test_a_machine_whose_node_is_gone_already_is_removed_all_the_same() -> None:
    plan = planned(1, ("a",), nodes=(node("b"),), there={"a": False, "b": False})
    assert plan.steps == [RemoveNodes((NodeRef("a"),)), Resize(1)]


def test_an_order_that_is_taken_back_leaves_the_node_as_it_was() -> None:
    marked, cordoned = node("a", SINCE, unschedulable=True), node("b", {REMOVAL_ANNOTATION: "5,cordoned"})
    plan = planned(2, nodes=(marked, cordoned))
    free = {REMOVAL_ANNOTATION: None, HANDED_OVER_ANNOTATION: None, GIVEN_UP_ANNOTATION: None}
    assert plan.steps == [
        PatchNode(marked, free, unschedulable=False),
        PatchNode(cordoned, free, unschedulable=None),
    ]
    look = Look({"a": marked, "c": node("c", HANDED)}, {}, GroupState(0))
    assert plan_release(look).steps == plan.steps[:1], "what is handed over is on its way"


def test_what_was_handed_over_and_is_not_to_go_any_more_is_taken_back_from_the_provider() -> None:
    handed = node("a", HANDED, unschedulable=True)
    assert planned(1, nodes=(handed,), there={"a": True}, asked=1).steps == [RemoveNodes(())]
    plan = planned(1, nodes=(handed,), there={"a": False}, asked=1)
    assert [(step.node.name, step.unschedulable) for step in plan.steps if isinstance(step, PatchNode)] == [
        ("a", False)
    ]


def test_a_node_that_is_not_empty_in_time_stays_and_is_not_tried_again_for_this_order() -> None:
    late = node("a", {REMOVAL_ANNOTATION: str(NOW - DRAIN_MS)}, unschedulable=True)
    plan = planned(0, ("a",), nodes=(late,), pods={"a": (pod("x"),)})
    assert isinstance(plan.steps[0], PatchNode)
    assert (plan.steps[0].annotations[GIVEN_UP_ANNOTATION], plan.steps[0].unschedulable) == ("1/7", False)
    assert [item.reason for item in plan.failures] == ["DrainDeadlineExceeded"]
    given_up = node("a", {GIVEN_UP_ANNOTATION: "1/7"})
    again = planned(0, ("a",), nodes=(given_up,))
    assert (again.steps, [item.reason for item in again.failures]) == ([], ["DrainDeadlineExceeded"])
    other = planned(0, ("a",), nodes=(node("a", {GIVEN_UP_ANNOTATION: "1/6"}),))
    assert isinstance(other.steps[0], PatchNode), "another order tries again"


def test_one_pod_that_must_not_go_keeps_all_others_of_its_node() -> None:
    marked = node("a", SINCE, unschedulable=True)
    plan = planned(0, ("a",), nodes=(marked,), pods={"a": (pod("x"), pod("y", forbidden="it says so"))})
    assert plan.steps == []
    assert [(item.reason, item.message) for item in plan.failures] == [
        ("Blocked", "pod shop/y must not be evicted: it says so")
    ]


def test_a_pod_that_was_refused_waits_for_its_time() -> None:
    held = {"uid-x": (NOW + 1, "Cannot evict pod"), "uid-y": (NOW, "Cannot evict pod")}
    found = drain((pod("x"), pod("y"), pod("z")), NOW, held)
    assert found == Waiting((pod("y"), pod("z")), "pod shop/x: Cannot evict pod (and 1 more)", waits=True)
    assert drain((pod("d", stays=True),), NOW, {}) is None
    assert isinstance(drain((pod("x", forbidden="no"),), NOW, {}), Blocked)
    assert drain((pod("x", forbidden="no", leaving=True),), NOW, {}) == Waiting(
        (), "pod shop/x is not gone yet", waits=False
    )


OWNED = [{"kind": "ReplicaSet", "name": "web", "controller": True}]


@pytest.mark.parametrize(
    ("metadata", "status", "stays", "forbidden"),
    [
        ({"ownerReferences": OWNED}, {}, False, ""),
        ({"ownerReferences": [{"kind": "DaemonSet", "controller": True}]}, {}, True, ""),
        ({"ownerReferences": OWNED, "annotations": {"kubernetes.io/config.mirror": "x"}}, {}, True, ""),
        ({"ownerReferences": OWNED}, {"phase": "Succeeded"}, True, ""),
        (
            {"ownerReferences": OWNED, "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}},
            {},
            False,
            "its annotation",
        ),
        ({}, {}, False, "nobody would make it anew"),
        ({"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}}, {}, False, ""),
        ({"labels": {"flotilla.dev/applied-by": "executor"}}, {}, False, ""),
    ],
)
def test_which_pods_may_be_evicted(
    metadata: dict[str, Any], status: dict[str, Any], stays: bool, forbidden: str
) -> None:
    found = pod_of({"metadata": {"namespace": "a", "name": "b", "uid": "c", **metadata}, "status": status})
    assert found.stays is stays
    assert found.forbidden.startswith(forbidden)
    assert bool(found.forbidden) is bool(forbidden)
