"""How replicas are shared out among clusters."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.scheduler.decision.state import SchedulerState
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import PodSetPlacement
from shared.events.v1.workloads import Workload
from tests.scheduling import World, counts_of, image, placed, workload

Json = dict[str, Any]
NAMES = ("a", "b", "c", "d")
REGIONS = {"a": "eu", "b": "eu", "c": "us", "d": "asia"}


@pytest.fixture
def fleet() -> World:
    """Four clusters in three regions, each with room for eight replicas of one core."""
    world = World()
    for name in NAMES:
        world.cluster(name, {"topology.kubernetes.io/region": REGIONS[name], "owner": "us" if name == "a" else "cloud"})
        for number in range(2):
            world.node(name, f"{name}-{number}", cpu="4")
    return world


def outcome(world: World, replicas: int, **placement: Any) -> PodSetPlacement:
    return placed(world.apply(workload("shop", image(replicas=replicas), placement=placement))).pod_sets[0]


def counts(world: World, replicas: int, **placement: Any) -> dict[str, int]:
    return counts_of(placed(world.apply(workload("shop", image(replicas=replicas), placement=placement))))


def weights(**by_name: int) -> Json:
    items = [{"clusters": [name], "weight": weight} for name, weight in by_name.items()]
    return {"weightPreference": {"staticWeightList": items}}


class TestStaticWeights:
    def test_replicas_are_in_proportion(self, fleet: World) -> None:
        assert counts(fleet, 8, **weights(a=5, b=2, c=1)) == {"a": 5, "b": 2, "c": 1}

    def test_what_no_weight_selects_and_weight_zero_get_nothing(self, fleet: World) -> None:
        assert counts(fleet, 6, **weights(a=1, b=1, c=0)) == {"a": 3, "b": 3}

    def test_the_highest_weight_that_selects_counts(self, fleet: World) -> None:
        items = [{"weight": 1}, {"clusterSelector": {"matchLabels": {"owner": "us"}}, "weight": 3}]
        assert counts(fleet, 6, weightPreference={"staticWeightList": items}) == {"a": 3, "b": 1, "c": 1, "d": 1}

    def test_what_a_full_cluster_cannot_take_the_others_share(self, fleet: World) -> None:
        assert counts(fleet, 12, **weights(a=10, b=1, c=1)) == {"a": 8, "b": 2, "c": 2}

    def test_scaling_moves_only_the_difference(self, fleet: World) -> None:
        before = counts(fleet, 5, **weights(a=3, b=2))
        after = counts(fleet, 6, **weights(a=3, b=2))
        assert sum(abs(after.get(name, 0) - before.get(name, 0)) for name in NAMES) == 1
        assert counts(fleet, 5, **weights(a=3, b=2)) == before

    def test_other_weights_move_as_few_as_they_need(self, fleet: World) -> None:
        assert counts(fleet, 8, **weights(a=1, b=1)) == {"a": 4, "b": 4}
        nodes = {share.cluster: share.nodes for share in outcome(fleet, 8, **weights(a=3, b=1)).shares}
        assert {name: len(mine) for name, mine in nodes.items()} == {"a": 6, "b": 2}
        assert sum(fleet.state.fleet.table.free[:, 0].clip(min=0)) == (32 - 8) * 1000

    def test_a_full_cluster_keeps_the_others_from_moving_there(self, fleet: World) -> None:
        fleet.apply(workload("other", image(replicas=7), placement={"clusters": ["b"]}))
        assert counts(fleet, 6, **weights(a=1, b=1)) == {"a": 5, "b": 1}
        fleet.delete("other")
        # Room that appears moves nothing.
        assert fleet.pending() == []
        assert counts_of(fleet.placements["default/shop"]) == {"a": 5, "b": 1}


class TestDynamicWeights:
    BY_ROOM: Json = {"weightPreference": {"dynamicWeight": "AvailableReplicas"}}  # noqa: RUF012

    def test_clusters_with_more_room_have_more(self, fleet: World) -> None:
        fleet.apply(workload("other", image(replicas=6), placement={"clusters": ["a"]}))
        assert counts(fleet, 13, clusters=["a", "b", "c"], **self.BY_ROOM) == {"a": 1, "b": 6, "c": 6}

    def test_own_replicas_count_as_room(self, fleet: World) -> None:
        terms = {"clusters": ["a", "b"], **self.BY_ROOM}
        assert counts(fleet, 8, **terms) == {"a": 4, "b": 4}
        assert counts(fleet, 12, **terms) == {"a": 6, "b": 6}
        assert counts(fleet, 8, **terms) == {"a": 4, "b": 4}


class TestOverflow:
    TIERS: Json = {  # noqa: RUF012
        "overflow": [{"clusterSelector": {"matchLabels": {"owner": "us"}}}, {"clusters": ["b", "c"]}]
    }

    def test_the_next_tier_is_for_what_the_former_has_no_room_for(self, fleet: World) -> None:
        assert counts(fleet, 7, **self.TIERS) == {"a": 7}
        found = counts(fleet, 12, **self.TIERS)
        assert found["a"] == 8
        assert found.keys() == {"a", "b", "c"}

    def test_scaling_down_leaves_the_last_tier_first(self, fleet: World) -> None:
        counts(fleet, 12, **self.TIERS)
        assert counts(fleet, 6, **self.TIERS) == {"a": 6}

    def test_what_is_in_no_tier_gets_nothing(self, fleet: World) -> None:
        result = outcome(fleet, 30, **self.TIERS)
        assert ("d" not in {share.cluster for share in result.shares}, result.placed, result.reason) == (
            True,
            24,
            "Unschedulable",
        )

    def test_tiers_that_are_new_move_what_has_room_in_a_better_one(self, fleet: World) -> None:
        assert counts(fleet, 4) == {"a": 1, "b": 1, "c": 1, "d": 1}
        assert counts(fleet, 4, **self.TIERS) == {"a": 4}

    def test_tiers_that_make_no_difference_move_nothing(self, fleet: World) -> None:
        before = outcome(fleet, 6)
        assert outcome(fleet, 6, overflow=[{"clusters": list(NAMES)}]).shares == before.shares

    def test_with_weights_within_a_tier(self, fleet: World) -> None:
        terms = {"overflow": [{"clusters": ["a", "b"]}, {"clusters": ["c"]}], **weights(a=3, b=1, c=100)}
        assert counts(fleet, 8, **terms) == {"a": 6, "b": 2}

    def test_a_job_goes_whole_to_the_first_tier_that_has_room_for_all_of_it(self, fleet: World) -> None:
        spec = {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}}],
        }
        job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"parallelism": 2, "template": {"spec": spec}}}
        fleet.apply(workload("other", image(replicas=3), placement={"clusters": ["a"]}))
        pod_set = {"name": "job", "manifest": job}
        decision = placed(
            fleet.apply(workload("batch", pod_set, placement={"overflow": [{"clusters": ["a"]}, {"clusters": ["d"]}]}))
        )
        assert counts_of(decision) == {"d": 2}


class TestSpreadConstraints:
    def test_as_many_groups_as_asked_at_least(self, fleet: World) -> None:
        terms = {"spreadConstraints": [{"spreadByField": "region", "minGroups": 3}]}
        found = counts(fleet, 3, **terms, preferences=[{"clusters": ["a"], "weight": 100}])
        assert {REGIONS[name] for name in found} == {"eu", "us", "asia"}

    def test_as_many_as_asked_at_most_and_those_that_have_the_room(self, fleet: World) -> None:
        terms = {"spreadConstraints": [{"spreadByField": "region", "maxGroups": 1}]}
        # Only the region of two clusters has room for ten.
        assert counts(fleet, 10, **terms).keys() == {"a", "b"}

    def test_one_cluster_even_if_it_costs_more(self, fleet: World) -> None:
        assert len(counts(fleet, 8, spreadConstraints=[{"spreadByField": "cluster", "maxGroups": 1}])) == 1

    def test_too_few_groups_with_room_place_nothing_and_say_so(self, fleet: World) -> None:
        terms = {"spreadConstraints": [{"spreadByField": "region", "minGroups": 3}], "clusters": ["a", "b", "c"]}
        result = outcome(fleet, 3, **terms)
        assert (result.placed, result.reason) == (0, "SpreadConstraint")
        assert result.message == "placement.spreadConstraints.0 wants 3 groups by region, and 2 can have replicas"
        fleet.cluster("b", {"topology.kubernetes.io/region": "africa"})
        assert counts_of(placed(fleet.pending())) == {"a": 1, "b": 1, "c": 1}

    def test_clusters_without_the_label_get_nothing(self, fleet: World) -> None:
        fleet.cluster("d", {})
        assert "d" not in counts(fleet, 8, spreadConstraints=[{"spreadByField": "region"}])

    def test_scaling_down_keeps_the_groups(self, fleet: World) -> None:
        terms = {"spreadConstraints": [{"spreadByField": "region", "minGroups": 3}]}
        counts(fleet, 9, **terms)
        assert {REGIONS[name] for name in counts(fleet, 3, **terms)} == {"eu", "us", "asia"}

    def test_a_limit_that_is_new_gives_up_the_smallest_groups(self, fleet: World) -> None:
        fleet.apply(workload("other", image(replicas=7), placement={"clusters": ["d"]}))
        before = counts(fleet, 7)
        after = counts(fleet, 7, spreadConstraints=[{"spreadByField": "cluster", "maxGroups": 2}])
        assert len(after) == 2
        assert all(after[name] >= before[name] for name in after)


def test_preferences_outweigh_spread_and_not_room(fleet: World) -> None:
    terms = {"preferences": [{"clusterSelector": {"matchLabels": {"owner": "us"}}, "weight": 10}]}
    assert counts(fleet, 6, **terms) == {"a": 6}
    assert counts(fleet, 10, **terms)["a"] == 8


class TestDuplicated:
    def test_each_cluster_has_all_replicas_as_they_come_and_go(self, fleet: World) -> None:
        result = outcome(fleet, 2, division="duplicated", clusters=["a", "b", "e"])
        assert {share.cluster: share.replicas for share in result.shares} == {"a": 2, "b": 2}
        assert (result.desired, result.reason) == (4, "")
        fleet.cluster("e")
        fleet.node("e", "e-0")
        assert counts_of(placed(fleet.pending())) == {"a": 2, "b": 2, "e": 2}
        assert counts(fleet, 1, division="duplicated", clusters=["a", "b", "e"]) == {"a": 1, "b": 1, "e": 1}

    def test_what_one_cluster_lacks_waits_there(self, fleet: World) -> None:
        fleet.apply(workload("other", image(replicas=7), placement={"clusters": ["b"]}))
        result = outcome(fleet, 3, division="duplicated", clusters=["a", "b"])
        assert (result.desired, result.placed, result.reason) == (6, 4, "Unschedulable")
        assert result.message == "there is no room for 2 replicas in clusters: b"
        fleet.node("b", "b-9")
        assert counts_of(placed(fleet.pending())) == {"a": 3, "b": 3}

    def test_a_cluster_that_takes_nothing_now_keeps_what_it_has(self, fleet: World) -> None:
        outcome(fleet, 2, division="duplicated", clusters=["a", "b"])
        fleet.state.declare_cluster("a", ClusterDeclared(name="a", unschedulable=True))
        assert fleet.pending() == []
        result = outcome(fleet, 3, division="duplicated", clusters=["a", "b"])
        assert ({share.cluster: share.replicas for share in result.shares}, result.reason) == ({"a": 2, "b": 3}, "")

    def test_bound_pods_and_whole_objects(self, fleet: World) -> None:
        decision = placed(
            fleet.apply(workload("bound", image(replicas=2), placement={"division": "duplicated", "binding": "node"}))
        )
        ordinals = [ordinal for share in decision.pod_sets[0].shares for ordinal in share.ordinals]
        assert sorted(ordinals) == list(range(8))
        config = {"name": "conf", "manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}
        decision = placed(fleet.apply(workload("conf", config, placement={"division": "duplicated"})))
        assert counts_of(decision) == dict.fromkeys(NAMES, 1)

    def test_nowhere(self, fleet: World) -> None:
        result = outcome(fleet, 2, division="duplicated", clusters=["nowhere"])
        assert (result.desired, result.placed, result.reason) == (2, 0, "NoCluster")


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ({"weightPreference": {}}, "exactly one of staticWeightList and dynamicWeight"),
        ({"spreadConstraints": [{"spreadByField": "rack"}]}, "spreadByField"),
        ({"spreadConstraints": [{"spreadByField": "zone", "minGroups": 3, "maxGroups": 2}]}, "maxGroups 2 must not be"),
        ({"spreadConstraints": [{"spreadByField": "zone"}, {"spreadByField": "zone"}]}, "spreadConstraints.1.spread"),
        (
            {
                "spreadConstraints": [
                    {"spreadByField": "cluster", "maxGroups": 2},
                    {"spreadByField": "region", "minGroups": 3},
                ]
            },
            "spreadConstraints.1.minGroups: 3 are more than clusters",
        ),
        ({"division": "duplicated", "overflow": [{"clusters": ["a"]}]}, "overflow shares replicas out"),
        ({"preferences": [{"weight": 101}]}, "preferences.0.weight"),
    ],
)
def test_what_is_malformed_is_named(placement: Json, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Workload.model_validate(workload("shop", placement=placement))


def test_a_standby_comes_to_the_same_state(fleet: World) -> None:
    for terms in (weights(a=3, b=2), TestDynamicWeights.BY_ROOM, TestOverflow.TIERS, {"division": "duplicated"}):
        counts(fleet, 3, **terms)
    standby = SchedulerState(fleet.state.config)
    for decision in fleet.journal:
        standby.apply(decision)
    assert standby._workloads.get("default/shop") is not None
