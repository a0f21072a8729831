"""What records say: the few fields that matter, and what is no one's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.status.decision.facts import OwnedFacts, PodFacts, PodPhase
from services.status.decision.messages import HeartbeatSeen, OwnedObjectSeen, PodSeen, ResultSeen, StatusStimulus
from services.status.intake import Intake
from services.status.observed import owned_facts, pod_facts
from services.status.positions import in_time_order
from shared.events.registry import DecodeError
from shared.events.topics import OBJECTS, PLACEMENTS, RESULTS
from shared.ports.event_log import NewRecord, Record
from tests.unit.status.records import (
    deployment,
    heartbeat_record,
    labels,
    object_record,
    placement_record,
    pod,
    pod_record,
    result_record,
)
from tests.unit.status.world import KEY, START_MS, placement


def stimulus(
    new: NewRecord, *, at_ms: int = START_MS, now_ms: int = START_MS + 50, live: bool = False
) -> StatusStimulus | None:
    intake = Intake()
    intake.live = live
    return intake.stimulus(Record(new.topic, 3, 7, at_ms, new.key, new.value, new.headers), now_ms)


def facts(body: dict[str, Any]) -> PodFacts | None:
    return pod_facts(json.dumps(body).encode())


def test_a_pod_is_its_workloads() -> None:
    seen = stimulus(pod_record("a", "web-0"))
    assert seen == PodSeen(
        id="fleet.objects/3/7",
        at_ms=START_MS,
        key="a/core/v1/pods/shop/web-0",
        cluster="a",
        pod=PodFacts(KEY, "web", PodPhase.RUNNING, ready=True),
    )


def test_a_tombstone_is_a_pod_that_is_gone() -> None:
    seen = stimulus(object_record("a", "core/v1/pods", "web-0", None))
    assert isinstance(seen, PodSeen)
    assert seen.pod is None


@pytest.mark.parametrize(
    "missing", [{}, {"flotilla.dev/workload": "cart"}, {**labels(), "flotilla.dev/workload": "a/b"}]
)
def test_a_pod_without_our_labels_is_no_ones(missing: dict[str, str]) -> None:
    assert facts(pod("x") | {"metadata": {"name": "x", "labels": missing}}) is None


def test_a_pod_says_that_it_ends_and_what_it_was_made_for() -> None:
    body = pod("x", deletionTimestamp="2026-01-01T00:00:00Z", annotations={"flotilla.dev/generation": "12"})
    seen = facts(body)
    assert seen is not None
    assert (seen.terminating, seen.generation) == (True, 12)


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, "Unschedulable"),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}, "CrashLoopBackOff"),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, ""),
        ({"containerStatuses": [{"state": {"running": {}}}]}, ""),
        ({"phase": "Strange"}, ""),
        (None, ""),
    ],
)
def test_what_keeps_a_pod_from_starting(status: dict[str, Any] | None, trouble: str) -> None:
    seen = facts(pod("x") | {"status": status})
    assert seen is not None
    assert (seen.trouble, seen.ready) == (trouble, False)


def test_a_deployment_says_how_far_it_is() -> None:
    seen = stimulus(object_record("a", "apps/v1/deployments", "cart-web", deployment(5, 2)))
    assert isinstance(seen, OwnedObjectSeen)
    assert seen.owned == OwnedFacts(
        KEY, "web", "Deployment", generation=5, digest="d5", current=True, wanted=2, updated=2, ready=2
    )


def test_a_deployment_says_what_is_left_of_its_former_specification() -> None:
    body = deployment(5, 2)
    body["status"]["replicas"] = 3
    seen = owned_facts("Deployment", json.dumps(body).encode())
    assert seen is not None
    assert (seen.updated, seen.outdated) == (2, 1)


def test_a_deployment_whose_controller_lags_is_not_current() -> None:
    body = deployment(5, 2)
    body["metadata"]["generation"] = 4
    seen = owned_facts("Deployment", json.dumps(body).encode())
    assert seen is not None
    assert not seen.current


def test_what_the_executor_did_not_apply_is_not_ours() -> None:
    body = deployment(5, 2)
    body["metadata"]["labels"] = labels()
    assert owned_facts("Deployment", json.dumps(body).encode()) is None


def test_jobs_and_daemon_sets_speak_their_own_words() -> None:
    metadata = {"labels": labels(applied=True), "generation": 1}
    job = {
        "metadata": metadata,
        "spec": {"completions": 3},
        "status": {"succeeded": 1, "active": 1, "conditions": [{"type": "Failed", "status": "True", "reason": "R"}]},
    }
    seen = owned_facts("Job", json.dumps(job).encode())
    assert seen is not None
    assert (seen.wanted, seen.succeeded, seen.active, seen.failed, seen.reason) == (3, 1, 1, True, "R")
    daemon = {
        "metadata": metadata,
        "status": {"desiredNumberScheduled": 4, "updatedNumberScheduled": 3, "numberReady": 2, "observedGeneration": 1},
    }
    seen = owned_facts("DaemonSet", json.dumps(daemon).encode())
    assert seen is not None
    assert (seen.wanted, seen.updated, seen.ready, seen.current) == (4, 3, 2, True)


def test_what_no_status_depends_on_is_not_even_decoded() -> None:
    node = NewRecord(OBJECTS.name, b"a/core/v1/nodes/-/n1", b"not json")
    marker = NewRecord(OBJECTS.name, b"a/-/sync/v1/pods", b"not json")
    assert stimulus(node) is None
    assert stimulus(marker) is None


def test_a_heartbeat_is_heard_now_when_live_and_then_when_restoring() -> None:
    record = heartbeat_record("a", at_ms=START_MS)
    live, restored = stimulus(record, live=True), stimulus(record)
    assert isinstance(live, HeartbeatSeen)
    assert isinstance(restored, HeartbeatSeen)
    assert (live.at_ms, restored.at_ms) == (START_MS + 50, START_MS)


def test_a_clock_that_runs_ahead_is_not_believed() -> None:
    seen = stimulus(pod_record("a", "web-0"), at_ms=START_MS + 9_999)
    assert seen is not None
    assert seen.at_ms == START_MS + 50


def test_a_report_says_from_where_to_read_it_again() -> None:
    seen = stimulus(result_record("a", 4, at_ms=START_MS))
    assert isinstance(seen, ResultSeen)
    assert (seen.key, seen.partition, seen.offset, seen.report.generation) == (KEY, 3, 7, 4)


def test_reports_on_other_subjects_are_no_ones() -> None:
    assert stimulus(result_record("a", at_ms=START_MS, subject="nodegroup/x")) is None


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (NewRecord(PLACEMENTS.name, KEY.encode(), b"{"), ""),
        (NewRecord(PLACEMENTS.name, b"nokey", placement({"a": 1}).to_json()), "key"),
        (NewRecord(PLACEMENTS.name, b"\xff", placement({"a": 1}).to_json()), "key"),
        (NewRecord(PLACEMENTS.name, KEY.encode(), b'{"epoch":1,"generation":"x","decidedAt":1}'), "generation"),
        (NewRecord(RESULTS.name, b"a/x", None), ""),
        (result_record("a", at_ms=1, subject="workload/none"), "subject"),
        (NewRecord(OBJECTS.name, b"a/core/v1/pods/shop/x", b"\xff\xfe"), ""),
        (NewRecord(OBJECTS.name, b"a/core/v1/pods/shop/x", b'{"metadata":{"labels":7}}'), ""),
        (NewRecord(OBJECTS.name, b"a/apps/v1/deployments/shop/x", b"[]"), ""),
        (NewRecord(OBJECTS.name, b"a/-/heartbeat", b"{}"), "cluster"),
    ],
)
def test_what_cannot_be_read_names_the_field(record: NewRecord, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        stimulus(record)
    assert caught.value.errors[0].field == field


def test_a_placement_keeps_its_key() -> None:
    seen = stimulus(placement_record(None))
    assert seen is not None
    assert seen == type(seen)(id="fleet.placements/3/7", at_ms=START_MS, key=KEY, placement=None)  # type: ignore[call-arg]


def test_a_batch_is_folded_by_time_but_each_partition_in_its_order() -> None:
    def record(topic: str, partition: int, offset: int, timestamp_ms: int) -> Record:
        return Record(topic, partition, offset, timestamp_ms, b"k", None)

    batch = [record("p", 0, 1, 10), record("p", 0, 2, 30), record("r", 0, 1, 20), record("r", 1, 1, 40)]
    batch.append(record("r", 1, 2, 5))  # a clock that was set back
    ordered = [(item.topic, item.partition, item.offset) for item in in_time_order(batch)]
    assert ordered == [("p", 0, 1), ("r", 0, 1), ("p", 0, 2), ("r", 1, 1), ("r", 1, 2)]
