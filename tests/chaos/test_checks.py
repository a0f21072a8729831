"""Every check finds what it is for, in histories made by hand, and nothing in one that is as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.events.topics import STATUS
from shared.events.v1.status import Phase, WorkloadStatus
from shared.model.identities import (
    POD_SET_LABEL,
    SCHEDULER_NAME,
    WORKLOAD_LABEL,
    WORKLOAD_NAMESPACE_LABEL,
)
from shared.ports.event_log import Record
from tests.chaos import checks
from tests.chaos.journalist import SERVES
from tests.chaos.requests import Wish
from tests.simulation.checker import Evidence
from tests.simulation.history import History, Lived, Written

Json = dict[str, Any]
KEY = "chaos/web"
LABELS = {WORKLOAD_LABEL: "web", WORKLOAD_NAMESPACE_LABEL: "chaos", POD_SET_LABEL: "main"}
MINUTE = 60_000
RUNNING = Wish(KEY, frozenset({Phase.RUNNING}), replicas=2, image="nginx:2")
DELETED = Wish(KEY, frozenset({Phase.DELETED}))


def pod(name: str, *, image: str = "nginx:2", node: str = "n1", cpu: str = "1", **meta: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "chaos", "uid": name, "labels": LABELS, **meta},
        "spec": {"nodeName": node, "containers": [{"image": image, "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": "Running"},
    }


def deployment(replicas: int, image: str = "nginx:1") -> Json:
    metadata = {"name": "web-main", "uid": "d", "labels": LABELS}
    return {"metadata": metadata, "spec": {"replicas": replicas, "template": [image]}}


def node(cpu: str) -> Json:
    return {"metadata": {"name": "n1", "uid": "n1"}, "status": {"allocatable": {"cpu": cpu, "pods": "10"}}}


def status(phase: Phase, ready: int = 0, desired: int = 0) -> Record:
    value = WorkloadStatus(
        namespace="chaos", name="web", phase=phase, generation=1, ready=ready, desired=desired, updated_at=1
    )
    return Record(STATUS.name, 0, 0, 1, KEY.encode(), value.to_json())


def evidence(*statuses: Record, pods: Sequence[Json] = ()) -> Evidence:
    objects = {("pods", "chaos", item["metadata"]["name"]): item for item in pods}
    return Evidence(History(), {STATUS.name: statuses}, {"west": objects}, frozenset())


def written(*writes: tuple[int, str, str, Json]) -> list[Written]:
    return [Written(at, "", "west", verb, resource, item) for at, verb, resource, item in writes]  # type: ignore[arg-type]


def rules(violations: Sequence[object]) -> list[str]:
    return [str(violation).split(":")[0] for violation in violations]


@pytest.mark.parametrize(
    ("wish", "said", "found"),
    [
        (RUNNING, [status(Phase.RUNNING, 2, 2)], []),
        (RUNNING, [status(Phase.RUNNING, 2, 3)], ["wrong end"]),
        (RUNNING, [status(Phase.RUNNING, 1, 2)], ["wrong end"]),
        (RUNNING, [status(Phase.DEGRADED, 2, 2)], ["wrong end"]),
        (RUNNING, [], ["no end"]),
        (DELETED, [status(Phase.DELETED)], []),
        (DELETED, [status(Phase.RUNNING, 2, 2)], ["wrong end"]),
    ],
)
def test_each_workload_ends_as_its_user_wants(wish: Wish, said: list[Record], found: list[str]) -> None:
    assert rules(checks.ends({KEY: wish}, evidence(*said))) == found


@pytest.mark.parametrize(
    ("wish", "pods", "found"),
    [
        (RUNNING, [pod("a"), pod("b")], []),
        (RUNNING, [pod("a"), pod("b"), pod("c", deletionTimestamp="now")], []),
        (RUNNING, [pod("a")], ["wrong content"]),
        (RUNNING, [pod("a"), pod("b"), pod("c")], ["wrong content"]),
        (RUNNING, [pod("a"), pod("b", image="nginx:1")], ["wrong content"]),
        (DELETED, [pod("a")], ["wrong content"]),
        (None, [pod("a")], ["wrong content"]),
    ],
)
def test_what_runs_is_what_was_asked(wish: Wish | None, pods: list[Json], found: list[str]) -> None:
    wishes = {} if wish is None else {KEY: wish}
    assert rules(checks.contents(wishes, evidence(pods=pods))) == found


def test_a_rollout_may_have_a_quarter_more() -> None:
    asked = (0, "ADDED", "deployments", deployment(4))
    five = [(1, "ADDED", "pods", pod(str(number))) for number in range(5)]
    assert checks.surplus(written(asked, *five)) == []
    assert rules(checks.surplus(written(asked, *five, (2, "ADDED", "pods", pod("6"))))) == ["surplus"]


def test_each_of_two_rollouts_at_once_may_have_a_quarter_more() -> None:
    twice = [(0, "ADDED", "deployments", deployment(1)), (1, "MODIFIED", "deployments", deployment(1, "nginx:2"))]
    pods = [(2, "ADDED", "pods", pod(str(number))) for number in range(4)]
    assert checks.surplus(written(*twice, *pods[:3])) == []
    assert rules(checks.surplus(written(*twice, *pods))) == ["surplus"]


def test_what_was_not_answered_may_be_made_twice_until_that_is_repaired() -> None:
    """Seen with a real kube-controller-manager: etcd frozen, three pods for one replica, two deleted afterwards."""
    lives = [Lived(0, "west/etcd", "paused"), Lived(9_000, "west/etcd", SERVES)]
    asked = (0, "ADDED", "deployments", deployment(1))
    for later, count, found in ((9_000, 3, []), (9_000, 4, ["surplus"]), (MINUTE, 3, ["surplus"])):
        pods = [(later, "ADDED", "pods", pod(str(number))) for number in range(count)]
        assert rules(checks.surplus(written(asked, *pods), lives)) == found


def test_pods_that_go_make_room_for_others() -> None:
    asked = (0, "ADDED", "deployments", deployment(1))
    old, new = pod("old"), pod("new")
    leaving = pod("old", deletionTimestamp="now")
    rollout = [asked, (1, "ADDED", "pods", old), (2, "ADDED", "pods", new), (3, "MODIFIED", "pods", leaving)]
    assert checks.surplus(written(*rollout, (4, "ADDED", "pods", pod("newer")))) == []


def test_fewer_replicas_are_a_moment_late_and_not_for_ever() -> None:
    many = [(1, "ADDED", "pods", pod(str(number))) for number in range(4)]
    smaller = [(0, "ADDED", "deployments", deployment(4)), *many, (10, "MODIFIED", "deployments", deployment(1))]
    for verb, late, found in (("MODIFIED", MINUTE, []), ("MODIFIED", 3 * MINUTE, ["surplus"])):
        assert rules(checks.surplus(written(*smaller, (late, verb, "pods", pod("0"))))) == found


def test_pods_of_a_deployment_that_is_gone_may_not_come() -> None:
    gone = [(0, "ADDED", "deployments", deployment(1)), (1, "DELETED", "deployments", deployment(1))]
    assert rules(checks.surplus(written(*gone, (5 * MINUTE, "ADDED", "pods", pod("late"))))) == ["surplus"]


def test_a_node_holds_what_it_has() -> None:
    room = (0, "ADDED", "nodes", node("2"))
    two = [(1, "ADDED", "pods", pod("a")), (2, "ADDED", "pods", pod("b"))]
    third = (4, "ADDED", "pods", pod("c"))
    assert checks.crowded(written(room, *two)) == []
    assert rules(checks.crowded(written(room, *two, third))) == ["crowded"]
    leaving = (3, "MODIFIED", "pods", pod("a", deletionTimestamp="now"))
    assert rules(checks.crowded(written(room, *two, leaving, third))) == ["crowded"]
    assert checks.crowded(written(room, *two, (3, "DELETED", "pods", pod("a")), third)) == []


def test_pods_that_flotilla_binds_are_counted_by_the_simulations_rule() -> None:
    item = pod("a")
    item["spec"]["schedulerName"] = SCHEDULER_NAME
    assert checks.surplus(written((1, "ADDED", "pods", item))) == []
