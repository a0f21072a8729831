"""A pod is bound once there is room for it beside the pods of ours that are on its node, or may get there."""

from __future__ import annotations

import pytest

from services.executor.decision.backoff import CallFailed
from services.executor.decision.identity import GroupKind, ObjectId
from services.executor.decision.instructions import Bind, Call, Delete
from shared.events.v1.commands import PodGroup
from shared.model.pods import GPU_MILLI_ANNOTATION
from tests.unit.executor.builders import command, pod_group, withdrawal
from tests.unit.executor.model import Rig

POD = GroupKind("", "Pod")
FIRST, SECOND = "workload/shop/first", "workload/shop/second"
GPU = "nvidia.com/gpu"


@pytest.fixture
def rig() -> Rig:
    """Two nodes with two CPUs each; what is deleted there goes with a grace period."""
    rig = Rig()
    rig.cluster.graceful = True
    for name in ("n0", "n1"):
        rig.cluster.node(name, has={"cpu": "2"})
    return rig


def issue(rig: Rig, generation: int, subject: str, *groups: PodGroup) -> None:
    rig.issue(command(generation, pods=groups, subject=subject))


def where(rig: Rig) -> dict[str, str]:
    return {i.name: d["spec"].get("nodeName", "") for i, d in rig.cluster.objects.items() if i.kind == POD}


def test_a_pod_is_bound_when_the_one_that_had_its_room_is_gone(rig: Rig) -> None:
    """Found by simulation: both were on the node, since the scheduler had never seen the first."""
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    rig.issue(withdrawal(2, subject=FIRST))
    issue(rig, 3, SECOND, pod_group({"b": "n0"}, requests={"cpu": "1"}))
    rig.settle()
    assert where(rig) == {"a": "n0", "b": ""}
    assert {report.subject for report in rig.reports if report.generation > 1} == set()
    rig.cluster.confirm_deletions()
    rig.settle()
    assert where(rig) == {"b": "n0"}
    assert {report.subject: report.outcome for report in rig.reports} == {FIRST: "withdrawn", SECOND: "applied"}


def test_a_pod_does_not_wait_where_there_is_room_beside_one_that_goes(rig: Rig) -> None:
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "1"}))
    rig.settle()
    rig.issue(withdrawal(2, subject=FIRST))
    issue(rig, 3, SECOND, pod_group({"b": "n0"}, requests={"cpu": "1"}))
    rig.settle()
    assert where(rig) == {"a": "n0", "b": "n0"}


def test_the_next_process_knows_who_is_on_the_node(rig: Rig) -> None:
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    rig.restart()
    rig.issue(withdrawal(2, subject=FIRST), read=False)
    issue(rig, 3, SECOND, pod_group({"b": "n0"}, requests={"cpu": "1"}))
    rig.settle()
    assert where(rig) == {"a": "n0", "b": ""}


def test_pods_of_one_turn_take_each_others_room(rig: Rig) -> None:
    issue(rig, 1, FIRST, pod_group({"a": "n0", "b": "n0", "c": "n0", "d": "n1"}, requests={"cpu": "1"}))
    rig.settle()
    assert where(rig) == {"a": "n0", "b": "n0", "c": "", "d": "n1"}
    rig.cluster.node("n0", has={"cpu": "3"})
    rig.settle()
    assert where(rig)["c"] == "n0"
    assert rig.last.outcome == "applied"


def test_a_binding_whose_answer_is_lost_may_be_carried_out(rig: Rig) -> None:
    """It takes the room until the pod is known to be elsewhere, or gone."""
    rig.cluster.fault = lambda call: CallFailed(0, "Timeout", "no answer") if isinstance(call, Bind) else None
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    (late,) = rig.made(Bind)[:1]
    rig.cluster.fault = refuse_deletions
    rig.issue(withdrawal(2, subject=FIRST))
    issue(rig, 3, SECOND, pod_group({"b": "n0"}, requests={"cpu": "1"}))
    rig.settle()
    assert where(rig) == {"a": "", "b": ""}
    rig.cluster.answer(late)
    rig.settle()
    assert where(rig) == {"a": "n0", "b": ""}
    rig.cluster.fault = lambda _: None
    rig.pass_time(60)
    rig.cluster.confirm_deletions()
    rig.settle()
    assert where(rig) == {"b": "n0"}


def test_a_pod_that_turns_out_to_be_bound_elsewhere_frees_the_room(rig: Rig) -> None:
    rig.cluster.fault = lambda call: CallFailed(0, "Timeout", "no answer") if isinstance(call, Bind) else None
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    rig.cluster.fault = lambda _: None
    rig.held_events = True
    issue(rig, 2, FIRST, pod_group({"a": "n1"}, requests={"cpu": "2"}))
    issue(rig, 3, SECOND, pod_group({"b": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    rig.pass_time(2)
    assert where(rig) == {"a": "n1", "b": "n0"}, "the answer is enough, no event came"


def test_what_has_ended_takes_no_room(rig: Rig) -> None:
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}, restart="Never"))
    rig.settle()
    issue(rig, 2, SECOND, pod_group({"b": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    assert where(rig)["b"] == ""
    rig.cluster.change(ObjectId(POD, "shop", "a"), lambda d: d.update(status={"phase": "Succeeded"}))
    rig.settle()
    assert where(rig) == {"a": "n0", "b": "n0"}


def test_room_that_does_not_come_is_reported(rig: Rig) -> None:
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "3", "memory": "1Gi"}))
    rig.pass_time(130)
    assert (rig.last.outcome, rig.last.reason) == ("failed", "ProgressDeadlineExceeded")
    assert rig.last.message == "waiting: Pod shop/a waits for room on node n0: cpu, memory"
    issue(rig, 2, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    assert (rig.last.outcome, rig.last.generation) == ("applied", 2)


def test_a_pod_in_the_way_goes_whatever_else_of_its_group_does_not_serve(rig: Rig) -> None:
    """Or each would wait for the other: the pod for its room, and the room for the pod to serve."""
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    rig.cluster.run_pods()
    rig.settle()
    issue(rig, 2, FIRST, pod_group({"a": "n1", "b": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    assert where(rig) == {"a": "n0", "b": ""}
    rig.cluster.confirm_deletions()
    rig.settle()
    assert where(rig) == {"a": "n1", "b": "n0"}
    assert rig.last.outcome == "applied"


def test_pods_in_each_others_way_change_places(rig: Rig) -> None:
    issue(rig, 1, FIRST, pod_group({"a": "n0", "b": "n1"}, requests={"cpu": "2"}))
    rig.settle()
    rig.cluster.run_pods()
    rig.settle()
    issue(rig, 2, FIRST, pod_group({"a": "n1", "b": "n0"}, requests={"cpu": "2"}))
    for _ in range(3):
        rig.settle()
        rig.cluster.confirm_deletions()
    rig.settle()
    assert where(rig) == {"a": "n1", "b": "n0"}


def test_pods_share_devices_in_part(rig: Rig) -> None:
    rig.cluster.node("n0", has={GPU: "1"})
    quarter = pod_group(
        {f"p{n}": "n0" for n in range(5)}, annotations={GPU_MILLI_ANNOTATION: "250"}, requests={GPU: "1"}
    )
    issue(rig, 1, FIRST, quarter)
    rig.settle()
    assert [name for name, node in where(rig).items() if not node] == ["p4"]


def test_a_port_of_the_node_is_room_too(rig: Rig) -> None:
    port = {"containerPort": 80, "hostPort": 80}
    issue(rig, 1, FIRST, pod_group({"a": "n0", "b": "n0", "c": "n1"}, ports=[port]))
    rig.pass_time(130)
    assert where(rig) == {"a": "n0", "b": "", "c": "n1"}
    assert rig.last.message == "waiting: Pod shop/b waits for room on node n0: port 80/TCP"


def test_who_no_longer_waits_is_not_woken(rig: Rig) -> None:
    issue(rig, 1, FIRST, pod_group({"a": "n0"}, requests={"cpu": "2"}))
    issue(rig, 2, SECOND, pod_group({"b": "n0"}, requests={"cpu": "2"}))
    rig.settle()
    rig.issue(withdrawal(3, subject=SECOND))
    rig.settle()
    rig.tombstone(SECOND)
    rig.issue(withdrawal(4, subject=FIRST))
    rig.settle()
    rig.cluster.confirm_deletions()
    rig.settle()
    assert rig.reconciler._state.full_nodes == {}


def refuse_deletions(call: Call) -> CallFailed | None:
    return CallFailed(503, "ServiceUnavailable", "later") if isinstance(call, Delete) else None
