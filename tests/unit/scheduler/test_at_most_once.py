"""At most once: in one cluster at a time; remove, confirm that it is gone, only then start elsewhere."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.scheduler.decision.asked.rendering import render_commands
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.derivation import CommandRecord, derive
from services.scheduler.decision.placing.confinement import AWAITING
from services.scheduler.decision.seen.troubles import DRAINING_KEY
from shared.events.registry import DecodeError, decode
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import DecisionsMade, RequestRejected, WorkloadPlaced
from shared.events.v1.leases import LEASE_MS, LEASE_SUBJECT
from shared.events.v1.requests import WorkloadRequested
from shared.model.taints import OUT_OF_SERVICE_KEY
from tests.scheduling import STEP_MS, Fleet, Json, counts_of, image, placed, workload

LONG_MS = 600_000
SUBJECT = "workload/default/db"


def last(fleet: Fleet) -> WorkloadPlaced:
    return fleet.placements["default/db"]


def once(*pod_sets: Json, **placement: Any) -> Json:
    return workload("db", *(pod_sets or [image(replicas=3)]), placement={"atMostOnce": True, **placement})


def home_of(decision: WorkloadPlaced) -> str:
    (cluster,) = decision.clusters
    return cluster


def other(cluster: str) -> str:
    return {"east": "west", "west": "east"}[cluster]


def test_all_of_it_is_in_one_cluster() -> None:
    fleet = Fleet()
    decision = placed(fleet.apply(once(image("web", 3), image("api", 4))))
    home = home_of(decision)
    assert [counts_of(decision, index) for index in (0, 1)] == [{home: 3}, {home: 4}]


def test_a_cluster_with_room_for_all_of_it_is_chosen() -> None:
    """The first pod set alone would fit into the smaller one, which costs less."""
    fleet = Fleet(nodes={"east": 1, "west": 3})
    fleet.state.declare_cluster("west", ClusterDeclared(name="west", price_per_hour=100))
    decision = placed(fleet.apply(once(image("web", 3), image("api", 3))))
    assert [counts_of(decision, index) for index in (0, 1)] == [{"west": 3}, {"west": 3}]


def test_what_fits_into_no_cluster_waits_as_a_whole_and_says_why() -> None:
    fleet = Fleet()
    decision = placed(fleet.apply(once(image("web", 8), image("api", 8))))
    assert [counts_of(decision, index) for index in (0, 1)] == [{}, {}]
    assert {item.reason for item in decision.pod_sets} == {"Unschedulable"}
    assert "no cluster has room for all of it" in decision.pod_sets[0].message


def test_out_of_a_draining_cluster_it_starts_elsewhere_when_it_is_confirmed_to_be_gone() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(once())))
    fleet.taint(home, DRAINING_KEY)
    (leaving,) = fleet.passes(3 * STEP_MS)
    assert leaving.clusters == set()
    assert leaving.withdrawn == (home,)
    assert leaving.pod_sets[0].reason == AWAITING
    assert home in leaving.pod_sets[0].message
    assert fleet.passes(LONG_MS) == [], "nothing starts before that is confirmed"
    fleet.withdrawn(home, "db")
    confirmed, started = fleet.passes(STEP_MS)
    assert (confirmed.withdrawn, confirmed.retired, confirmed.clusters) == ((), (home,), set())
    assert counts_of(started) == {other(home): 3}
    assert fleet.passes(LONG_MS) == []


def test_a_report_of_before_the_withdrawal_confirms_nothing() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(once())))
    fleet.taint(home, DRAINING_KEY)
    fleet.passes(3 * STEP_MS)
    fleet.withdrawn(home, "db", generation=0)
    assert fleet.passes(LONG_MS) == []


def test_nothing_is_removed_while_no_other_cluster_has_room() -> None:
    fleet = Fleet(nodes={"east": 3, "west": 1})
    home = home_of(placed(fleet.apply(once(image(replicas=6)))))
    assert home == "east"
    fleet.taint("east", DRAINING_KEY)
    assert fleet.passes(LONG_MS) == []
    fleet.node("west", "west-1")
    (leaving,) = fleet.passes(3 * STEP_MS)
    assert leaving.withdrawn == ("east",)


def test_a_silent_cluster_keeps_it_since_nobody_knows_whether_it_runs() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(once())))
    fleet.heard.discard(home)
    assert fleet.passes(LONG_MS) == []


@pytest.mark.parametrize("says", ["out of service", "left"])
def test_somebody_may_say_that_nothing_runs_in_a_cluster(says: str) -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(once())))
    fleet.heard.discard(home)
    fleet.passes(60_000)
    if says == "left":
        fleet.leaves(home)
    else:
        fleet.taint(home, OUT_OF_SERVICE_KEY)
    (moved,) = fleet.passes(3 * STEP_MS)
    assert counts_of(moved) == {other(home): 3}
    assert moved.withdrawn == (home,), "should it return, it is told to stop"
    fleet.taint(home)
    assert fleet.passes(LONG_MS) == []


def test_while_a_former_cluster_may_run_it_again_no_further_one_has_it() -> None:
    """It was moved by somebody's word, who takes that back; and has to leave the next cluster then."""
    fleet = Fleet(nodes={"east": 3, "north": 3, "west": 3})
    home = home_of(placed(fleet.apply(once())))
    fleet.heard.discard(home)
    fleet.taint(home, OUT_OF_SERVICE_KEY)
    (moved,) = fleet.passes(3 * STEP_MS)
    fleet.taint(home)
    second = home_of(moved)
    fleet.apply(once(clusters=[name for name in ("east", "north", "west") if name not in {home, second}]))
    assert last(fleet).withdrawn == tuple(sorted((home, second)))
    fleet.withdrawn(second, "db")
    fleet.passes(5 * STEP_MS)
    assert last(fleet).clusters == set()
    fleet.withdrawn(home, "db")
    fleet.passes(5 * STEP_MS)
    assert len(last(fleet).clusters) == 1


# --- by a lease ---


def leased(*pod_sets: Json, **placement: Any) -> Json:
    toleration = {"key": "flotilla.dev/silent", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}
    return once(*pod_sets, tolerations=[toleration], **placement)


GRACE_MS = 30_000
OVER_MS = LEASE_MS + GRACE_MS + SchedulerConfig().lease_margin_ms


def test_what_says_how_long_it_tolerates_silence_runs_by_a_lease() -> None:
    fleet = Fleet()
    assert [command.leased for command in render_commands(placed(fleet.apply(leased())), 1, 0)] == [True]
    assert [command.leased for command in render_commands(placed(fleet.apply(once())), 1, 0)] == [False]
    for_ever = {"key": "flotilla.dev/silent", "operator": "Exists"}
    strict = placed(fleet.apply(once(tolerations=[for_ever])))
    assert [command.leased for command in render_commands(strict, 1, 0)] == [False]


def test_it_starts_elsewhere_when_the_lease_of_a_silent_cluster_is_over_and_not_before() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(leased())))
    fleet.passes(60_000)
    fleet.ask_lease(home, SUBJECT)
    fleet.heard.discard(home)
    assert fleet.passes(OVER_MS - STEP_MS) == []
    (moved,) = fleet.passes(2 * STEP_MS)
    assert counts_of(moved) == {other(home): 3}
    assert moved.withdrawn == (home,)


def test_as_long_as_the_executor_asks_it_stays_however_silent_the_watcher_is() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(leased())))
    fleet.heard.discard(home)
    for number in range(100):
        fleet.ask_lease(home, SUBJECT, number=number + 1)
        assert fleet.passes(4_000) == []


def test_a_cluster_that_is_heard_keeps_it_whether_its_executor_asks_or_not() -> None:
    fleet = Fleet()
    placed(fleet.apply(leased()))
    assert fleet.passes(3 * OVER_MS) == []


def test_a_successor_waits_for_the_whole_time_again() -> None:
    """It knows nothing of what its predecessor answered last."""
    fleet, successor = Fleet(), Fleet()
    home = home_of(placed(fleet.apply(leased())))
    successor.now = fleet.now
    successor.state.apply(last(fleet))
    successor.heard.discard(home)
    assert successor.passes(OVER_MS - STEP_MS) == []
    assert [counts_of(item) for item in successor.passes(3 * STEP_MS)] == [{other(home): 3}]


def test_pods_that_take_long_to_end_are_waited_for() -> None:
    pod = {"terminationGracePeriodSeconds": 600, "containers": [{"name": "c", "image": "i"}]}
    fleet = Fleet()
    home = home_of(placed(fleet.apply(leased({"name": "web", "replicas": 2, "template": {"spec": pod}}))))
    fleet.passes(STEP_MS)
    fleet.heard.discard(home)
    assert fleet.passes(OVER_MS + 560_000) == []
    assert len(fleet.passes(20_000)) == 1


def test_what_was_there_before_it_ran_by_a_lease_stays() -> None:
    """The cluster may not have heard that yet; and so until that is where it is no more."""
    fleet = Fleet()
    home = home_of(placed(fleet.apply(once())))
    changed = placed(fleet.apply(leased()))
    assert (home_of(changed), changed.unleased) == (home, (home,))
    fleet.passes(STEP_MS)
    fleet.heard.discard(home)
    assert fleet.passes(3 * OVER_MS) == []
    fleet.heard.add(home)
    fleet.apply(leased(clusters=[other(home)]))
    fleet.withdrawn(home, "db")
    fleet.passes(STEP_MS)
    assert (home_of(last(fleet)), last(fleet).unleased) == (other(home), ())


def test_what_waits_for_a_cluster_that_falls_silent_starts_when_its_lease_is_over() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(leased())))
    fleet.taint(home, DRAINING_KEY)
    fleet.passes(3 * STEP_MS)
    assert last(fleet).pod_sets[0].reason == AWAITING
    fleet.ask_lease(home, SUBJECT)
    fleet.heard.discard(home)
    assert fleet.passes(OVER_MS - STEP_MS) == []
    assert [counts_of(item) for item in fleet.passes(3 * STEP_MS)] == [{other(home): 3}]


def test_a_lease_is_granted_for_what_is_placed_there_alone() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(leased())))
    assert fleet.state.grant(home, fleet.ask_lease(home, SUBJECT)).subjects == (SUBJECT,)
    assert fleet.state.grant(other(home), fleet.ask_lease(other(home), SUBJECT)).subjects == ()
    fleet.delete("db")
    assert fleet.state.grant(home, fleet.ask_lease(home, SUBJECT)).subjects == ()


def test_an_answer_stands_in_the_topic_behind_what_was_decided_before_it() -> None:
    fleet = Fleet()
    decision = placed(fleet.apply(leased()))
    granted = fleet.state.grant(home_of(decision), fleet.ask_lease(home_of(decision), SUBJECT, number=7))
    entry = DecisionsMade(cell="0", epoch=3, leader="a", decided_at=1, decisions=(decision,), leases=(granted,))
    commands = [item for item in derive({}, entry, 40) if isinstance(item, CommandRecord)]
    assert [item.subject for item in commands] == [SUBJECT, LEASE_SUBJECT]
    answer = commands[-1].command
    assert answer is not None
    assert (answer.epoch, answer.generation, answer.lease) == (3, 40, granted)
    assert (granted.number, granted.subjects) == (7, (SUBJECT,))


def test_other_terms_move_it_in_the_same_order() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(once())))
    leaving = placed(fleet.apply(once(clusters=[other(home)])))
    assert (leaving.clusters, leaving.withdrawn) == (set(), (home,))
    fleet.withdrawn(home, "db")
    fleet.passes(STEP_MS)
    assert counts_of(last(fleet)) == {other(home): 3}


def test_what_is_deleted_and_asked_for_again_waits_for_its_former_self() -> None:
    fleet = Fleet()
    home = home_of(placed(fleet.apply(once())))
    fleet.delete("db")
    again = placed(fleet.apply(once(clusters=[other(home)])))
    assert (again.clusters, again.withdrawn) == (set(), (home,))
    fleet.withdrawn(home, "db")
    fleet.passes(STEP_MS)
    assert counts_of(last(fleet)) == {other(home): 3}


def test_it_grows_where_it_is_or_waits() -> None:
    fleet = Fleet(nodes={"east": 1, "west": 3})
    fleet.state.declare_cluster("west", ClusterDeclared(name="west", price_per_hour=100))
    assert counts_of(placed(fleet.apply(once(image(replicas=3))))) == {"east": 3}
    grown = placed(fleet.apply(once(image(replicas=5))))
    assert counts_of(grown) == {"east": 3}
    assert "it runs in east at most once" in grown.pod_sets[0].message


def test_asked_later_of_what_is_in_one_cluster_it_stays_there() -> None:
    fleet = Fleet()
    before = placed(fleet.apply(workload("db", image(replicas=1))))
    after = placed(fleet.apply(once(image(replicas=1))))
    assert after.pod_sets[0].shares == before.pod_sets[0].shares
    assert placed(fleet.apply(workload("db", image(replicas=1)))).pod_sets[0].shares == before.pod_sets[0].shares


def test_asked_later_of_what_is_in_two_clusters_it_ends_in_one_before_the_other_has_it_all() -> None:
    fleet = Fleet()
    assert placed(fleet.apply(workload("db", image(replicas=4)))).clusters == {"east", "west"}
    ending = placed(fleet.apply(once(image(replicas=4))))
    assert (ending.clusters, ending.withdrawn) == (set(), ("east", "west"))
    fleet.withdrawn("east", "db")
    fleet.passes(STEP_MS)
    assert counts_of(last(fleet)) == {"west": 4}, "none but west may run it now"


def test_a_rollout_does_not_run_the_old_beside_the_new() -> None:
    fleet = Fleet()
    (command,) = render_commands(placed(fleet.apply(once())), 1, 0)
    assert command.objects[0].manifest["spec"]["strategy"] == {"type": "Recreate"}
    assert command.objects[0].manifest["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("placement", "field"),
    [
        ({"division": "duplicated"}, "division"),
        ({"binding": "node"}, "binding"),
        ({"failback": True}, "failback"),
        ({"rebalance": {}}, "rebalance"),
        ({"weightPreference": {"dynamicWeight": "AvailableReplicas"}}, "weightPreference"),
        ({"spreadConstraints": [{"spreadByField": "zone", "minGroups": 2}]}, "spreadConstraints.0.minGroups"),
    ],
)
def test_what_contradicts_it_is_refused_by_its_field(placement: Json, field: str) -> None:
    request = {"operation": "apply", "workload": once(**placement)}
    with pytest.raises(DecodeError) as refused:
        decode(WorkloadRequested, orjson.dumps(request))
    assert any(field in f"{error.field}: {error.message}" for error in refused.value.errors)


def test_a_daemon_set_is_refused() -> None:
    spec: Json = {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}}
    spec["template"]["spec"] = {"containers": [{"name": "c", "image": "i"}]}
    manifest = {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": spec}
    (refused,) = Fleet().apply(once({"name": "agent", "manifest": manifest}))
    assert isinstance(refused, RequestRejected)
    assert [error.field for error in refused.errors] == ["workload.podSets.0.manifest.kind"]
