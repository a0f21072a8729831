"""Replicas as the autoscaler wants them: decided upon, within bounds, and not undone by anything but a newer word."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import RequestRejected, Scaled, WorkloadPlaced
from shared.events.v1.scaling import PodSetScaled, WorkloadScaled
from tests.scheduling import Fleet, counts_of, image, placed, workload

Json = dict[str, Any]
KEY = "default/web"


def scaled(name: str = "web", replicas: int | None = 1, *, low: int = 1, high: int = 10, **more: Any) -> Json:
    return workload(name, image(replicas=replicas), scaling={"minReplicas": low, "maxReplicas": high}, **more)


def say(fleet: Fleet, uid: str, replicas: int | None, offset: int, state: SchedulerState | None = None) -> None:
    said = PodSetScaled(name="web", replicas=replicas, before=1)
    record = WorkloadScaled(uid=uid, workload_generation=1, evaluated_at=fleet.now, pod_sets=(said,))
    (state or fleet.state).observe_scaling(KEY, record, f"fleet.scaling/3/{offset}")


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def uid(fleet: Fleet) -> str:
    return placed(fleet.apply(scaled(replicas=2))).uid


def test_until_then_its_own_replicas_hold(fleet: Fleet, uid: str) -> None:
    assert fleet.placements[KEY].pod_sets[0].desired == 2
    assert fleet.pending() == []


def test_it_has_as_many_as_are_wanted_and_says_by_which_record(fleet: Fleet, uid: str) -> None:
    say(fleet, uid, 5, 7)
    decision = placed(fleet.pending())
    assert sum(counts_of(decision).values()) == decision.pod_sets[0].desired == 5
    assert decision.pod_sets[0].scaled == Scaled(replicas=5, position="fleet.scaling/3/7")
    assert (decision.workload_generation, decision.uid) == (1, uid)
    assert not fleet.state.has_work
    assert fleet.pending() == []


def test_down_as_well_and_to_nothing(fleet: Fleet) -> None:
    external = {"type": "External", "external": {"metric": {"name": "lag"}, "target": {"type": "Value", "value": "1"}}}
    scaling = {"minReplicas": 0, "maxReplicas": 9, "metrics": [external]}
    uid = placed(fleet.apply(workload("web", image(replicas=3), scaling=scaling))).uid
    say(fleet, uid, 0, 1)
    assert counts_of(placed(fleet.pending())) == {}


@pytest.mark.parametrize(("wanted", "got"), [(0, 2), (50, 6)])
def test_never_beyond_its_bounds(fleet: Fleet, wanted: int, got: int) -> None:
    uid = placed(fleet.apply(scaled(replicas=3, low=2, high=6))).uid
    say(fleet, uid, wanted, 1)
    assert placed(fleet.pending()).pod_sets[0].desired == got


def test_a_request_that_is_made_again_resets_nothing(fleet: Fleet, uid: str) -> None:
    say(fleet, uid, 5, 1)
    fleet.pending()
    assert fleet.apply(scaled(replicas=2)) == []
    decision = placed(fleet.apply(scaled(replicas=1, labels={"a": "b"})))
    assert (decision.pod_sets[0].desired, decision.workload_generation) == (5, 2)
    decision = placed(fleet.apply(scaled(replicas=1, high=4)))
    assert (decision.pod_sets[0].desired, decision.pod_sets[0].scaled) == (
        4,
        Scaled(replicas=5, position="fleet.scaling/3/1"),
    )


def test_what_is_scaled_no_more_has_its_own_replicas(fleet: Fleet, uid: str) -> None:
    say(fleet, uid, 5, 1)
    fleet.pending()
    decision = placed(fleet.apply(workload("web", image(replicas=2))))
    assert (decision.pod_sets[0].desired, decision.pod_sets[0].scaled) == (2, None)


def test_a_tombstone_and_a_word_that_says_nothing_leave_what_was_decided(fleet: Fleet, uid: str) -> None:
    say(fleet, uid, 5, 1)
    fleet.pending()
    say(fleet, uid, None, 2)
    assert fleet.pending() == []
    fleet.state.observe_scaling(KEY, None, "fleet.scaling/3/3")
    assert fleet.pending() == []
    assert placed(fleet.apply(scaled(replicas=1, labels={"a": "b"}))).pod_sets[0].desired == 5


def test_another_workload_of_that_name_is_not_meant(fleet: Fleet, uid: str) -> None:
    say(fleet, uid, 5, 1)
    fleet.delete("web")
    decision = placed(fleet.apply(scaled(replicas=2)))
    assert decision.uid != uid
    assert decision.pod_sets[0].desired == 2
    assert not any(isinstance(item, WorkloadPlaced) for item in fleet.pending())


def test_an_older_record_than_was_decided_by_is_nothing_new(fleet: Fleet, uid: str) -> None:
    """Who takes over may have read less of the topic than whoever led."""
    say(fleet, uid, 5, 9)
    decision = placed(fleet.pending())
    successor = Fleet()
    successor.state.apply(decision)
    say(successor, uid, 3, 4)
    assert successor.pending() == []
    say(successor, uid, 6, 10)
    assert placed(successor.pending()).pod_sets[0].desired == 6


@pytest.mark.parametrize("first", ["record", "decision"])
def test_whichever_is_read_first(fleet: Fleet, uid: str, first: str) -> None:
    successor, decision = Fleet(), fleet.placements[KEY]
    if first == "record":
        say(successor, uid, 4, 1)
        assert successor.pending() == []
    successor.state.apply(decision)
    if first == "decision":
        say(successor, uid, 4, 1)
    assert placed(successor.pending()).pod_sets[0].desired == 4


def test_a_replica_that_folds_the_decision_is_like_the_leader(fleet: Fleet, uid: str) -> None:
    say(fleet, uid, 5, 1)
    fleet.pending()
    standby = Fleet()
    for decision in fleet.journal:
        standby.state.apply(decision)
    assert (standby.state.hash(), standby.state.digest()) == (fleet.state.hash(), fleet.state.digest())


def test_many_replicas_come_in_portions(fleet: Fleet) -> None:
    fleet = Fleet(SchedulerConfig(placements_per_call=2))
    uids = {name: placed(fleet.apply(scaled(name))).uid for name in ("a", "b", "c")}
    for name, uid in uids.items():
        said = PodSetScaled(name="web", replicas=3, before=1)
        record = WorkloadScaled(uid=uid, workload_generation=1, evaluated_at=fleet.now, pod_sets=(said,))
        fleet.state.observe_scaling(f"default/{name}", record, "fleet.scaling/0/1")
    decided = [len(fleet.pending())]
    while fleet.state.has_work:
        decided.append(len(fleet.pending()))
    assert decided[:3] == [1, 1, 1]
    assert [fleet.placements[f"default/{name}"].pod_sets[0].placed for name in uids] == [3, 3, 3]


def test_what_is_not_divided_by_replicas_is_not_scaled(fleet: Fleet) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    }
    (answer,) = fleet.apply(workload("web", {"name": "web", "manifest": job}, scaling={"maxReplicas": 3}))
    assert isinstance(answer, RequestRejected)
    assert answer.errors[0].field == "workload.scaling.podSet"
    assert "is not divided by replicas" in answer.errors[0].message


def test_as_many_as_a_workload_may_have(fleet: Fleet) -> None:
    document = workload("web", image("a"), image("b", replicas=20_000), scaling={"maxReplicas": 30_000, "podSet": "a"})
    (answer,) = fleet.apply(document)
    assert isinstance(answer, RequestRejected)
    assert "50000 replicas are more than one workload may have" in answer.errors[0].message
