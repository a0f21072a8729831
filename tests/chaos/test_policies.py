"""What is judged of policies, in histories made by hand: each rule finds what it is for, and spares what may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.events.envelope import Envelope
from shared.events.topics import DECISIONS, DECISIONS_MADE, EPOCH_STARTED, OBJECTS
from shared.events.v1.decisions import (
    ClusterShare,
    DecisionsMade,
    EpochStarted,
    PodSetPlacement,
    RequestRef,
    WorkloadPlaced,
)
from shared.events.v1.workloads import Workload
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, heartbeat_key
from tests.chaos import policies
from tests.chaos.journalist import SERVES
from tests.chaos.kinds import LEASED, ONCE, SPREAD, workload
from tests.simulation.checker import Evidence
from tests.simulation.history import Appended, History, Lived, Written

Json = dict[str, Any]
SECOND = 1_000
POD_SET = {"name": "main", "replicas": 2, "image": "nginx", "resources": {"requests": {"cpu": "100m"}}}


def decision(kind: str, *shares: Json, request: str = "r", desired: int = 2, **more: Any) -> WorkloadPlaced:
    body = workload(f"chaos/{kind}1", POD_SET, "node" if kind == SPREAD else "cluster")
    placed = PodSetPlacement(
        name="main", desired=desired, shares=tuple(ClusterShare.model_validate(share) for share in shares), **more
    )
    return WorkloadPlaced(
        workload=Workload.model_validate(body),
        uid="u",
        workload_generation=1,
        request=RequestRef(id=request, published_at=1),
        pod_sets=(placed,),
    )


def journal(*decisions: tuple[int, WorkloadPlaced]) -> list[Appended]:
    """The leader's first entry, and then one for each decision, at its second."""
    entries: list[tuple[int, str, Any]] = [
        (0, EPOCH_STARTED.ce_type, EpochStarted(cell="0", epoch=1, leader="s", started_at=0))
    ]
    for second, item in decisions:
        made = DecisionsMade(cell="0", epoch=1, leader="s", decided_at=0, decisions=(item,))
        entries.append((second, DECISIONS_MADE.ce_type, made))
    return [
        Appended(
            second * SECOND,
            "s",
            DECISIONS.name,
            0,
            offset,
            None,
            entry.to_json(),
            tuple(Envelope(id="i", source="s", type=what, time_ms=0, subject="").to_headers()),
        )
        for offset, (second, what, entry) in enumerate(entries)
    ]


def pod(second: float, verb: str, cluster: str, name: str, of: str) -> Written:
    """One that is ready, or its deletion."""
    labels = {WORKLOAD_LABEL: of, WORKLOAD_NAMESPACE_LABEL: "chaos", POD_SET_LABEL: "main"}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    item = {
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {"nodeName": f"{cluster}-n"},
        "status": status,
    }
    return Written(int(second * SECOND), "", cluster, verb, "pods", item)  # type: ignore[arg-type]


def lived(second: int, process: str, event: str, detail: str = "") -> Lived:
    return Lived(second * SECOND, process, event, detail)


def evidence(appends: Sequence[Appended], writes: Sequence[Written] = (), lives: Sequence[Lived] = ()) -> Evidence:
    found = Evidence(History(appends=[*appends], writes=[*writes], lives=[*lives]), {}, {}, frozenset())
    found.take()
    return found


def rules(kind: str, *writes: Written, lives: Sequence[Lived] = ()) -> list[str]:
    found = policies.at_most_once(evidence(journal((1, decision(kind))), writes, lives))
    return [violation.rule for violation in found]


@pytest.mark.parametrize(("gone", "found"), [(21, []), (23, []), (24, ["runs twice"]), (None, ["runs twice"])])
def test_two_clusters_at_once_are_found_beyond_the_tolerance(gone: float | None, found: list[str]) -> None:
    moved = [pod(10, "ADDED", "east", "a", "once1"), pod(22, "ADDED", "west", "b", "once1")]
    ended = [pod(gone, "DELETED", "east", "a", "once1")] if gone is not None else []
    assert rules(ONCE, *moved, *ended) == found


def test_a_deletion_that_was_not_seen_since_the_server_was_down_counts_from_then() -> None:
    moved = [
        pod(10, "ADDED", "east", "a", "once1"),
        pod(22, "ADDED", "west", "b", "once1"),
        pod(40, "DELETED", "east", "a", "once1"),
    ]
    down = [lived(19, "east/etcd", "paused"), lived(39, "east/etcd", SERVES)]
    assert rules(ONCE, *moved, lives=down) == []
    later = [lived(30, "east/etcd", "paused"), lived(39, "east/etcd", SERVES)]
    assert rules(ONCE, *moved, lives=later) == ["runs twice"]


@pytest.mark.parametrize(
    ("life", "found"),
    [
        (lived(15, "executor", "killed"), []),
        (lived(15, "executor", "cut off", "partition: executor/east, 2 rules"), []),
        (lived(15, "east/kube-apiserver", "killed"), []),
        (lived(15, "executor-west", "killed"), ["runs twice"]),
        (lived(15, "executor", "cut off", "partition: executor/brokers, 6 rules"), ["runs twice"]),
        (lived(15, "west", "cut off", policies.SILENT), ["runs twice"]),
    ],
)
def test_a_lease_is_judged_where_its_executor_could_stop_what_runs(life: Lived, found: list[str]) -> None:
    moved = [pod(10, "ADDED", "east", "a", "leased1"), pod(22, "ADDED", "west", "b", "leased1")]
    assert rules(LEASED, *moved, lives=[life]) == found


EAST, LEAVING = {"cluster": "east", "replicas": 2}, {"cluster": "east", "replicas": 2, "leaving": 2}
WEST = {"cluster": "west", "replicas": 2}


@pytest.mark.parametrize(("ready", "found"), [(2, []), (1, ["removed early"]), (0, ["removed early"])])
def test_what_leaves_stays_until_as_much_is_ready(ready: int, found: list[str]) -> None:
    steps = (EAST,), (LEAVING, WEST), (WEST,)
    decided = journal(*((1 + 4 * number, decision("failback", *shares)) for number, shares in enumerate(steps)))
    pods = [pod(5, "ADDED", "west", str(number), "failback1") for number in range(ready)]
    assert [item.rule for item in policies.removed(evidence(decided, pods))] == found


@pytest.mark.parametrize(("nodes", "found"), [(("n2", "n1"), []), (("n2", "n3"), ["removed early"])])
def test_what_stays_after_all_is_not_removed(nodes: tuple[str, ...], found: list[str]) -> None:
    """`n1` was to be left. That another of its cluster is not ready yet is no reason against its staying."""
    leaving = {"cluster": "east", "replicas": 2, "nodes": ("n2", "n1"), "ordinals": (1, 0), "leaving": 1}
    elsewhere = {"cluster": "west", "replicas": 1, "nodes": ("n9",), "ordinals": (0,)}
    stays = {"cluster": "east", "replicas": 2, "nodes": nodes, "ordinals": (1, 0)}
    decided = journal((1, decision("spread", leaving, elsewhere)), (5, decision("spread", stays)))
    pods = [pod(2, "ADDED", "east", "1", "spread1")]
    assert [item.rule for item in policies.removed(evidence(decided, pods))] == found


@pytest.mark.parametrize(
    ("second", "heard", "more", "found"),
    [
        (20, 14, {}, ["left in haste"]),
        (20, 12, {}, []),
        (2, 1, {}, []),
        (40, 39, {}, []),
        (20, 14, {"returning": ("west",)}, []),
    ],
)
def test_while_a_cluster_flaps_nothing_begins_to_leave_it(
    second: int, heard: int, more: Json, found: list[str]
) -> None:
    beat = Appended(heard * SECOND, "watcher", OBJECTS.name, 0, 0, heartbeat_key("east").encode(), b"{}")
    decided = [beat, *journal((1, decision("failback", EAST)), (second, decision("failback", LEAVING, WEST, **more)))]
    lives = [lived(1, "east", policies.FLAPS), lived(30, "east", policies.STEADY)]
    assert [item.rule for item in policies.flapped(evidence(decided, lives=lives))] == found


@pytest.mark.parametrize(("nodes", "found"), [(("n1", "n2"), []), (("n1", "n1"), ["skewed"])])
def test_what_is_to_be_spread_is_when_it_is_placed(nodes: tuple[str, ...], found: list[str]) -> None:
    names = [Written(0, "", "east", "ADDED", "nodes", {"metadata": {"name": name}}) for name in ("n1", "n2")]
    share = {"cluster": "east", "replicas": 2, "nodes": nodes, "ordinals": (0, 1)}
    assert [item.rule for item in policies.skewed(evidence(journal((1, decision(SPREAD, share))), names))] == found


def test_what_is_away_at_the_end_is_told() -> None:
    assert [*policies.away(evidence(journal((1, decision("failback", WEST)))))] == []
    found = policies.away(evidence(journal((1, decision("failback", WEST, away={"east": 2})))))
    assert [item.rule for item in found] == ["not returned"]


def test_what_there_was_to_judge_is_counted() -> None:
    decided = journal(
        (1, decision(ONCE, EAST)),
        (2, decision(ONCE, WEST)),
        (3, decision("failback", EAST)),
        (4, decision("failback", LEAVING, WEST)),
    )
    lives = [lived(1, "east", "cut off", policies.SILENT), lived(3, "east", SERVES)]
    found = policies.counts(evidence(decided, lives=lives))
    assert (found["once_moved"], found["lease_moved"], found["evacuations"]) == (1, 1, 1)
