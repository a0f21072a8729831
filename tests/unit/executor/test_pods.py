"""Pods that Flotilla binds: created, bound, replaced within bounds, created again, never put on a bad node."""

from __future__ import annotations

import pytest

from services.executor.decision.backoff import CallFailed
from services.executor.decision.identity import GroupKind, ObjectId
from services.executor.decision.instructions import Apply, Bind, CreateNamespace, Delete
from shared.model.identities import FENCE_ANNOTATION, GENERATION_ANNOTATION, SCHEDULER_NAME
from tests.unit.executor.builders import SUBJECT, command, pod_group, withdrawal
from tests.unit.executor.model import STAMP_S, Rig

POD = GroupKind("", "Pod")
NODE = GroupKind("", "Node")


def pod(name: str) -> ObjectId:
    return ObjectId(POD, "shop", name)


def spread(count: int, nodes: int = 4) -> dict[str, str]:
    return {f"web-main-{number}": f"n{number % nodes}" for number in range(count)}


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    for number in range(4):
        rig.cluster.node(f"n{number}")
    return rig


def run(rig: Rig, generation: int, nodes: dict[str, str], *, image: str = "nginx:1", restart: str = "Always") -> None:
    rig.issue(command(generation, pods=[pod_group(nodes, image=image, restart=restart)]))
    rig.settle()


def where(rig: Rig) -> dict[str, str]:
    return {i.name: d["spec"].get("nodeName", "") for i, d in rig.cluster.of_subject(SUBJECT).items()}


def test_pods_are_created_and_bound(rig: Rig) -> None:
    run(rig, 1, spread(4))
    assert where(rig) == spread(4)
    assert {d["spec"]["schedulerName"] for d in rig.cluster.of_subject(SUBJECT).values()} == {SCHEDULER_NAME}
    assert (rig.last.outcome, rig.last.objects) == ("applied", 4)
    assert len(rig.cluster.calls) == 1 + 4 + 4, "a namespace, and two requests for each pod"


def test_bound_pods_cost_nothing_more(rig: Rig) -> None:
    run(rig, 1, spread(4))
    rig.cluster.run_pods()
    before = len(rig.cluster.calls)
    rig.settle()
    run(rig, 1, spread(4))
    assert len(rig.cluster.calls) == before


def test_a_crash_between_create_and_bind_is_made_good(rig: Rig) -> None:
    rig.issue(command(1, pods=[pod_group(spread(2))]))
    rig.settle_events()
    for call in rig.turn(SUBJECT):
        assert isinstance(call, CreateNamespace)
        rig.answer(call)
    for call in rig.turn(SUBJECT):
        rig.answer(call)
    assert set(where(rig).values()) == {""}
    uids = {d["metadata"]["uid"] for d in rig.cluster.of_subject(SUBJECT).values()}
    rig.restart()
    run(rig, 1, spread(2))
    assert where(rig) == spread(2)
    assert {d["metadata"]["uid"] for d in rig.cluster.of_subject(SUBJECT).values()} == uids, "no pod was made twice"


def test_pods_that_are_no_longer_named_are_deleted(rig: Rig) -> None:
    run(rig, 1, spread(4))
    run(rig, 2, spread(2))
    assert where(rig) == spread(2)


def test_a_repeat_with_a_newer_generation_stamps_one_pod(rig: Rig) -> None:
    run(rig, 1, spread(4))
    before = len(rig.cluster.calls)
    run(rig, 9, spread(4))
    rig.pass_time(STAMP_S)
    assert len(rig.cluster.calls) == before + 1
    rig.restart()
    run(rig, 8, spread(1))
    assert (rig.last.outcome, rig.last.applied_generation) == ("refused", 9)
    assert where(rig) == spread(4)


def test_a_pod_that_waits_for_its_replacement_bears_the_fence_and_not_the_new_generation(rig: Rig) -> None:
    """Found by simulation: pods of the old template passed for the new one's, and a rollout was through too early."""
    run(rig, 1, spread(2))
    rig.cluster.run_pods()
    rig.settle()
    rig.cluster.graceful = True  # the first takes its time to end, and until then nothing bears the new generation
    rig.issue(command(9, pods=[pod_group(spread(2), image="nginx:2")]))
    rig.settle()
    rig.pass_time(STAMP_S)
    marks = [rig.cluster.objects[pod(f"web-main-{n}")]["metadata"]["annotations"] for n in (0, 1)]
    waiting = next(item for item in marks if item.get(FENCE_ANNOTATION))
    assert (waiting[FENCE_ANNOTATION].partition("/")[2], waiting[GENERATION_ANNOTATION]) == ("9", "1")
    rig.restart()
    run(rig, 8, spread(1))
    assert (rig.last.outcome, rig.last.applied_generation) == ("refused", 9)


def test_scaling_up_touches_only_the_new_pods(rig: Rig) -> None:
    run(rig, 1, spread(2))
    before = len(rig.cluster.calls)
    run(rig, 2, spread(3))
    assert len(rig.cluster.calls) == before + 2
    annotations = rig.cluster.objects[pod("web-main-2")]["metadata"]["annotations"]
    assert annotations[GENERATION_ANNOTATION] == "2"


@pytest.mark.parametrize(("replicas", "at_once"), [(2, 1), (3, 1), (8, 2), (12, 3)])
def test_a_new_template_replaces_a_quarter_at_once(rig: Rig, replicas: int, at_once: int) -> None:
    run(rig, 1, spread(replicas))
    rig.cluster.run_pods()
    rig.settle()
    rig.issue(command(2, pods=[pod_group(spread(replicas), image="nginx:2")]))
    lowest = replicas
    for _ in range(4 * replicas):
        rig.settle()
        ready = [d for d in rig.cluster.of_subject(SUBJECT).values() if d.get("status", {}).get("phase") == "Running"]
        lowest = min(lowest, len(ready))
        rig.cluster.run_pods()
    assert lowest == replicas - at_once
    assert where(rig) == spread(replicas)
    images = {d["spec"]["containers"][0]["image"] for d in rig.cluster.of_subject(SUBJECT).values()}
    assert images == {"nginx:2"}
    assert (rig.last.generation, rig.last.outcome) == (2, "applied")


def test_a_roll_out_that_never_gets_ready_stops_and_says_so(rig: Rig) -> None:
    run(rig, 1, spread(8))
    rig.cluster.run_pods()
    rig.settle()
    run(rig, 2, spread(8), image="broken")
    rig.pass_time(200)
    old = [d for d in rig.cluster.of_subject(SUBJECT).values() if d["spec"]["containers"][0]["image"] == "nginx:1"]
    assert len(old) == 6
    assert (rig.last.outcome, rig.last.reason) == ("failed", "ProgressDeadlineExceeded")
    # Pods that do not serve are replaced at once by the next template.
    rig.issue(command(3, pods=[pod_group(spread(8))]))
    for _ in range(10):
        rig.settle()
        rig.cluster.run_pods()
    rig.settle()
    assert (rig.last.generation, rig.last.outcome) == (3, "applied")


def test_a_pod_on_another_node_is_moved(rig: Rig) -> None:
    run(rig, 1, {"web-main-0": "n0", "web-main-1": "n1"})
    rig.cluster.run_pods()
    run(rig, 2, {"web-main-0": "n2", "web-main-1": "n1"})
    assert where(rig) == {"web-main-0": "n2", "web-main-1": "n1"}
    assert len(rig.made(Delete)) == 1


def test_nothing_is_created_on_a_cordoned_or_missing_node(rig: Rig) -> None:
    rig.cluster.node("n1", unschedulable=True)
    run(rig, 1, {"web-main-0": "n0", "web-main-1": "n1", "web-main-2": "n9"})
    assert where(rig) == {"web-main-0": "n0"}
    assert (rig.last.outcome, rig.last.objects) == ("failed", 1)
    assert {(f.name, f.reason) for f in rig.last.failures} == {
        ("web-main-1", "NodeUnschedulable"),
        ("web-main-2", "NodeGone"),
    }
    rig.cluster.node("n1")
    rig.cluster.node("n9")
    rig.settle()
    assert rig.last.outcome == "applied"


def test_a_cordon_between_create_and_bind_keeps_the_pod_unbound(rig: Rig) -> None:
    rig.issue(command(1, pods=[pod_group({"web-main-0": "n0"})]))
    rig.settle_events()
    for _ in range(2):
        for call in rig.turn(SUBJECT):
            rig.answer(call)
    rig.cluster.node("n0", unschedulable=True)
    rig.settle()
    assert where(rig) == {"web-main-0": ""}
    assert rig.last.reason == "NodeUnschedulable"
    run(rig, 2, {"web-main-0": "n1"})
    assert where(rig) == {"web-main-0": "n1"}


def test_a_pod_is_not_taken_away_while_its_new_node_cannot_have_it(rig: Rig) -> None:
    run(rig, 1, {"web-main-0": "n0"})
    rig.cluster.node("n1", unschedulable=True)
    run(rig, 2, {"web-main-0": "n1"})
    assert where(rig) == {"web-main-0": "n0"}
    assert rig.last.reason == "NodeUnschedulable"


def test_a_deleted_or_failed_pod_is_created_again(rig: Rig) -> None:
    run(rig, 1, spread(2))
    rig.cluster.run_pods()
    rig.cluster.remove(pod("web-main-0"))
    rig.settle()
    assert where(rig) == spread(2)
    rig.cluster.change(pod("web-main-1"), lambda d: d.update(status={"phase": "Failed", "reason": "Evicted"}))
    rig.settle()
    assert where(rig) == spread(2)
    assert "status" not in rig.cluster.objects[pod("web-main-1")]


def test_a_pod_that_fails_again_and_again_is_created_ever_later(rig: Rig) -> None:
    run(rig, 1, {"web-main-0": "n0"}, restart="Never")
    for _ in range(120):
        if pod("web-main-0") in rig.cluster.objects:
            rig.cluster.change(pod("web-main-0"), lambda d: d.update(status={"phase": "Failed"}))
        rig.pass_time(1)
    assert 6 <= len(rig.made(Apply)) <= 9


@pytest.mark.parametrize("restart", ["Never", "OnFailure"])
def test_a_pod_that_succeeded_is_left_alone(rig: Rig, restart: str) -> None:
    run(rig, 1, {"web-main-0": "n0"}, restart=restart)
    rig.cluster.change(pod("web-main-0"), lambda d: d.update(status={"phase": "Succeeded"}))
    before = len(rig.cluster.calls)
    rig.settle()
    assert len(rig.cluster.calls) == before
    rig.cluster.remove(pod("web-main-0"))
    rig.settle()
    rig.pass_time(700, step=20)
    rig.restart()
    run(rig, 1, {"web-main-0": "n0"}, restart=restart)
    assert pod("web-main-0") not in rig.cluster.objects
    assert (rig.last.outcome, rig.last.objects) == ("applied", 1)


def test_a_pod_that_is_being_deleted_is_waited_for_and_forced_once_its_node_is_gone(rig: Rig) -> None:
    run(rig, 1, {"web-main-0": "n0"})
    rig.cluster.run_pods()
    # A lost kubelet: the deletion is never confirmed.
    rig.cluster.change(pod("web-main-0"), lambda d: d["metadata"].update(finalizers=["kubelet"]))
    run(rig, 2, {"web-main-0": "n1"})
    assert [call.at_once for call in rig.made(Delete) if isinstance(call, Delete)] == [False]
    rig.cluster.remove(ObjectId(NODE, "", "n0"))
    rig.settle()
    assert [call.at_once for call in rig.made(Delete) if isinstance(call, Delete)] == [False, True]
    rig.cluster.objects[pod("web-main-0")]["metadata"]["finalizers"] = []
    rig.cluster.remove(pod("web-main-0"))
    rig.settle()
    assert where(rig) == {"web-main-0": "n1"}


def test_a_pods_changed_image_is_put_right(rig: Rig) -> None:
    run(rig, 1, {"web-main-0": "n0"})
    rig.cluster.run_pods()
    rig.settle()
    rig.cluster.change(pod("web-main-0"), lambda d: d["spec"]["containers"][0].update(image="evil"))
    rig.settle()
    assert rig.cluster.objects[pod("web-main-0")]["spec"]["containers"][0]["image"] == "nginx:1"
    assert rig.made(Delete) == []


def test_binding_is_for_the_pod_with_this_uid(rig: Rig) -> None:
    rig.issue(command(1, pods=[pod_group({"web-main-0": "n0"})]))
    rig.settle_events()
    for _ in range(2):
        for call in rig.turn(SUBJECT):
            rig.answer(call)
    (bind,) = rig.turn(SUBJECT)
    assert isinstance(bind, Bind)
    rig.cluster.remove(pod("web-main-0"))
    rig.answer(bind)
    rig.settle()
    rig.pass_time(3)
    assert where(rig) == {"web-main-0": "n0"}


def test_a_withdrawal_deletes_all_pods(rig: Rig) -> None:
    run(rig, 1, spread(4))
    rig.issue(withdrawal(2))
    rig.settle()
    assert where(rig) == {}
    assert rig.last.outcome == "withdrawn"


def test_a_changed_image_is_found_by_the_next_process(rig: Rig) -> None:
    run(rig, 1, {"web-main-0": "n0"})
    rig.restart()
    rig.cluster.change(pod("web-main-0"), lambda d: d["spec"]["containers"][0].update(image="evil"))
    run(rig, 1, {"web-main-0": "n0"})
    assert rig.cluster.objects[pod("web-main-0")]["spec"]["containers"][0]["image"] == "nginx:1"


def test_a_pod_that_admission_made_another_is_left_as_it_is(rig: Rig) -> None:
    run(rig, 1, {"web-main-0": "n0"})
    rig.restart()
    rig.cluster.fault = lambda call: CallFailed(422, "Invalid", "immutable") if isinstance(call, Apply) else None
    run(rig, 1, {"web-main-0": "n0"})
    assert (rig.last.outcome, rig.last.objects) == ("applied", 1)
    rig.pass_time(100)
    assert len(rig.made(Apply)) == 2
