"""The reconciler on a model cluster: apply, repair, prune, withdraw, fence, back off, report."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.executor.decision.backoff import CallFailed
from services.executor.decision.identity import GroupKind, ObjectId
from services.executor.decision.instructions import Annotate, Apply, Call, CreateNamespace, Delete
from shared.model.identities import (
    APPLIED_BY_LABEL,
    DIGEST_ANNOTATION,
    ENDED_ANNOTATION_PREFIX,
    EPOCH_ANNOTATION,
    GENERATION_ANNOTATION,
    MANAGED_BY_LABEL,
    POD_SET_LABEL,
    WORKLOAD_LABEL,
    WORKLOAD_NAMESPACE_LABEL,
)
from tests.unit.executor.builders import SUBJECT, command, config_map, deployment, job, withdrawal
from tests.unit.executor.model import STAMP_S, Rig

DEPLOYMENT = GroupKind("apps", "Deployment")
CONFIG_MAP = GroupKind("", "ConfigMap")
JOB = GroupKind("batch", "Job")
WEB = ObjectId(DEPLOYMENT, "shop", "web-main")
SETTINGS = ObjectId(CONFIG_MAP, "shop", "settings")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def run(rig: Rig, generation: int, *objects: dict[str, Any], **more: Any) -> None:
    rig.issue(command(generation, *objects, **more))
    rig.settle()


def image(rig: Rig, object_id: ObjectId = WEB) -> str:
    return str(rig.cluster.objects[object_id]["spec"]["template"]["spec"]["containers"][0]["image"])


def fail_with(failure: CallFailed, *, kind: type[Call] = Apply) -> Any:
    return lambda call: failure if isinstance(call, kind) else None


def test_a_command_is_applied_with_marks_and_reported(rig: Rig) -> None:
    issued = command(7, deployment(), epoch=3)
    rig.issue(issued)
    rig.settle()

    metadata = rig.cluster.objects[WEB]["metadata"]
    assert metadata["labels"] == {
        MANAGED_BY_LABEL: "flotilla",
        APPLIED_BY_LABEL: "executor",
        WORKLOAD_LABEL: "web",
        WORKLOAD_NAMESPACE_LABEL: "shop",
        POD_SET_LABEL: "main",
    }
    assert metadata["annotations"][GENERATION_ANNOTATION] == "7"
    assert metadata["annotations"][EPOCH_ANNOTATION] == "3"
    assert metadata["annotations"][DIGEST_ANNOTATION] == issued.digest
    assert [(r.outcome, r.generation, r.epoch, r.objects) for r in rig.reports] == [("applied", 7, 3, 1)]


def test_an_apply_costs_one_request_and_its_own_events_none(rig: Rig) -> None:
    rig.cluster.put(GroupKind("", "Namespace"), {"metadata": {"name": "shop"}})
    run(rig, 1, deployment())
    assert [type(call) for call in rig.cluster.calls] == [Apply]


def test_a_missing_namespace_is_created_first_and_an_existing_one_left_alone(rig: Rig) -> None:
    run(rig, 1, deployment())
    assert [type(call) for call in rig.cluster.calls] == [CreateNamespace, Apply]


def test_what_only_a_server_may_write_is_left_out(rig: Rig) -> None:
    manifest = deployment(uid="u", resourceVersion="5", managedFields=[{}], creationTimestamp="x", generation=4)
    run(rig, 1, manifest | {"status": {"replicas": 9}})
    (apply,) = rig.made(Apply)
    assert isinstance(apply, Apply)
    assert "status" not in apply.body
    assert set(apply.body["metadata"]) == {"name", "namespace", "labels", "annotations"}


def test_the_pod_template_is_not_touched(rig: Rig) -> None:
    run(rig, 1, deployment())
    assert rig.cluster.objects[WEB]["spec"] == deployment()["spec"]


def test_a_new_generation_is_applied_and_reported(rig: Rig) -> None:
    run(rig, 1, deployment())
    run(rig, 2, deployment(image="nginx:2"))
    assert image(rig) == "nginx:2"
    assert [(r.outcome, r.generation) for r in rig.reports] == [("applied", 1), ("applied", 2)]


def test_no_turn_before_the_topic_was_read_to_its_end() -> None:
    rig = Rig(start=False)
    rig.issue(command(1, deployment()), read=False)
    rig.settle()
    assert rig.cluster.calls == []
    rig.issue(command(2, deployment(image="nginx:2")), read=False)
    rig.read_to_end()
    rig.settle()
    assert len(rig.made(Apply)) == 1
    assert image(rig) == "nginx:2"


def test_a_repeat_with_equal_content_raises_the_fence_with_one_request(rig: Rig) -> None:
    run(rig, 1, deployment("web-a"), deployment("web-b"))
    before = len(rig.cluster.calls)
    for generation in (3, 4, 5):
        run(rig, generation, deployment("web-a"), deployment("web-b"))
        assert rig.last.generation == generation
    assert len(rig.cluster.calls) == before  # said at once, written once for all that come within a while
    rig.pass_time(STAMP_S)
    assert len(rig.cluster.calls) == before + 1
    owned = rig.cluster.of_subject(SUBJECT).values()
    assert {d["metadata"]["annotations"][GENERATION_ANNOTATION] for d in owned} == {"1", "5"}
    assert len([report for report in rig.reports if report.generation == 5]) == 1
    # The fence outlives the process, although only one object carries it.
    rig.restart()
    run(rig, 4, deployment("web-a", image="old"))
    assert rig.last.outcome == "refused"
    assert rig.last.applied_generation == 5


def test_the_very_same_record_again_costs_nothing(rig: Rig) -> None:
    run(rig, 1, deployment())
    before = len(rig.cluster.calls)
    run(rig, 1, deployment())
    assert len(rig.cluster.calls) == before
    assert len(rig.reports) == 1


# The fence


@pytest.mark.parametrize(("epoch", "generation"), [(2, 4), (1, 9)])
def test_an_older_generation_or_epoch_is_refused(rig: Rig, epoch: int, generation: int) -> None:
    run(rig, 5, deployment(), epoch=2)
    run(rig, generation, deployment(image="old"), epoch=epoch)
    assert image(rig) == "nginx:1"
    assert (rig.last.outcome, rig.last.generation, rig.last.applied_generation) == ("refused", generation, 5)


def test_a_void_command_that_was_applied_is_replaced_by_the_next_epochs(rig: Rig) -> None:
    """A replaced leader's command has a higher generation, and nothing in the cluster told that it was void."""
    run(rig, 9, deployment(image="void"), epoch=1)
    run(rig, 5, deployment(image="valid"), epoch=2)
    assert image(rig) == "valid"
    assert (rig.last.outcome, rig.last.generation) == ("applied", 5)


def test_the_fence_holds_across_a_restart(rig: Rig) -> None:
    run(rig, 5, deployment())
    rig.restart()
    run(rig, 3, deployment(image="old"))
    assert image(rig) == "nginx:1"
    assert (rig.last.outcome, rig.last.applied_generation) == ("refused", 5)
    run(rig, 6, deployment(image="new"))
    assert image(rig) == "new"
    assert rig.last.outcome == "applied"


def test_a_stale_withdrawal_deletes_nothing(rig: Rig) -> None:
    run(rig, 5, deployment())
    rig.restart()
    rig.issue(withdrawal(3))
    rig.settle()
    assert WEB in rig.cluster.objects
    assert rig.last.outcome == "refused"


def test_a_stale_record_followed_by_the_newest_is_not_worth_a_word(rig: Rig) -> None:
    run(rig, 5, deployment())
    rig.issue(command(3, deployment(image="old")), command(5, deployment()))
    rig.settle()
    assert [r.outcome for r in rig.reports] == ["applied"]


def late(rig: Rig) -> Apply:
    """A call whose answer never came; its subject was withdrawn and forgotten since. It may still be carried out."""
    run(rig, 5, deployment())
    (call,) = [call for call in rig.cluster.calls if isinstance(call, Apply)]
    rig.issue(withdrawal(6))
    rig.settle()
    rig.tombstone(SUBJECT)
    rig.settle()
    assert rig.cluster.of_subject(SUBJECT) == {}
    return call


def test_a_write_that_comes_after_its_subject_was_withdrawn_and_forgotten_is_undone(rig: Rig) -> None:
    call = late(rig)
    said = len(rig.reports)
    for _ in range(2):
        rig.cluster.put(DEPLOYMENT, dict(call.body))
        rig.settle()
        assert rig.cluster.of_subject(SUBJECT) == {}
    assert len(rig.reports) == said  # nothing of it is news
    assert rig.reconciler.subjects == 0


def test_what_is_newer_than_the_withdrawal_is_left_alone(rig: Rig) -> None:
    call = late(rig)
    newer = copy.deepcopy(dict(call.body))
    newer["metadata"]["annotations"][GENERATION_ANNOTATION] = "7"
    rig.cluster.put(DEPLOYMENT, newer)
    rig.settle()
    assert WEB in rig.cluster.objects


def test_what_is_forgotten_without_a_withdrawal_is_left_alone(rig: Rig) -> None:
    run(rig, 5, deployment())
    (call,) = [call for call in rig.cluster.calls if isinstance(call, Apply)]
    rig.tombstone(SUBJECT)
    rig.cluster.put(DEPLOYMENT, dict(call.body))
    rig.settle()
    assert WEB in rig.cluster.objects


def test_a_subject_that_comes_again_is_not_withdrawn_by_what_was_late(rig: Rig) -> None:
    call = late(rig)
    run(rig, 8, deployment())
    rig.cluster.put(DEPLOYMENT, dict(call.body))
    rig.settle()
    assert rig.cluster.objects[WEB]["metadata"]["annotations"][GENERATION_ANNOTATION] == "8"
    assert rig.last.outcome == "applied"


def test_the_fence_outlives_a_tombstone(rig: Rig) -> None:
    run(rig, 5, deployment())
    rig.issue(withdrawal(6))
    rig.settle()
    rig.tombstone(SUBJECT)
    run(rig, 5, deployment())
    assert WEB not in rig.cluster.objects
    assert (rig.last.outcome, rig.last.applied_generation) == ("refused", 6)


# Drift


def test_a_deleted_object_is_applied_again(rig: Rig) -> None:
    run(rig, 1, deployment())
    rig.cluster.remove(WEB)
    rig.settle()
    assert WEB in rig.cluster.objects
    assert len(rig.reports) == 1


def test_a_changed_object_is_put_right(rig: Rig) -> None:
    run(rig, 1, deployment())
    rig.cluster.change(WEB, lambda d: d["spec"].update(replicas=50))
    rig.settle()
    assert rig.cluster.objects[WEB]["spec"]["replicas"] == 1


def test_an_object_of_a_kind_without_generation_is_put_right(rig: Rig) -> None:
    run(rig, 1, config_map(key="right"))
    rig.cluster.change(SETTINGS, lambda d: d["data"].update(key="wrong"))
    rig.settle()
    assert rig.cluster.objects[SETTINGS]["data"] == {"key": "right"}


@pytest.mark.parametrize("label", [APPLIED_BY_LABEL, WORKLOAD_LABEL])
def test_labels_that_were_taken_away_come_back(rig: Rig, label: str) -> None:
    run(rig, 1, deployment())
    rig.cluster.change(WEB, lambda d: d["metadata"]["labels"].pop(label))
    rig.settle()
    assert label in rig.cluster.objects[WEB]["metadata"]["labels"]
    rig.cluster.remove(WEB)
    rig.settle()
    rig.pass_time(5)
    assert WEB in rig.cluster.objects


def test_what_others_add_is_no_drift(rig: Rig) -> None:
    run(rig, 1, deployment())
    before = len(rig.cluster.calls)
    rig.cluster.change(WEB, lambda d: d.update(status={"readyReplicas": 1}))
    rig.cluster.change(WEB, lambda d: d["metadata"]["annotations"].update({"deployment.kubernetes.io/revision": "1"}))
    rig.cluster.change(WEB, lambda d: d["spec"].update(paused=False))
    containers = rig.cluster.objects[WEB]["spec"]["template"]["spec"]["containers"]
    added = [{**containers[0], "imagePullPolicy": "Always"}]
    rig.cluster.change(WEB, lambda d: d["spec"]["template"]["spec"].update(containers=added))
    rig.settle()
    assert len(rig.cluster.calls) == before


def test_what_the_server_writes_differently_is_no_drift(rig: Rig) -> None:
    """A webhook or a canonical form changes what was applied: the answer is what counts."""
    store = rig.cluster._store

    def canonical(object_id: ObjectId, document: dict[str, Any]) -> dict[str, Any]:
        if object_id == WEB:
            document["spec"]["template"]["spec"]["containers"][0]["image"] += "@sha256:1"
        return store(object_id, document)

    rig.cluster._store = canonical  # type: ignore[method-assign]
    run(rig, 1, deployment())
    rig.cluster._store = store  # type: ignore[method-assign]
    rig.cluster.change(WEB, lambda d: d.update(status={"replicas": 1}))
    rig.settle()
    assert len(rig.made(Apply)) == 1


def test_a_fight_over_an_object_is_fought_ever_more_slowly(rig: Rig) -> None:
    run(rig, 1, deployment())
    for _ in range(120):
        rig.cluster.change(WEB, lambda d: d["spec"].update(replicas=50))
        rig.pass_time(1)
    # Two minutes: at once, then after 1, 2, 4, 8, 16, 32 seconds.
    assert 6 <= len(rig.made(Apply)) - 1 <= 8
    rig.pass_time(300)
    assert rig.cluster.objects[WEB]["spec"]["replicas"] == 1


def test_drift_before_the_answer_is_seen(rig: Rig) -> None:
    """The watch shows a change that was made right after our apply, before its answer comes."""
    rig.cluster.put(GroupKind("", "Namespace"), {"metadata": {"name": "shop"}})
    rig.issue(command(1, deployment()))
    rig.settle_events()
    (call,) = rig.turn(SUBJECT)
    answer = rig.cluster.answer(call)
    rig.cluster.change(WEB, lambda d: d["spec"].update(replicas=50))
    rig.settle_events()
    rig.told(call, answer)
    rig.settle()
    assert rig.cluster.objects[WEB]["spec"]["replicas"] == 1


def test_an_answer_behind_the_deletion_of_its_object_does_not_bring_it_back(rig: Rig) -> None:
    rig.cluster.put(GroupKind("", "Namespace"), {"metadata": {"name": "shop"}})
    rig.issue(command(1, deployment()))
    rig.settle_events()
    (call,) = rig.turn(SUBJECT)
    answer = rig.cluster.answer(call)
    rig.cluster.remove(WEB)
    rig.settle_events()
    rig.told(call, answer)
    rig.settle()
    assert WEB in rig.cluster.objects, "the deletion was noticed and repaired"


def test_a_relist_finds_what_the_watch_missed(rig: Rig) -> None:
    run(rig, 1, deployment())
    rig.cluster.listeners = []
    rig.cluster.remove(WEB)
    rig.relist(DEPLOYMENT)
    rig.settle()
    assert WEB in rig.cluster.objects


def test_a_resync_applies_everything_again(rig: Rig) -> None:
    run(rig, 1, deployment())
    rig.cluster.listeners = []
    rig.cluster.change(WEB, lambda d: d["spec"].update(replicas=50))
    rig.pass_time(600, step=10)
    assert rig.cluster.objects[WEB]["spec"]["replicas"] == 1
    assert len(rig.reports) == 1


def finish(rig: Rig, name: str) -> None:
    complete = {"conditions": [{"type": "Complete", "status": "True"}]}
    rig.cluster.change(ObjectId(JOB, "shop", name), lambda d: d.update(status=complete))
    rig.settle()


@pytest.mark.parametrize("ttl_s", [None, 1])
def test_a_job_that_ended_and_was_removed_does_not_run_again(rig: Rig, ttl_s: int | None) -> None:
    once = ObjectId(JOB, "shop", "once")
    run(rig, 1, job(ttl_s=ttl_s))
    finish(rig, "once")
    rig.cluster.remove(once)
    rig.settle()
    rig.pass_time(700, step=10)
    # Neither for another process, nor because the rest of the command changes.
    rig.restart()
    run(rig, 1, job(ttl_s=ttl_s))
    assert rig.last.objects == 1
    run(rig, 2, job(ttl_s=ttl_s), deployment())
    assert once not in rig.cluster.objects
    # But with another content, or after a withdrawal.
    run(rig, 3, {**job(ttl_s=ttl_s), "metadata": {"name": "once", "labels": {"run": "2"}}})
    assert once in rig.cluster.objects
    finish(rig, "once")
    rig.cluster.remove(once)
    rig.issue(withdrawal(4))
    rig.settle()
    assert rig.last.outcome == "withdrawn"
    run(rig, 5, {**job(ttl_s=ttl_s), "metadata": {"name": "once", "labels": {"run": "2"}}})
    assert once in rig.cluster.objects


def test_a_job_that_removes_itself_while_nobody_watches_does_not_run_again(rig: Rig) -> None:
    run(rig, 1, job(ttl_s=1))
    finish(rig, "once")
    rig.cluster.listeners = []
    rig.cluster.remove(ObjectId(JOB, "shop", "once"))
    rig.restart()
    run(rig, 1, job(ttl_s=1))
    assert ObjectId(JOB, "shop", "once") not in rig.cluster.objects


def test_notes_of_endings_go_with_what_they_are_about(rig: Rig) -> None:
    shop = ObjectId(GroupKind("", "Namespace"), "", "shop")

    def notes() -> int:
        annotations = rig.cluster.objects[shop]["metadata"].get("annotations", {})
        return sum(key.startswith(ENDED_ANNOTATION_PREFIX) for key in annotations)

    run(rig, 1, job("one", ttl_s=1), job("two", ttl_s=1))
    finish(rig, "one")
    finish(rig, "two")
    assert notes() == 2
    run(rig, 2, job("two", ttl_s=1))
    assert notes() == 1
    rig.issue(withdrawal(3))
    rig.settle()
    assert notes() == 0


def test_an_unfinished_job_that_somebody_deletes_runs_again(rig: Rig) -> None:
    run(rig, 1, job())
    rig.cluster.remove(ObjectId(JOB, "shop", "once"))
    rig.settle()
    assert ObjectId(JOB, "shop", "once") in rig.cluster.objects


# Prune


def test_what_the_command_no_longer_names_is_deleted(rig: Rig) -> None:
    run(rig, 1, deployment("web-a"), deployment("web-b"))
    run(rig, 2, deployment("web-b"))
    assert {i.name for i in rig.cluster.of_subject(SUBJECT)} == {"web-b"}


def test_nothing_is_pruned_while_what_is_named_is_refused(rig: Rig) -> None:
    run(rig, 1, deployment("old"))
    rig.cluster.fault = fail_with(CallFailed(422, "Invalid", "no"))
    run(rig, 2, deployment("new"))
    assert {i.name for i in rig.cluster.of_subject(SUBJECT)} == {"old"}
    rig.cluster.fault = lambda _: None
    rig.pass_time(70)
    assert {i.name for i in rig.cluster.of_subject(SUBJECT)} == {"new"}


def test_kinds_are_remembered_across_restarts(rig: Rig) -> None:
    """A kind that only an earlier command used is still listed by the next process, and so pruned."""
    run(rig, 1, config_map(), deployment())
    assert [type(c) for c in rig.cluster.calls[:2]] == [CreateNamespace, Annotate]
    rig.restart()
    run(rig, 2, deployment())
    assert set(rig.cluster.of_subject(SUBJECT)) == {WEB}


def test_a_withdrawal_after_a_restart_finds_remembered_kinds(rig: Rig) -> None:
    run(rig, 1, config_map())
    rig.restart()
    rig.issue(withdrawal(2))
    rig.settle()
    assert rig.cluster.of_subject(SUBJECT) == {}
    assert rig.last.outcome == "withdrawn"


def test_copies_and_children_with_our_marks_are_not_ours(rig: Rig) -> None:
    run(rig, 1, deployment())
    copied = {**rig.cluster.objects[WEB], "metadata": {**rig.cluster.objects[WEB]["metadata"], "name": "my-copy"}}
    rig.cluster.put(DEPLOYMENT, copied)
    child = {**rig.cluster.objects[WEB]["metadata"], "ownerReferences": [{"controller": True}], "generation": 1}
    rig.cluster.put(GroupKind("apps", "ReplicaSet"), {"metadata": child, "spec": {}})
    run(rig, 2, deployment(image="nginx:2"))
    rig.issue(withdrawal(3))
    rig.settle()
    assert {i.name for i in rig.cluster.of_subject(SUBJECT)} == {"my-copy", "web-main"}
    assert WEB not in rig.cluster.objects


def test_a_cluster_scoped_object_has_no_namespace(rig: Rig) -> None:
    planet = {"apiVersion": "example.com/v1", "kind": "Planet", "metadata": {"name": "mars"}, "spec": {}}
    run(rig, 1, planet)
    assert ObjectId(GroupKind("example.com", "Planet"), "", "mars") in rig.cluster.objects
    rig.issue(withdrawal(2))
    rig.settle()
    assert rig.last.outcome == "withdrawn"
    assert rig.cluster.of_subject(SUBJECT) == {}


def test_the_same_object_in_another_version_is_not_pruned(rig: Rig) -> None:
    planet = {"apiVersion": "example.com/v1beta1", "kind": "Planet", "metadata": {"name": "mars"}}
    run(rig, 1, planet)
    run(rig, 2, planet | {"apiVersion": "example.com/v1"})
    assert rig.made(Delete) == []


# Withdraw, tombstone


def test_a_withdrawal_waits_for_finalizers(rig: Rig) -> None:
    run(rig, 1, deployment(finalizers=["example.com/hold"]))
    rig.issue(withdrawal(2))
    rig.settle()
    assert len(rig.made(Delete)) == 1
    assert rig.last.outcome == "applied"
    rig.pass_time(130)
    assert (rig.last.outcome, rig.last.reason) == ("failed", "ProgressDeadlineExceeded")
    assert "example.com/hold" in rig.last.message
    rig.cluster.objects[WEB]["metadata"]["finalizers"] = []
    rig.cluster.remove(WEB)
    rig.settle()
    assert (rig.last.outcome, rig.last.generation) == ("withdrawn", 2)


def test_a_withdrawn_subject_may_run_again(rig: Rig) -> None:
    run(rig, 1, job())
    rig.issue(withdrawal(2))
    rig.settle()
    run(rig, 3, job())
    assert ObjectId(JOB, "shop", "once") in rig.cluster.objects
    assert [r.outcome for r in rig.reports] == ["applied", "withdrawn", "applied"]


def test_a_tombstone_deletes_nothing(rig: Rig) -> None:
    run(rig, 1, deployment())
    rig.tombstone(SUBJECT)
    rig.settle()
    assert WEB in rig.cluster.objects
    assert rig.reconciler.subjects == 0


@pytest.mark.parametrize(("generation", "epoch"), [(4, 1), (5, 1), (9, 0)])
def test_a_tombstone_that_is_older_than_the_command_is_refused(rig: Rig, generation: int, epoch: int) -> None:
    """A replaced leader repeated it behind its successor's command: the leader is told, and publishes that again."""
    run(rig, 5, deployment())
    rig.tombstone(SUBJECT, generation, epoch)
    rig.settle()
    assert rig.reconciler.subjects == 1
    assert (rig.last.outcome, rig.last.generation, rig.last.digest) == ("refused", generation, "")
    assert (rig.last.applied_generation, rig.last.subject) == (5, SUBJECT)
    run(rig, 5, deployment())
    assert rig.last.outcome == "applied"


@pytest.mark.parametrize("generation", [6, 7])
def test_a_tombstone_ends_a_withdrawal_of_its_own_generation_and_an_older_one(rig: Rig, generation: int) -> None:
    run(rig, 5, deployment())
    rig.issue(withdrawal(6))
    rig.settle()
    rig.tombstone(SUBJECT, generation)
    assert rig.reconciler.subjects == 0
    assert [report.outcome for report in rig.reports] == ["applied", "withdrawn"]


def test_what_is_older_than_the_tombstone_is_refused_also_by_who_knows_nothing_else(rig: Rig) -> None:
    """Of what was withdrawn nothing is left in the cluster, and compaction left the tombstone alone in the topic."""
    rig.tombstone(SUBJECT, 7)
    run(rig, 5, deployment())
    assert WEB not in rig.cluster.objects
    assert (rig.last.outcome, rig.last.generation, rig.last.applied_generation) == ("refused", 5, 7)
    run(rig, 8, deployment())
    assert rig.last.outcome == "applied"


def test_the_current_state_is_reported_once_after_a_restart(rig: Rig) -> None:
    run(rig, 1, deployment())
    rig.restart()
    run(rig, 1, deployment())
    rig.read_to_end()
    rig.pass_time(10)
    assert [(r.outcome, r.generation) for r in rig.reports] == [("applied", 1), ("applied", 1)]


# Failures


def test_a_refused_object_is_reported_and_tried_again_with_backoff(rig: Rig) -> None:
    rig.cluster.fault = fail_with(CallFailed(500, "InternalError", "broken"))
    run(rig, 1, deployment())
    assert (rig.last.outcome, rig.last.reason) == ("failed", "InternalError")
    assert [(f.kind, f.namespace, f.name, f.reason) for f in rig.last.failures] == [
        ("Deployment", "shop", "web-main", "InternalError")
    ]
    rig.pass_time(120, step=0.25)
    # The ceilings are 0.5, 1, 2, … 60 s and half of them is waited on average: far fewer than one a second.
    assert 5 <= len(rig.made(Apply)) <= 30
    assert len(rig.reports) == 1
    rig.cluster.fault = lambda _: None
    rig.pass_time(61)
    assert rig.last.outcome == "applied"


def test_a_lasting_refusal_waits_for_the_longest_backoff_or_another_command(rig: Rig) -> None:
    rig.cluster.fault = fail_with(CallFailed(422, "Invalid", "spec.replicas must not be negative"))
    run(rig, 1, deployment())
    rig.pass_time(44)
    assert len(rig.made(Apply)) == 1
    rig.pass_time(17)
    assert len(rig.made(Apply)) == 2
    rig.cluster.fault = lambda _: None
    run(rig, 2, deployment(image="other"))
    assert rig.last.outcome == "applied"


def test_retry_after_is_respected(rig: Rig) -> None:
    rig.cluster.fault = fail_with(CallFailed(429, "TooManyRequests", "later", retry_after_s=20.0))
    run(rig, 1, deployment())
    rig.cluster.fault = lambda _: None
    rig.pass_time(19.5)
    assert len(rig.made(Apply)) == 1
    rig.pass_time(1)
    assert rig.last.outcome == "applied"


def test_one_bad_object_stops_no_other(rig: Rig) -> None:
    def fault(call: Call) -> CallFailed | None:
        return CallFailed(422, "Invalid", "no") if call.target.name == "bad" else None

    rig.cluster.fault = fault
    run(rig, 1, deployment("bad"), deployment("good"))
    assert ObjectId(DEPLOYMENT, "shop", "good") in rig.cluster.objects
    assert (rig.last.outcome, rig.last.objects) == ("failed", 1)


def test_a_kind_that_is_not_served_is_reported_and_applied_once_it_is(rig: Rig) -> None:
    planets = GroupKind("example.com", "Planet")
    rig.cluster.unserved.add(planets)
    run(rig, 1, {"apiVersion": "example.com/v1", "kind": "Planet", "metadata": {"name": "mars"}}, deployment())
    assert (rig.last.outcome, rig.last.reason, rig.last.objects) == ("failed", "KindNotServed", 1)
    rig.serve(planets)
    rig.settle()
    assert (rig.last.outcome, rig.last.objects) == ("applied", 2)


def test_a_terminating_namespace_is_waited_for(rig: Rig) -> None:
    shop = ObjectId(GroupKind("", "Namespace"), "", "shop")
    gone = "2026-01-01T00:00:00Z"
    rig.cluster.put(GroupKind("", "Namespace"), {"metadata": {"name": "shop", "deletionTimestamp": gone}})
    run(rig, 1, deployment())
    assert rig.last.reason == "NamespaceTerminating"
    rig.cluster.remove(shop)
    rig.settle()
    assert rig.last.outcome == "applied"


def test_an_object_that_two_subjects_name_stays_with_the_first(rig: Rig) -> None:
    run(rig, 1, deployment())
    rig.issue(command(2, deployment(image="mine"), subject="workload/shop/other"))
    rig.settle()
    assert (rig.last.subject, rig.last.reason) == ("workload/shop/other", "OwnedByAnother")
    assert image(rig) == "nginx:1"
    rig.issue(withdrawal(3))
    rig.settle()
    assert image(rig) == "mine"
    assert {(r.subject, r.outcome) for r in rig.reports[-2:]} == {
        (SUBJECT, "withdrawn"),
        ("workload/shop/other", "applied"),
    }


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ({"kind": "Deployment", "metadata": {"name": "x"}}, "apiVersion"),
        ({"apiVersion": "v1", "kind": "Pod"}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": []}, "metadata"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": "a"}}, "labels"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "data": 2**70}, "64-bit"),
    ],
)
def test_a_malformed_manifest_is_reported_and_the_last_good_command_stays(
    rig: Rig, manifest: dict[str, Any], says: str
) -> None:
    run(rig, 1, deployment())
    run(rig, 2, manifest, digest="d")
    assert (rig.last.outcome, rig.last.reason, rig.last.generation) == ("failed", "Malformed", 2)
    assert says in rig.last.message
    rig.cluster.remove(WEB)
    rig.settle()
    assert WEB in rig.cluster.objects


def test_a_command_for_another_cluster_is_not_obeyed(rig: Rig) -> None:
    run(rig, 1, deployment(), cluster="west")
    assert rig.cluster.calls == []
    assert rig.last.reason == "Malformed"
