"""Rules between pods, where Flotilla binds: what they do to placements, one by one.

All of them at once, and exactly, are in `tests/property/scheduler/test_rules_exactness.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import SchedulerConfig, Weights
from services.scheduler.decision.seen.observed import PODS
from shared.events.v1.decisions import WorkloadPlaced
from shared.model.identities import ObjectKey
from tests.scheduling import World, counts_of, nodes_of, placed, workload

Json = dict[str, Any]
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def term(app: str, key: str = HOSTNAME, **more: Any) -> Json:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def near(*terms: Json) -> Json:
    return {"affinity": {"podAffinity": {REQUIRED: list(terms)}}}


def apart(*terms: Json) -> Json:
    return {"affinity": {"podAntiAffinity": {REQUIRED: list(terms)}}}


def spread(app: str, key: str = ZONE, skew: int = 1, **more: Any) -> Json:
    constraint = {"maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule", **term(app, key), **more}
    return {"topologySpreadConstraints": [constraint]}


def pods(app: str, replicas: int = 1, binding: str = "node", name: str = "", cpu: str = "100m", **spec: Any) -> Json:
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    template = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container], **spec}}
    pod_set = {"name": "main", "replicas": replicas, "template": template}
    return workload(name or app, pod_set, placement={"binding": binding})


def observe(world: World, name: str, node: str, app: str, *, ending: bool = False, **spec: Any) -> None:
    metadata: Json = {"labels": {"app": app}, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if ending else {})}
    document = {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [{"name": "c"}], **spec},
        "status": {"phase": "Running"},
    }
    world.observe(ObjectKey("north", PODS, "default", name), document)


def node_of(decision: WorkloadPlaced) -> str:
    ((node,),) = nodes_of(decision).values()
    return node


@pytest.fixture
def world() -> World:
    """Three nodes in one cluster, two of them in zone a."""
    world = World()
    world.cluster("north")
    for name, zone in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        world.node("north", name, labels={HOSTNAME: name, ZONE: zone})
    return world


class TestAntiAffinity:
    def test_replicas_keep_apart_and_what_finds_no_node_says_why(self, world: World) -> None:
        decision = placed(world.apply(pods("web", 4, **apart(term("web")))))
        assert sorted(nodes_of(decision)["north"]) == ["a1", "a2", "b1"]
        assert decision.pod_sets[0].message == (
            "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."
        )

    def test_pods_of_others_count(self, world: World) -> None:
        observe(world, "x", "a1", "db")
        assert node_of(placed(world.apply(pods("web", **apart(term("db", ZONE)))))) == "b1"

    def test_what_others_do_not_want_beside_them_keeps_away(self, world: World) -> None:
        observe(world, "x", "a1", "db", **apart(term("web", ZONE)))
        decision = placed(world.apply(pods("web", 1)))
        assert node_of(decision) == "b1"
        world.no_node("north", "b1")
        decision = placed(world.apply(pods("web", 1, name="other")))
        assert "2 node(s) didn't satisfy existing pods anti-affinity rules" in decision.pod_sets[0].message

    def test_what_waits_goes_where_a_pod_went_away(self, world: World) -> None:
        for name, node in (("x", "a1"), ("y", "a2"), ("z", "b1")):
            observe(world, name, node, "db")
        assert placed(world.apply(pods("web", **apart(term("db"))))).pod_sets[0].placed == 0
        world.no_pod("north", "y")
        assert node_of(placed(world.pending())) == "a2"

    def test_a_rule_that_comes_later_moves_only_those_that_break_it(self, world: World) -> None:
        world.node("north", "a2", labels={HOSTNAME: "a2", ZONE: "a"}, unschedulable=True)
        world.node("north", "b1", labels={HOSTNAME: "b1", ZONE: "b"}, unschedulable=True)
        assert nodes_of(placed(world.apply(pods("web", 2)))) == {"north": ("a1", "a1")}
        world.node("north", "b1", labels={HOSTNAME: "b1", ZONE: "b"})
        decision = placed(world.apply(pods("web", 2, **apart(term("web")))))
        assert sorted(nodes_of(decision)["north"]) == ["a1", "b1"]

    def test_replicas_of_a_larger_template_stay(self, world: World) -> None:
        before = nodes_of(placed(world.apply(pods("web", 3, **apart(term("web"))))))
        after = nodes_of(placed(world.apply(pods("web", 3, cpu="200m", **apart(term("web"))))))
        assert after == before


class TestAffinity:
    def test_pods_go_where_those_are_that_they_want(self, world: World) -> None:
        observe(world, "x", "b1", "db")
        assert node_of(placed(world.apply(pods("web", **near(term("db")))))) == "b1"

    def test_they_wait_for_them(self, world: World) -> None:
        decision = placed(world.apply(pods("web", **near(term("db")))))
        assert decision.pod_sets[0].message == "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
        placed(world.apply(pods("db")))
        assert node_of(placed(world.pending())) == node_of(world.placements["default/db"])

    def test_the_first_of_a_group_may_go_anywhere_and_the_others_follow(self, world: World) -> None:
        decision = placed(world.apply(pods("web", 3, **near(term("web")))))
        assert len(set(nodes_of(decision)["north"])) == 1

    def test_a_domain_does_not_reach_over_clusters(self, world: World) -> None:
        world.cluster("south")
        world.node("south", "s1", labels={HOSTNAME: "s1", ZONE: "b"})
        observe(world, "x", "b1", "db")
        assert nodes_of(placed(world.apply(pods("web", **near(term("db", ZONE)))))) == {"north": ("b1",)}

    def test_preferred_pods_attract_and_others_repel(self, world: World) -> None:
        observe(world, "x", "b1", "db")
        weighted = {"weight": 100, "podAffinityTerm": term("db", ZONE)}
        assert node_of(placed(world.apply(pods("web", affinity={"podAffinity": {PREFERRED: [weighted]}})))) == "b1"
        for number in range(4):
            away = pods("w", name=f"w{number}", affinity={"podAntiAffinity": {PREFERRED: [weighted]}})
            assert node_of(placed(world.apply(away))) != "b1"

    def test_namespaces_are_chosen_by_their_labels(self, world: World) -> None:
        observe(world, "x", "b1", "db")
        wanted = near(term("db", namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "other"}}))
        assert placed(world.apply(pods("web", **wanted))).pod_sets[0].placed == 0
        wanted = near(term("db", namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "default"}}))
        assert node_of(placed(world.apply(pods("web", **wanted)))) == "b1"


class TestSpread:
    def test_no_domain_is_ahead_by_more_than_the_skew(self, world: World) -> None:
        decision = placed(world.apply(pods("web", 6, **spread("web"))))
        nodes = nodes_of(decision)["north"]
        assert sum(node == "b1" for node in nodes) == 3

    def test_what_is_refused_says_why(self, world: World) -> None:
        world.node("north", "b1", cpu="100m", labels={HOSTNAME: "b1", ZONE: "b"})
        world.node("north", "c1")
        decision = placed(world.apply(pods("web", 4, **spread("web"))))
        assert decision.pod_sets[0].placed == 3
        assert decision.pod_sets[0].message == (
            "0/4 nodes are available: 1 Insufficient cpu, "
            "1 node(s) didn't match pod topology spread constraints (missing required label), "
            "2 node(s) didn't match pod topology spread constraints."
        )

    def test_fewer_domains_than_there_should_be_count_as_empty_ones(self, world: World) -> None:
        decision = placed(world.apply(pods("web", 6, **spread("web", minDomains=3))))
        assert decision.pod_sets[0].placed == 2

    def test_pods_that_are_about_to_end_do_not_count(self, world: World) -> None:
        world.node("north", "b1", labels={HOSTNAME: "b1", ZONE: "b"}, unschedulable=True)
        observe(world, "x", "a1", "web")
        assert placed(world.apply(pods("web", **spread("web")))).pod_sets[0].placed == 0
        observe(world, "x", "a1", "web", ending=True)
        assert placed(world.pending()).pod_sets[0].placed == 1

    def test_the_policies_say_which_nodes_count(self, world: World) -> None:
        # Nobody of web's can go to b1; whether it counts as an empty domain decides.
        taint = {"key": "dedicated", "value": "", "effect": "NoSchedule"}
        world.node("north", "b1", labels={HOSTNAME: "b1", ZONE: "b"}, taints=[taint])
        for policy, count in (("Ignore", 1), ("Honor", 3)):
            decision = placed(
                world.apply(pods("web", 3, name=policy.lower(), **spread("web", nodeTaintsPolicy=policy)))
            )
            assert decision.pod_sets[0].placed == count
            world.delete(policy.lower())
        world.node("north", "b1", labels={HOSTNAME: "b1", ZONE: "b"})
        for name in ("a1", "a2"):
            world.node("north", name, labels={HOSTNAME: name, ZONE: "a", "disk": "ssd"})
        for policy, count in (("Ignore", 1), ("Honor", 3)):
            rules = {"nodeSelector": {"disk": "ssd"}, **spread("web", nodeAffinityPolicy=policy)}
            decision = placed(world.apply(pods("web", 3, name=f"ssd-{policy.lower()}", **rules)))
            assert decision.pod_sets[0].placed == count
            world.delete(f"ssd-{policy.lower()}")

    def test_anyway_it_is_only_preferred(self, world: World) -> None:
        world.node("north", "b1", cpu="200m", labels={HOSTNAME: "b1", ZONE: "b"})
        decision = placed(world.apply(pods("web", 6, **spread("web", whenUnsatisfiable="ScheduleAnyway"))))
        assert decision.pod_sets[0].placed == 6
        assert sum(node == "b1" for node in nodes_of(decision)["north"]) == 2


def test_a_node_in_a_domain_where_nobody_counts_is_like_any_other(world: World) -> None:
    # Another namespace's pod would be with web's, but only in namespaces of which there is none.
    foreign = {**term("web", "rack"), "namespaceSelector": {"matchLabels": {"team": "x"}}}
    preferred = {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": foreign}]}}
    observe(world, "x", "a1", "other", affinity=preferred)
    for node in ("one", "two"):
        world.node("north", node, labels={HOSTNAME: node, "rack": node, "disk": "ssd"})
        decision = world.apply(pods("web", name=node, cpu="3", nodeSelector={"disk": "ssd"}))
        assert node_of(placed(decision)) == node


def test_what_weighs_nothing_is_nowhere_asked_for() -> None:
    world = World(SchedulerConfig(weights=Weights(pod_affinity=0, topology_spread=0)))
    world.cluster("north")
    anyway = spread("web", whenUnsatisfiable="ScheduleAnyway")
    preferred: Json = {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": term("web")}]}}
    assert not placed(world.apply(pods("web", **anyway, affinity=preferred))).pod_sets[0].placed
    world.node("north", "a1", labels={HOSTNAME: "a1", ZONE: "a"})
    assert node_of(placed(world.pending())) == "a1"
    assert node_of(placed(world.apply(pods("web", name="second", **anyway, affinity=preferred)))) == "a1"


def test_who_is_alike_may_differ_for_the_next_who_asks(world: World) -> None:
    # Nobody has asked for the workload's own label before: pods that were alike until then no longer are.
    placed(world.apply(pods("web", name="one", **apart(term("nobody")))))
    placed(world.apply(pods("web", name="two", **apart(term("nobody")))))
    own = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"flotilla.dev/workload": "two"}}}
    beside = placed(world.apply(pods("cache", **near(own))))
    assert node_of(beside) == node_of(world.placements["default/two"])
    again = placed(world.apply(pods("web", name="three", **apart(own))))
    assert node_of(again) != node_of(world.placements["default/two"])


def test_with_binding_cluster_they_are_left_to_the_clusters_scheduler(world: World) -> None:
    decision = placed(world.apply(pods("web", 5, "cluster", **apart(term("web")))))
    assert counts_of(decision) == {"north": 5}


def test_replicas_that_a_clusters_scheduler_has_yet_to_bind_are_nowhere(world: World) -> None:
    placed(world.apply(pods("db", 3, "cluster")))
    assert placed(world.apply(pods("web", **near(term("db"))))).pod_sets[0].placed == 0
    observe(world, "x", "a2", "db")
    assert node_of(placed(world.pending())) == "a2"


def test_a_new_leader_sees_who_is_there(world: World) -> None:
    placed(world.apply(pods("web", **near(term("db")))))
    placed(world.apply(pods("cache")))
    successor = World()
    successor.cluster("north")
    for name, zone in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        successor.node("north", name, labels={HOSTNAME: name, ZONE: zone})
    for decision in world.journal:
        successor.state.apply(decision)
    observe(successor, "x", "b1", "db")
    assert node_of(placed(successor.pending())) == "b1"
    away = pods("away", **apart(term("cache", ZONE)))
    assert node_of(placed(successor.apply(away)))[0] != node_of(world.placements["default/cache"])[0]


def test_what_nobody_asks_any_more_is_forgotten() -> None:
    world = World(SchedulerConfig(cached_profiles=1))
    world.cluster("north")
    world.node("north", "a1", cpu="64", pods="500", labels={HOSTNAME: "a1", ZONE: "a"})
    world.apply(pods("stays", **apart(term("nobody"))))
    for number in range(300):
        app = f"app-{number}"
        assert placed(world.apply(pods(app, **apart(term(app))))).pod_sets[0].placed == 1
        world.delete(app)
    neighbours = world.state.fleet.neighbours
    assert len(neighbours._by_label) < 200
    assert len(neighbours._terms_by_label) < 200
    facts = next(facts for _, facts in world.state.fleet.slots.present())
    assert len(facts.tallies) < 50
