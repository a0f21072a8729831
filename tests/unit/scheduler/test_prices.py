"""What a workload may cost an hour: what is placed, what waits and why, and what would let it run."""

from __future__ import annotations

from typing import Any

import pytest

from services.cli.why import Decided, as_text
from services.scheduler.asking import answer
from services.scheduler.decision.remedies import remedies
from shared.events.v1.clusters import ClusterDeclared, NodePrice
from shared.events.v1.decisions import RequestRejected, WorkloadPlaced
from tests.scheduling import JOB, SILENT_MS, TOLERATED_MS, Fleet, World, counts_of, image, nodes_of, placed, workload

Json = dict[str, Any]
BINDINGS = pytest.mark.parametrize("binding", ["cluster", "node"])


def priced(price: float, **labels: str) -> dict[str, str]:
    return {"flotilla.dev/price-per-hour": str(price), **labels}


@pytest.fixture
def world() -> World:
    """Two nodes of four cores in each cluster: a core of `cheap` costs 0.1 an hour, one of `dear` 0.5."""
    world = World()
    for cluster, price in (("cheap", 0.4), ("dear", 2.0)):
        world.cluster(cluster, {"topology.kubernetes.io/region": cluster})
        for number in range(2):
            world.node(cluster, f"{cluster}-{number}", labels=priced(price))
    return world


def web(limit: float, replicas: int = 1, cpu: str = "1", **terms: Any) -> Json:
    return workload("web", image(replicas=replicas, cpu=cpu), placement={"maxPricePerHour": limit, **terms})


def texts(world: World) -> set[str]:
    return {item.text for item in remedies(world.state, "default/web", world.now)}


@BINDINGS
class TestLimit:
    def test_what_it_costs_is_said(self, world: World, binding: str) -> None:
        decision = placed(world.apply(web(1, 4, binding=binding)))
        (outcome,) = decision.pod_sets
        assert (outcome.placed, outcome.reason) == (4, "")
        cost = 0.1 * counts_of(decision).get("cheap", 0) + 0.5 * counts_of(decision).get("dear", 0)
        assert outcome.price_per_hour == pytest.approx(cost)
        assert cost <= 1

    def test_no_replica_goes_where_it_would_cost_too_much(self, world: World, binding: str) -> None:
        decision = placed(world.apply(web(1.9, 12, binding=binding)))
        (outcome,) = decision.pod_sets
        assert counts_of(decision) == {"cheap": 8, "dear": 2}
        assert (outcome.placed, outcome.reason, outcome.price_per_hour) == (10, "OverBudget", 1.8)
        assert outcome.message == (
            "one more replica costs 0.5 an hour or more, and of placement.maxPricePerHour 1.9 there is 0.1 left: "
            "0.4 too little"
        )
        assert outcome.why is not None
        dear = [item for item in outcome.why.refusals if item.filter == "price"]
        assert [(item.cluster, item.nodes) for item in dear] == [("dear", 2 if counts_of(decision)["dear"] < 4 else 1)]
        assert dear[0].reason == "a replica costs 0.5 an hour or more: 0.4 more than is left"

    def test_the_lowest_price_that_is_enough_is_named(self, world: World, binding: str) -> None:
        world.apply(web(1.9, 12, binding=binding))
        assert texts(world) == {
            "raise placement.maxPricePerHour to 2.8",
            "request cpu of 678m or less for a pod",
            "ask for 10 replicas",
        }

    def test_three_times_a_tenth_is_no_more_than_three_tenths(self, world: World, binding: str) -> None:
        decision = placed(world.apply(web(0.3, 3, binding=binding)))
        assert (counts_of(decision), decision.pod_sets[0].price_per_hour) == ({"cheap": 3}, 0.3)

    def test_scaling_up_counts_what_is_there(self, world: World, binding: str) -> None:
        world.apply(web(0.5, 3, binding=binding))
        decision = placed(world.apply(web(0.5, 7, binding=binding)))
        assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (5, "OverBudget")

    def test_nothing_is_given_up_for_its_price(self, world: World, binding: str) -> None:
        before = placed(world.apply(web(2, 4, binding=binding, clusters=["dear"])))
        after = placed(world.apply(web(0.1, 4, binding=binding, clusters=["dear"])))
        assert nodes_of(after) == nodes_of(before)
        assert after.pod_sets[0].price_per_hour == 2
        world.node("dear", "dear-0", labels=priced(40))
        world.node("dear", "dear-1", labels=priced(40))
        assert world.pending() == []
        more = placed(world.apply(web(0.1, 5, binding=binding, clusters=["dear"])))
        assert (more.pod_sets[0].placed, more.pod_sets[0].reason) == (4, "OverBudget")

    def test_a_lower_price_lets_it_run(self, world: World, binding: str) -> None:
        world.apply(web(0.4, 4, binding=binding, clusters=["dear"]))
        assert world.pending() == []
        world.node("dear", "dear-0", labels=priced(0.4))
        decision = placed(world.pending())
        assert (nodes_of(decision), decision.pod_sets[0].reason) == ({"dear": ("dear-0",) * 4}, "")

    def test_a_price_of_the_cluster_counts(self, world: World, binding: str) -> None:
        world.cluster("west")
        world.state.declare_cluster("west", ClusterDeclared(name="west", price_per_hour=0.04))
        world.node("west", "west-0")
        decision = placed(world.apply(web(0.02, 4, binding=binding)))
        assert counts_of(decision) == {"west": 2}
        world.state.declare_cluster("west", ClusterDeclared(name="west", price_per_hour=0.02))
        assert counts_of(placed(world.pending())) == {"west": 4}

    def test_a_price_of_a_class_of_nodes_counts_before_that_of_the_cluster(self, world: World, binding: str) -> None:
        kind = "node.kubernetes.io/instance-type"
        prices = [NodePrice(node_selector={kind: name}, price_per_hour=price) for name, price in (("a", 4), ("b", 8))]
        world.cluster("west")
        world.state.declare_cluster("west", ClusterDeclared(name="west", node_prices=tuple(prices)))
        for name, labels in (("x", {kind: "a"}), ("y", {kind: "b"}), ("z", priced(0.4, **{kind: "b"})), ("free", {})):
            world.node("west", name, labels=labels)
        table, slots = world.state.fleet.table, world.state.fleet.slots
        rows = {slot.name: slot.row for slot in slots.of_cluster("west")}
        assert {name: table.price[row] for name, row in rows.items()} == {"x": 4, "y": 8, "z": 0.4, "free": 0}
        changed = (NodePrice(node_selector={kind: "b"}, price_per_hour=0.2),)
        world.state.declare_cluster("west", ClusterDeclared(name="west", price_per_hour=2, node_prices=changed))
        assert {name: table.price[row] for name, row in rows.items()} == {"x": 2, "y": 0.2, "z": 0.4, "free": 2}
        decision = placed(world.apply(web(0.2, 4, binding=binding, clusters=["west"])))
        assert nodes_of(decision) == {"west": ("y",) * 4}

    def test_nothing_is_free_that_takes_a_place(self, world: World, binding: str) -> None:
        del binding
        template = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
        pods = {"name": "web", "replicas": 3, "template": template}
        limit = 0.4 / 110 * 2
        decision = placed(world.apply(workload("web", pods, placement={"maxPricePerHour": limit})))
        assert counts_of(decision) == {"cheap": 2}


class TestTerms:
    def test_a_tier_that_costs_too_much_is_passed_over(self, world: World) -> None:
        tiers = [{"clusters": ["dear"]}, {"clusters": ["cheap"]}]
        decision = placed(world.apply(web(1, 4, overflow=tiers)))
        # An even part is 0.25: as soon as that of the rest is 0.5, the first tier is taken.
        assert counts_of(decision) == {"cheap": 3, "dear": 1}

    def test_weights_share_out_what_can_be_paid(self, world: World) -> None:
        weights = {"staticWeightList": [{"clusters": ["cheap"], "weight": 1}, {"clusters": ["dear"], "weight": 1}]}
        assert counts_of(placed(world.apply(web(1.2, 4, weightPreference=weights)))) == {"cheap": 2, "dear": 2}
        assert counts_of(placed(world.apply({**web(0.8, 4, weightPreference=weights), "name": "b"}))) == {
            "cheap": 3,
            "dear": 1,
        }

    def test_too_few_groups_that_can_be_paid_are_none(self, world: World) -> None:
        spread = [{"spreadByField": "region", "minGroups": 2}]
        decision = placed(world.apply(web(0.5, 3, spreadConstraints=spread)))
        assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (0, "OverBudget")
        decision = placed(world.apply(web(0.7, 3, spreadConstraints=spread)))
        assert counts_of(decision) == {"cheap": 2, "dear": 1}

    def test_duplicates_are_paid_together(self, world: World) -> None:
        decision = placed(world.apply(web(1.1, 2, division="duplicated")))
        assert counts_of(decision) == {"cheap": 2, "dear": 1}
        assert (decision.pod_sets[0].reason, decision.pod_sets[0].price_per_hour) == ("OverBudget", 0.7)
        assert counts_of(placed(world.apply(web(1.2, 2, division="duplicated")))) == {"cheap": 2, "dear": 2}

    @pytest.mark.parametrize("scope", ["podSet", "workload"])
    def test_a_gang_is_paid_whole_or_takes_nothing(self, world: World, scope: str) -> None:
        decision = placed(world.apply(web(1.2, 10, gang={"scope": scope})))
        assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (0, "OverBudget")
        assert "10 replicas are needed at once: beside 8 of them" in decision.pod_sets[0].message
        assert "raise placement.maxPricePerHour to 1.8" in texts(world)
        decision = placed(world.apply(web(1.8, 10, gang={"scope": scope})))
        assert counts_of(decision) == {"cheap": 8, "dear": 2}

    def test_who_starts_together_with_what_costs_too_much_has_no_room_kept(self, world: World) -> None:
        sets = [image("driver", cpu="4"), image("worker", replicas=8, cpu="1")]
        placed(world.apply(workload("web", *sets, placement={"maxPricePerHour": 1, "gang": {"scope": "workload"}})))
        world.now += 120_000
        for cluster in ("cheap", "dear"):
            world.cluster(cluster)
        world.pending()
        assert not placed(world.apply(workload("small", image(replicas=8, cpu="1"), priority=-1))).pod_sets[0].reason

    def test_a_job_is_paid_whole(self, world: World) -> None:
        job = {"name": "web", "manifest": JOB}
        decision = placed(world.apply(workload("web", job, placement={"maxPricePerHour": 0.1})))
        assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (0, "OverBudget")
        decision = placed(world.apply(workload("web", job, placement={"maxPricePerHour": 0.2})))
        assert counts_of(decision) == {"cheap": 2}

    def test_one_that_has_ended_costs_nothing(self, world: World) -> None:
        sets = [{"name": "job", "manifest": JOB}, image("web", replicas=0)]
        world.apply(workload("web", *sets, placement={"maxPricePerHour": 0.2}))
        world.job("cheap", "web-job", of="web/job", finished=True)
        sets[1] = image("web", replicas=2)
        decision = placed(world.apply(workload("web", *sets, placement={"maxPricePerHour": 0.2})))
        assert [item.price_per_hour for item in decision.pod_sets] == [0.0, 0.2]

    def test_all_pod_sets_are_paid_from_one_purse(self, world: World) -> None:
        sets = [image("a", replicas=2), image("b", replicas=2)]
        decision = placed(world.apply(workload("web", *sets, placement={"maxPricePerHour": 0.3})))
        assert [item.placed for item in decision.pod_sets] == [2, 1]
        assert [item.reason for item in decision.pod_sets] == ["", "OverBudget"]

    def test_what_runs_on_every_node_has_no_limit(self, world: World) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        manifest = {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": spec}
        (answer,) = world.apply(
            workload("web", {"name": "agent", "manifest": manifest}, placement={"maxPricePerHour": 1})
        )
        assert isinstance(answer, RequestRejected)
        assert [(error.field, error.reason) for error in answer.errors] == [
            ("workload.placement.maxPricePerHour", "Contradiction")
        ]


def test_room_is_taken_where_it_can_be_paid(world: World) -> None:
    """All that is cheap runs what is less important, and all that is free costs too much."""
    terms = {"binding": "node", "clusters": ["cheap"]}
    world.apply(workload("less", image(replicas=8), placement=terms, priority=-1))
    for share in world.placements["default/less"].pod_sets[0].shares:
        for ordinal, node in zip(share.ordinals, share.nodes, strict=True):
            world.pod(share.cluster, f"less-{ordinal}", node=node, of="less/web", ready=True)
    decision = placed(world.apply(web(0.2, 2, binding="node")))
    assert decision.pod_sets[0].reason == "OverBudget"
    while world.pending() or world.state.has_work:
        pass
    assert counts_of(world.placements["default/web"]) == {"cheap": 2}
    assert world.placements["default/less"].pod_sets[0].reason == "Preempted"


@pytest.mark.parametrize(("limit", "replicas", "leaves"), [(2.0, 4, 4), (1.0, 4, 1), (0.4, 4, 0), (0.85, 6, 1)])
def test_what_replaces_others_has_to_be_paid_as_well(limit: float, replicas: int, leaves: int) -> None:
    """Out of a lost cluster, one by one: what cannot be paid elsewhere stays where it is."""
    fleet = Fleet(nodes=1)
    fleet.node("east", "east-0", labels=priced(0.4))
    fleet.node("west", "west-0", labels=priced(2.0))
    fleet.apply(web(limit, replicas, preferences=[{"clusters": ["east"], "weight": 100}]))
    assert counts_of(fleet.placements["default/web"]) == {"east": 4}
    for number in range(4):
        fleet.pod("east", f"p{number}", node="east-0", of="web/web", ready=True)
    fleet.lose("east")
    fleet.passes(SILENT_MS + TOLERATED_MS + 5_000)
    (outcome,) = fleet.placements["default/web"].pod_sets
    moved = {share.cluster: (share.replicas, share.leaving or 0) for share in outcome.shares}
    assert moved == {"east": (4, leaves), **({"west": (leaves, 0)} if leaves else {})}
    assert (outcome.price_per_hour or 0) <= limit


def test_what_left_does_not_stay_after_all_when_others_had_its_money() -> None:
    """A replica leaves a lost cluster for a cheaper place, and another pod set is paid by the difference."""
    fleet = Fleet(nodes=1)
    fleet.node("east", "east-0", labels=priced(2.0))
    fleet.node("west", "west-0", labels=priced(0.4), cpu="4")
    terms = {"maxPricePerHour": 0.6, "binding": "node"}
    fleet.apply(workload("web", image("a", 1, "1"), placement={**terms, "clusters": ["east"]}))
    fleet.apply(workload("web", image("a", 1, "1"), image("b", 2, "1"), placement=terms))
    assert [(item.placed, item.reason) for item in fleet.placements["default/web"].pod_sets] == [
        (1, ""),
        (1, "OverBudget"),
    ]
    fleet.pod("east", "p0", node="east-0", of="web/a", ready=True)
    fleet.lose("east")
    fleet.passes(2_000)
    a, b = fleet.placements["default/web"].pod_sets
    assert ([(share.cluster, share.leaving or 0) for share in a.shares], b.placed) == ([("east", 1), ("west", 0)], 2)
    fleet.heard.add("east")
    fleet.passes(60_000)
    a, b = fleet.placements["default/web"].pod_sets
    assert ([(share.cluster, share.leaving or 0) for share in a.shares], b.placed) == ([("east", 1), ("west", 0)], 2)
    assert sum(item.price_per_hour or 0 for item in (a, b)) <= 0.6
    fleet.pod("west", "p1", node="west-0", of="web/a", ready=True)
    fleet.passes(2_000)
    assert counts_of(fleet.placements["default/web"]) == {"west": 1}


def test_pods_count_where_their_cluster_bound_them(world: World) -> None:
    decision = placed(world.apply(web(0.4, 2, cpu="2", binding="cluster")))
    assert nodes_of(decision)["cheap"] == ("cheap-0",) * 2 or nodes_of(decision)["cheap"] == ("cheap-1",) * 2
    world.node("cheap", "other", labels=priced(0.04))
    for number in range(2):
        world.pod("cheap", f"p{number}", node="other", of="web/web", cpu="2")
    record = world.state.find("default/web")
    assert record is not None
    assert world.state.price_of(record) == {"web": pytest.approx(0.04)}
    decision = placed(world.apply(web(0.4, 3, cpu="2", binding="cluster")))
    assert decision.pod_sets[0].placed == 3
    assert decision.pod_sets[0].price_per_hour == pytest.approx(0.24)


@pytest.mark.parametrize("lost", ["pod", "node"])
def test_the_money_of_a_pod_that_starts_again_is_nobody_elses(world: World, lost: str) -> None:
    world.apply(web(0.2, 2, binding="cluster", clusters=["cheap"]))
    for number in range(2):
        world.pod("cheap", f"p{number}", node=f"cheap-{number}", of="web/web")
    if lost == "pod":
        world.no_pod("cheap", "p1")
    else:
        world.no_node("cheap", "cheap-1")
    decision = placed(world.apply(web(0.2, 3, binding="cluster", clusters=["cheap"])))
    assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (2, "OverBudget")
    record = world.state.find("default/web")
    assert record is not None
    assert world.state.price_of(record) == {"web": pytest.approx(0.2)}


def test_why_says_what_it_costs(world: World) -> None:
    world.apply(web(1.9, 12))
    decision = world.placements["default/web"]
    assert WorkloadPlaced.model_validate_json(decision.to_json()) == decision
    lines = [line for line in as_text(Decided(1, 0, decision)) if isinstance(line, str)]
    assert "costs 1.8 an hour, and may cost 1.9" in lines
    found = answer(world.state, "default/web", world.now)
    assert found is not None
    (pod_set,) = found["podSets"]
    assert (pod_set["pricePerHour"], pod_set["pricePerHourNow"]) == (1.8, 1.8)
    assert any(item["filter"] == "price" for item in pod_set["now"]["refusals"])


def test_why_says_what_it_costs_without_a_limit_too(world: World) -> None:
    world.apply(workload("web", image(replicas=2), placement={"clusters": ["dear"]}))
    found = answer(world.state, "default/web", world.now)
    assert found is not None
    assert found["podSets"][0]["pricePerHourNow"] == 1
    assert "pricePerHour" not in found["podSets"][0]


def test_what_costs_too_much_by_now_moves_to_what_costs_less() -> None:
    """Once the limit is lowered: as far as it is no step to a dearer place, and nothing is stopped for it."""
    fleet = Fleet(nodes=1)
    fleet.node("east", "east-0", labels=priced(2.0))
    fleet.node("west", "west-0", labels=priced(1.2))
    terms: Json = {"clusters": ["east"], "rebalance": {"minimumGain": 0.01}}
    fleet.apply(web(2, 4, binding="node", **terms))
    for number in range(4):
        fleet.pod("east", f"web-web-{number}", node="east-0", of="web/web", ready=True)
    fleet.passes(40_000)
    decision = placed(fleet.apply(web(0.5, 4, binding="node", rebalance=terms["rebalance"])))
    assert counts_of(decision) == {"east": 4}
    fleet.passes(40_000)
    (outcome,) = fleet.placements["default/web"].pod_sets
    assert {share.cluster: (share.replicas, share.leaving) for share in outcome.shares} == {
        "east": (4, 1),
        "west": (1, None),
    }
    assert outcome.price_per_hour == pytest.approx(1.8)


def test_nothing_moves_to_a_better_place_that_cannot_be_paid() -> None:
    fleet = Fleet(nodes=1)
    fleet.node("east", "east-0", labels=priced(0.4))
    fleet.node("west", "west-0", labels=priced(2.0, tier="gold"))
    terms: Json = {"rebalance": {"minimumGain": 0.01}, "preferences": [{"clusters": ["west"], "weight": 100}]}
    fleet.apply(web(0.4, 4, binding="node", **terms))
    for number in range(4):
        fleet.pod("east", f"web-web-{number}", node="east-0", of="web/web", ready=True)
    assert fleet.passes(60_000) == []
    assert counts_of(placed(fleet.apply(web(3, 4, binding="node", **terms)))) == {"east": 4}
    fleet.passes(60_000)
    assert counts_of(fleet.placements["default/web"])["west"] == 1
