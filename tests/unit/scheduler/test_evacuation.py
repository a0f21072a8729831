"""Out of clusters that are lost or tainted: reserve, start, confirm ready, only then remove."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.troubles import DRAINING_KEY
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.objects import UNREACHABLE
from tests.scheduling import (
    JOB,
    SILENT_MS,
    STEP_MS,
    TOLERATED_MS,
    Fleet,
    counts_of,
    image,
    leaving_of,
    placed,
    workload,
)

STABLE_MS = 30_000
BINDINGS = pytest.mark.parametrize("binding", ["cluster", "node"])


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def shop(fleet: Fleet, replicas: int = 4, **more: Any) -> None:
    """Half of its replicas in each cluster, and their pods ready."""
    decision = placed(fleet.apply(workload("shop", image(replicas=replicas), **more)))
    assert set(counts_of(decision)) == {"east", "west"}
    fleet.run("shop")


@BINDINGS
def test_the_old_stay_until_the_new_are_ready(fleet: Fleet, binding: str) -> None:
    shop(fleet, placement={"binding": binding})
    fleet.lose("east")
    decided = fleet.passes(2 * STEP_MS)
    assert (counts_of(decided[-1]), leaving_of(decided[-1])) == ({"east": 2, "west": 4}, {"east": 2})
    assert decided[-1].withdrawn == ()
    assert decided[-1].pod_sets[0].placed == 4
    assert fleet.passes(60_000) == []
    fleet.start("shop", "west", 1)
    assert fleet.passes(STEP_MS) == []  # who is lost reads nothing: the others are not bothered for its sake
    fleet.start("shop", "west", 2)
    after = fleet.passes(STEP_MS)[-1]
    assert (counts_of(after), leaving_of(after), after.withdrawn) == ({"west": 4}, {}, ("east",))
    assert fleet.passes(60_000) == []


@BINDINGS
def test_no_replica_is_in_two_places_by_one_decision(fleet: Fleet, binding: str) -> None:
    shop(fleet, placement={"binding": binding})
    fleet.lose("east")
    shares = fleet.passes(2 * STEP_MS)[-1].pod_sets[0].shares
    ordinals = [ordinal for share in shares for ordinal in share.ordinals]
    assert len(set(ordinals)) == len(ordinals)


def test_where_there_is_no_room_nothing_is_removed() -> None:
    fleet = Fleet(nodes=1)
    shop(fleet, replicas=6)
    fleet.lose("east")
    moved = fleet.passes(600_000)
    assert (counts_of(moved[-1]), leaving_of(moved[-1])) == ({"east": 3, "west": 4}, {"east": 1})
    assert fleet.passes(600_000) == []
    fleet.node("west", "west-9")
    assert counts_of(fleet.passes(STEP_MS)[-1]) == {"east": 3, "west": 6}


def test_one_that_goes_on_and_off_moves_nothing(fleet: Fleet) -> None:
    shop(fleet)
    for _ in range(10):
        fleet.heard.discard("east")
        assert fleet.passes(SILENT_MS + TOLERATED_MS - STEP_MS) == []
        fleet.heard.add("east")
        assert fleet.passes(2 * STEP_MS) == []


def test_what_may_still_be_there_stays_when_its_cluster_is_back_for_a_while(fleet: Fleet) -> None:
    shop(fleet)
    fleet.lose("east")
    assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"east": 2}
    fleet.start("shop", "west", 1)
    assert fleet.passes(STEP_MS) == []
    fleet.heard.add("east")
    assert leaving_of(fleet.passes(STEP_MS)[-1]) == {"east": 1}
    assert fleet.passes(STABLE_MS - STEP_MS) == []
    back = fleet.passes(2 * STEP_MS)[-1]
    assert (counts_of(back), leaving_of(back)) == ({"east": 1, "west": 3}, {})
    assert fleet.passes(60_000) == []


def test_of_a_cluster_that_is_back_the_old_go_where_the_new_are_ready(fleet: Fleet) -> None:
    shop(fleet)
    fleet.lose("east")
    fleet.passes(2 * STEP_MS)
    fleet.heard.add("east")
    fleet.start("shop", "west", 2)
    after = fleet.passes(STEP_MS)[-1]
    assert (counts_of(after), after.withdrawn) == ({"west": 4}, ("east",))


def test_a_replacement_that_is_lost_before_it_was_ready_frees_nobody() -> None:
    fleet = Fleet(clusters="a b c east north west")
    fleet.apply(workload("shop", image(replicas=2), placement={"clusters": ["east"]}))
    fleet.run("shop")
    fleet.apply(workload("shop", image(replicas=2), placement={"clusters": ["east", "north", "west"]}))
    fleet.lose("east")
    assert counts_of(fleet.passes(2 * STEP_MS)[-1]) == {"east": 2, "north": 1, "west": 1}
    fleet.heard.remove("west")
    again = fleet.passes(120_000)[-1]
    assert (counts_of(again), leaving_of(again)) == ({"east": 2, "north": 2}, {"east": 2})
    fleet.start("shop", "north", 2)
    assert counts_of(fleet.passes(STEP_MS)[-1]) == {"north": 2}


def test_one_that_is_well_again_takes_back_what_another_has_to_give_up() -> None:
    fleet = Fleet(clusters="a b c east west")
    fleet.apply(workload("shop", image(replicas=2), placement={"clusters": ["east"]}))
    fleet.run("shop")
    fleet.apply(workload("shop", image(replicas=2), placement={"clusters": ["east", "west"]}))
    fleet.lose("east")
    assert counts_of(fleet.passes(2 * STEP_MS)[-1]) == {"east": 2, "west": 2}
    fleet.heard.add("east")
    fleet.taint("west", DRAINING_KEY)
    back = fleet.passes(2 * STEP_MS)[-1]
    assert (counts_of(back), leaving_of(back), back.withdrawn) == ({"east": 2}, {}, ("west",))


@pytest.mark.parametrize("seconds", [0, 60, None])
def test_a_workload_says_for_how_long_it_tolerates_silence(fleet: Fleet, seconds: int | None) -> None:
    toleration: dict[str, Any] = {"key": "flotilla.dev/silent", "operator": "Exists", "effect": "NoExecute"}
    if seconds is not None:
        toleration["tolerationSeconds"] = seconds
    shop(fleet, placement={"tolerations": [toleration]})
    fleet.heard.remove("east")
    assert fleet.passes(SILENT_MS + 1000 * (seconds or 0) - STEP_MS) == []
    moved = fleet.passes(60_000)
    assert bool(moved) is (seconds is not None)


@pytest.mark.parametrize("key", [DRAINING_KEY, "acme.dev/maintenance"])
def test_a_tainted_cluster_is_left_though_it_is_well(fleet: Fleet, key: str) -> None:
    shop(fleet)
    fleet.taint("east", key)
    assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"east": 2}
    fleet.start("shop", "west", 2)
    assert counts_of(fleet.passes(STEP_MS)[-1]) == {"west": 4}


def test_a_taint_that_is_tolerated_for_a_while_keeps_new_replicas_away_behind_it(fleet: Fleet) -> None:
    patience = {"key": DRAINING_KEY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    shop(fleet, placement={"tolerations": [patience]})
    fleet.taint("east", DRAINING_KEY)
    assert fleet.passes(30_000) == []
    assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"east": 2}
    fleet.start("shop", "west", 2)
    assert counts_of(fleet.passes(STEP_MS)[-1]) == {"west": 4}
    fleet.apply(workload("shop", image(replicas=5), placement={"tolerations": [patience]}))
    assert counts_of(fleet.placements["default/shop"]) == {"west": 5}


def test_one_that_is_cordoned_is_not_left(fleet: Fleet) -> None:
    shop(fleet)
    fleet.state.declare_cluster("east", ClusterDeclared(name="east", unschedulable=True))
    assert fleet.passes(60_000) == []


def test_one_that_is_listed_anew_is_not_left(fleet: Fleet) -> None:
    shop(fleet)
    for _ in range(60):
        fleet.now += STEP_MS
        fleet.cluster("west")
        fleet.cluster("east", ready=False)
        assert fleet.pending() == []


def test_while_most_are_lost_at_once_nothing_moves() -> None:
    fleet = Fleet(clusters="east north west")
    fleet.apply(workload("shop", image(replicas=6)))
    fleet.run("shop")
    fleet.heard = {"west"}
    assert fleet.passes(600_000) == []
    assert fleet.state.cut_off
    fleet.heard = {"north", "west"}
    assert fleet.passes(TOLERATED_MS - STEP_MS) == []
    assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"east": 2}
    assert (fleet.state.cut_off, fleet.state.leaving) == (False, 1)


def unreachable(fleet: Fleet, ms: int, *clusters: str) -> list[WorkloadPlaced]:
    """Time passes; the watchers of some clusters are heard all the time, and do not reach their API servers."""
    decided = []
    fleet.heard -= set(clusters)
    for _ in range(0, ms, STEP_MS):
        for name in clusters:
            fleet.cluster(name, reason=UNREACHABLE)
        decided += fleet.passes(STEP_MS)
    return decided


def test_an_api_server_has_as_long_to_start_again_as_a_watcher() -> None:
    fleet = Fleet()
    shop(fleet)
    waits = SchedulerConfig().silent_after_ms + TOLERATED_MS
    assert unreachable(fleet, waits - STEP_MS, "east") == []
    fleet.heard.add("east")
    assert fleet.passes(60_000) == []
    assert unreachable(fleet, waits, "east") == []
    assert leaving_of(unreachable(fleet, 2 * STEP_MS, "east")[-1]) == {"east": 2}


def test_so_it_has_when_others_came_back_before_it() -> None:
    fleet = Fleet(clusters="east north west")
    fleet.apply(workload("shop", image(replicas=6)))
    fleet.run("shop")
    assert unreachable(fleet, 60_000, "east", "north") == []
    assert fleet.state.cut_off
    fleet.heard.add("north")
    waits = SchedulerConfig().silent_after_ms + TOLERATED_MS
    assert unreachable(fleet, waits - STEP_MS, "east") == []
    assert leaving_of(unreachable(fleet, 3 * STEP_MS, "east")[-1]) == {"east": 2}


class TestPace:
    def test_so_many_a_second(self) -> None:
        fleet = Fleet(SchedulerConfig(evacuations_per_s=2.0), nodes=10)
        shop(fleet, replicas=20)
        fleet.lose("east")
        seen = [0, *(sum(leaving_of(item).values()) for item in fleet.passes(4 * STEP_MS))]
        assert all(after - before <= 2 for before, after in pairwise(seen))
        assert seen[-1] == 8

    @pytest.mark.parametrize(
        "config", [SchedulerConfig(evacuations_at_once=3), SchedulerConfig(cluster_evacuations_at_once=3)]
    )
    def test_so_many_at_once(self, config: SchedulerConfig) -> None:
        fleet = Fleet(config, nodes=10)
        shop(fleet, replicas=20)
        fleet.lose("east")
        first = fleet.passes(60_000)[-1]
        before = counts_of(first)["east"]
        assert leaving_of(first) == {"east": 3}
        fleet.start("shop", "west", 2)
        after = fleet.passes(60_000)[-1]
        # Two are replaced, and stay with those that are not until the cluster is heard or all of them are.
        assert leaving_of(after) == {"east": 5}
        assert counts_of(after)["east"] == before

    def test_what_never_was_ready_does_not_hold_up_the_rest(self) -> None:
        fleet = Fleet(SchedulerConfig(evacuations_at_once=2), nodes=10)
        decision = placed(fleet.apply(workload("shop", image(replicas=8))))
        assert counts_of(decision) == {"east": 4, "west": 4}
        fleet.start("shop", "west", 4)
        fleet.lose("east")
        for ready in range(4, 9):
            fleet.start("shop", "west", ready)
            fleet.passes(2 * STEP_MS)
        assert counts_of(fleet.placements["default/shop"]) == {"west": 8}

    def test_the_more_important_go_first(self) -> None:
        fleet = Fleet(SchedulerConfig(evacuations_per_s=1.0), nodes=10)
        for name, priority in (("a", 0), ("b", 5)):
            fleet.apply(workload(name, image(replicas=1), priority=priority, placement={"clusters": ["east"]}))
            fleet.apply(workload(name, image(replicas=1), priority=priority))
            fleet.run(name)
        fleet.lose("east")
        assert [str(item.workload.key) for item in fleet.passes(4 * STEP_MS)] == ["default/b", "default/a"]


class TestTogether:
    def test_a_job_goes_as_a_whole(self, fleet: Fleet) -> None:
        ((source, _),) = counts_of(placed(fleet.apply(workload("sum", {"name": "web", "manifest": JOB})))).items()
        (target,) = {"east", "west"} - {source}
        fleet.run("sum")
        fleet.lose(source)
        moved = fleet.passes(2 * STEP_MS)[-1]
        assert (counts_of(moved), leaving_of(moved)) == ({source: 2, target: 2}, {source: 2})
        fleet.start("sum", target, 1)
        assert fleet.passes(60_000) == []
        fleet.start("sum", target, 2)
        assert counts_of(fleet.passes(STEP_MS)[-1]) == {target: 2}

    def test_one_that_ran_to_its_end_stays(self, fleet: Fleet) -> None:
        ((source, _),) = counts_of(placed(fleet.apply(workload("sum", {"name": "web", "manifest": JOB})))).items()
        fleet.job(source, "sum-web", of="sum/web", finished=True)
        fleet.lose(source)
        assert fleet.passes(60_000) == []

    def test_it_stays_where_it_was_when_its_cluster_is_back_first(self, fleet: Fleet) -> None:
        ((source, _),) = counts_of(placed(fleet.apply(workload("sum", {"name": "web", "manifest": JOB})))).items()
        fleet.run("sum")
        fleet.lose(source)
        fleet.passes(2 * STEP_MS)
        fleet.heard.add(source)
        assert counts_of(fleet.passes(STABLE_MS + 2 * STEP_MS)[-1]) == {source: 2}


class TestFailback:
    TERMS: ClassVar = {"placement": {"failback": True}}

    def evacuated(self, fleet: Fleet, **more: Any) -> None:
        """What ran in `east` runs in `west`."""
        shop(fleet, **more)
        fleet.lose("east")
        fleet.passes(2 * STEP_MS)
        fleet.start("shop", "west", 2)
        after = fleet.passes(STEP_MS)[-1]
        assert counts_of(after) == {"west": 4}
        self.confirm(fleet, "shop", "east")

    def confirm(self, fleet: Fleet, name: str, cluster: str) -> None:
        """The executor of a cluster has withdrawn it."""
        for number in range(2):
            fleet.no_pod(cluster, f"{name}-web-{cluster}-{number}")
        fleet.withdrawn(cluster, name)
        assert placed(fleet.pending()).withdrawn == ()

    @BINDINGS
    def test_what_had_to_leave_returns_when_its_cluster_is_well(self, fleet: Fleet, binding: str) -> None:
        self.evacuated(fleet, placement={"failback": True, "binding": binding})
        assert fleet.placements["default/shop"].pod_sets[0].away == {"east": 2}
        fleet.heard.add("east")
        assert fleet.passes(STABLE_MS) == []
        under_way = fleet.passes(2 * STEP_MS)[-1]
        assert (counts_of(under_way), leaving_of(under_way)) == ({"east": 2, "west": 4}, {"west": 2})
        assert fleet.passes(120_000) == []
        for number in range(2):
            fleet.pod("east", f"back-{number}", node="east-0", of="shop/web", ready=True)
        back = fleet.passes(STEP_MS)[-1]
        assert (counts_of(back), leaving_of(back)) == ({"east": 2, "west": 2}, {})
        assert (back.pod_sets[0].away, back.pod_sets[0].returning) == ({}, ())
        assert fleet.passes(120_000) == []

    def test_to_a_cluster_that_left_the_fleet_meanwhile_nothing_returns_at_once(self, fleet: Fleet) -> None:
        self.evacuated(fleet, **self.TERMS)
        fleet.leaves("east")
        assert fleet.passes(STABLE_MS) == []
        fleet.heard.add("east")
        assert fleet.passes(STABLE_MS) == []
        assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"west": 2}

    def test_who_came_home_another_way_is_away_no_more(self, fleet: Fleet) -> None:
        """Its second cluster had to be left before the first was well for long enough."""
        self.evacuated(fleet, **self.TERMS)
        fleet.heard.add("east")
        fleet.lose("west")
        assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"west": 4}
        fleet.start("shop", "east", 4)
        after = fleet.passes(STEP_MS)[-1]
        assert (counts_of(after), after.pod_sets[0].away) == ({"east": 4}, {"west": 4})

    def test_unless_asked_nothing_returns(self, fleet: Fleet) -> None:
        self.evacuated(fleet)
        fleet.heard.add("east")
        assert fleet.passes(300_000) == []

    def test_who_is_lost_again_before_anything_runs_there_gets_it_later(self, fleet: Fleet) -> None:
        self.evacuated(fleet, **self.TERMS)
        fleet.heard.add("east")
        assert leaving_of(fleet.passes(STABLE_MS + 2 * STEP_MS)[-1]) == {"west": 2}
        fleet.heard.remove("east")
        again = fleet.passes(60_000)[-1]
        assert (counts_of(again), again.pod_sets[0].away) == ({"west": 4}, {"east": 2})
        fleet.heard.add("east")
        assert fleet.passes(STABLE_MS + 60_000) == []
        self.confirm(fleet, "shop", "east")
        assert leaving_of(fleet.passes(STABLE_MS + 2 * STEP_MS)[-1]) == {"west": 2}

    def test_where_there_is_no_room_any_more_nothing_returns(self, fleet: Fleet) -> None:
        self.evacuated(fleet, **self.TERMS)
        for number in range(3):
            fleet.pod("east", f"other-{number}", node=f"east-{number}", cpu="4")
        fleet.heard.add("east")
        assert fleet.passes(120_000) == []
        fleet.no_pod("east", "other-0")
        assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"west": 2}

    def test_whoever_takes_over_knows_what_is_away(self, fleet: Fleet) -> None:
        self.evacuated(fleet, **self.TERMS)
        successor = Fleet()
        successor.now = fleet.now
        successor.state.apply(fleet.placements["default/shop"])
        successor.start("shop", "west", 4)
        assert leaving_of(successor.passes(STABLE_MS + 2 * STEP_MS)[-1]) == {"west": 2}

    def test_whoever_takes_over_before_it_has_left_counts_it_too(self, fleet: Fleet) -> None:
        """He does not know yet that its cluster has to be left."""
        shop(fleet, placement={"failback": True})
        fleet.lose("east")
        assert leaving_of(fleet.passes(2 * STEP_MS)[-1]) == {"east": 2}
        successor = Fleet()
        successor.now = fleet.now
        successor.state.apply(fleet.placements["default/shop"])
        successor.cluster("east")
        successor.heard.remove("east")
        successor.start("shop", "west", 4)
        after = successor.passes(2 * STEP_MS)[-1]
        assert (counts_of(after), after.pod_sets[0].away) == ({"west": 4}, {"east": 2})

    def test_a_job_goes_back_as_a_whole(self, fleet: Fleet) -> None:
        job = {"name": "web", "manifest": JOB}
        ((source, _),) = counts_of(placed(fleet.apply(workload("sum", job, **self.TERMS)))).items()
        (target,) = {"east", "west"} - {source}
        fleet.run("sum")
        fleet.lose(source)
        fleet.passes(2 * STEP_MS)
        fleet.start("sum", target, 2)
        assert counts_of(fleet.passes(STEP_MS)[-1]) == {target: 2}
        fleet.heard.add(source)
        self.confirm(fleet, "sum", source)
        under_way = fleet.passes(STABLE_MS + 2 * STEP_MS)[-1]
        assert (counts_of(under_way), leaving_of(under_way)) == ({source: 2, target: 2}, {target: 2})


class TestWhoTakesOver:
    @BINDINGS
    def test_goes_on_where_the_other_stopped(self, fleet: Fleet, binding: str) -> None:
        shop(fleet, placement={"binding": binding})
        fleet.lose("east")
        decision = fleet.passes(2 * STEP_MS)[-1]
        successor = Fleet()
        successor.now = fleet.now
        successor.heard = {"west"}
        successor.cluster("west")
        successor.state.apply(decision)
        successor.state.note_generation(decision, 0)
        successor.placements = {"default/shop": decision}
        successor.start("shop", "west", 4)
        after = successor.passes(STEP_MS)[-1]
        assert (counts_of(after), after.withdrawn) == ({"west": 4}, ("east",))

    def test_comes_to_the_same_state(self, fleet: Fleet) -> None:
        shop(fleet)
        fleet.lose("east")
        fleet.passes(2 * STEP_MS)
        follower = Fleet()
        for decision in fleet.journal:
            follower.state.apply(decision)
        for number, (cluster, node) in enumerate(
            (share.cluster, node)
            for share in fleet.journal[0].pod_sets[0].shares  # type: ignore[union-attr]
            for node in share.nodes
        ):
            follower.pod(cluster, f"shop-web-{cluster}-{number}", node=node, of="shop/web", ready=True)
        assert follower.state.hash() == fleet.state.hash()


def test_a_change_of_the_workload_keeps_what_waits_to_leave(fleet: Fleet) -> None:
    shop(fleet)
    fleet.lose("east")
    fleet.passes(2 * STEP_MS)
    changed = placed(fleet.apply(workload("shop", image(replicas=5))))
    assert (counts_of(changed), leaving_of(changed)) == ({"east": 2, "west": 5}, {"east": 2})
    fewer = placed(fleet.apply(workload("shop", image(replicas=1))))
    assert (counts_of(fewer), leaving_of(fewer)) == ({"east": 2, "west": 1}, {"east": 2})
    excluded = placed(fleet.apply(workload("shop", image(replicas=1), placement={"clusters": ["west"]})))
    assert (counts_of(excluded), excluded.withdrawn) == ({"west": 1}, ("east",))


def test_a_deletion_takes_all(fleet: Fleet) -> None:
    shop(fleet)
    fleet.lose("east")
    fleet.passes(2 * STEP_MS)
    assert placed(fleet.delete("shop")).withdrawn == ("east", "west")
    assert fleet.passes(60_000) == []


def test_what_leaves_the_fleet_need_not_be_waited_for(fleet: Fleet) -> None:
    shop(fleet)
    fleet.lose("east")
    fleet.passes(2 * STEP_MS)
    fleet.leaves("east")
    assert counts_of(placed(fleet.pending())) == {"west": 4}
