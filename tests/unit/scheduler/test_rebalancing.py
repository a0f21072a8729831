"""Replicas that run move to better places: where asked, at a pace, when nothing comes first, and to an end."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
import pytest

from services.scheduler.decision.config import SchedulerConfig, Weights
from services.scheduler.decision.seen.observed import BUDGETS
from shared.events.v1.decisions import Rebalanced, RequestRejected, WorkloadPlaced
from shared.model.identities import ObjectKey
from tests.scheduling import JOB, STEP_MS, Fleet, counts_of, image, leaving_of, placed, workload

BINDINGS = pytest.mark.parametrize("binding", ["cluster", "node"])
STABLE_MS = 5_000
COOLDOWN_S = 60
ASKED: dict[str, Any] = {"rebalance": {"minimumGain": 0.1, "cooldownSeconds": COOLDOWN_S}}
CHEAP, DEAR = "0.1", "1"


class Market(Fleet):
    """`east` and `west` with nodes of a price, and controllers that do at once what is decided."""

    def __init__(self, clusters: str = "east west", **config: Any) -> None:
        super().__init__(SchedulerConfig(stable_ms=STABLE_MS, **config), clusters=clusters)
        self.there: dict[str, set[tuple[str, str]]] = {}
        for cluster in sorted(self.heard):
            self.price(cluster, DEAR)
        self.passes(STABLE_MS)

    def price(self, cluster: str, price: str) -> None:
        for number in range(3):
            labels = {"flotilla.dev/price-per-hour": price}
            self.node(cluster, f"{cluster}-{number}", cpu="16", memory="64Gi", labels=labels)

    def sync(self, name: str = "shop", *, ready: bool = True, but: str = "") -> None:
        """Each replica has its pod, none of them ready in the cluster `but`."""
        shares = self.placements[f"default/{name}"].pod_sets[0].shares
        there = {
            (share.cluster, f"{name}-web-{share.cluster}-{share.ordinals[at] if share.ordinals else at}", node)
            for share in shares
            for at, node in enumerate(share.nodes)
        }
        for cluster, pod in self.there.get(name, set()) - {(cluster, pod) for cluster, pod, _ in there}:
            self.no_pod(cluster, pod)
        for cluster, pod, node in sorted(there):
            self.pod(cluster, pod, node=node, of=f"{name}/web", ready=ready and cluster != but)
        self.there[name] = {(cluster, pod) for cluster, pod, _ in there}
        for cluster in self.placements[f"default/{name}"].withdrawn:
            self.withdrawn(cluster, name)

    def ask(self, name: str = "shop", replicas: int = 1, **placement: Any) -> dict[str, int]:  # type: ignore[override]
        decision = placed(self.apply(workload(name, image(replicas=replicas), placement=placement)))
        self.sync(name)
        return counts_of(decision)

    def works(self, ms: int, *names: str) -> list[WorkloadPlaced]:
        """Time passes, and controllers work."""
        decided = []
        for _ in range(0, ms, STEP_MS):
            decided += self.passes(STEP_MS)
            for name in names or ("shop",):
                self.sync(name)
        return decided


def moves_of(decided: list[WorkloadPlaced]) -> list[Rebalanced]:
    """Those that began."""
    items = (decision.pod_sets[0] for decision in decided)
    return [item.rebalanced for item in items if item.rebalanced is not None and item.rebalanced.state == "moving"]


@pytest.fixture
def market() -> Market:
    return Market()


def other(cluster: str) -> str:
    return "west" if cluster == "east" else "east"


@BINDINGS
def test_reserve_start_confirm_ready_and_only_then_remove(market: Market, binding: str) -> None:
    [source] = market.ask(binding=binding, **ASKED)
    target = other(source)
    assert market.works(20_000) == []
    market.price(target, CHEAP)
    [begun] = market.passes(2 * STEP_MS)
    assert (counts_of(begun), leaving_of(begun)) == ({source: 1, target: 1}, {source: 1})
    item = begun.pod_sets[0]
    why = item.rebalanced
    assert item.placed == 1
    assert why is not None
    assert (why.reason, why.state, why.arrived) == ("Rebalanced", "moving", {target: why.at})
    assert (why.from_cluster, why.cluster, why.node) == (source, target, item.shares[target > source].nodes[0])
    assert why.gain == pytest.approx(why.cost_before - why.cost) == pytest.approx(0.45, abs=0.01)
    assert why.minimum_gain == 0.1
    assert item.why is not None
    assert [choice.cluster for choice in item.why.choices] == [target]
    assert item.why.choices[0].cost == pytest.approx(why.cost, abs=1e-5)
    market.sync(but=target)
    assert market.passes(60_000) == []
    market.sync()
    [done] = market.passes(STEP_MS)
    assert (counts_of(done), done.withdrawn) == ({target: 1}, (source,))
    assert done.pod_sets[0].rebalanced == why.model_copy(update={"state": "moved"})


@pytest.mark.parametrize("terms", [{}, {"rebalance": {"minimumGain": 0.5}}])
def test_unless_asked_or_for_too_little_nothing_moves(market: Market, terms: dict[str, Any]) -> None:
    [source] = market.ask(**terms)
    market.price(other(source), CHEAP)
    assert market.works(120_000) == []


def test_what_moved_stays_for_a_while(market: Market) -> None:
    [source] = market.ask(**ASKED)
    target = other(source)
    market.price(target, CHEAP)
    [move] = moves_of(market.works(10_000))
    market.price(target, DEAR)
    market.price(source, CHEAP)
    assert moves_of(market.works(COOLDOWN_S * 1000 - (market.now - move.at) - STEP_MS)) == []
    [back] = moves_of(market.works(5_000))
    assert (back.from_cluster, back.cluster) == (target, source)
    assert back.at - move.at >= COOLDOWN_S * 1000


@BINDINGS
def test_one_replica_of_a_workload_at_a_time_and_as_few_as_need_be(market: Market, binding: str) -> None:
    counts = market.ask(replicas=6, binding=binding, **ASKED)
    assert counts == {"east": 3, "west": 3}
    market.price("west", "0")
    decided = market.works(60_000)
    assert all(decision.pod_sets[0].leaving <= 1 for decision in decided)
    moved = moves_of(decided)
    # Each step towards one cluster costs more spread, which in the end outweighs the price.
    assert [move.cluster for move in moved] == ["west"] * len(moved) != []
    assert all(move.gain > 0.1 for move in moved)
    assert all(first.gain >= second.gain for first, second in pairwise(moved))
    assert market.works(300_000) == []


@pytest.mark.parametrize(("per_minute", "seconds"), [(6.0, 10), (60.0, 1), (0.0, None)])
def test_a_budget_for_the_fleet(per_minute: float, seconds: int | None) -> None:
    market = Market(rebalances_per_minute=per_minute)
    names = [f"w{number}" for number in range(4)]
    for name in names:
        market.ask(name, clusters=["east"])
    for name in names:
        market.ask(name, **ASKED)
    market.price("west", "0")
    moved = [move.at for move in moves_of(market.works(60_000, *names))]
    if seconds is None:
        assert moved == []
        return
    assert len(moved) == 4
    assert all(after - before >= seconds * 1000 for before, after in pairwise(moved))


class TestLeftAlone:
    def test_jobs_and_pods_with_volumes(self, market: Market) -> None:
        claim = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
        stateful = {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "spec": {
                "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [container]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            },
        }
        pod_sets: tuple[dict[str, Any], ...] = (
            {"name": "web", "manifest": JOB},
            {"name": "web", "template": {"spec": {"containers": [container], "volumes": claim}}},
            {"name": "web", "manifest": stateful},
        )
        for number, pod_set in enumerate(pod_sets):
            placed(market.apply(workload(f"w{number}", pod_set, placement=ASKED)))
            market.sync(f"w{number}")
        market.price("east", "0")
        assert market.works(20_000, "w0", "w1", "w2") == []
        market.price("east", DEAR)
        market.price("west", "0")
        assert market.works(120_000, "w0", "w1", "w2") == []

    @pytest.mark.parametrize(
        "terms",
        [
            {"gang": {}},
            {"atMostOnce": True},
            {"division": "duplicated"},
            {"weightPreference": {"dynamicWeight": "AvailableReplicas"}},
        ],
    )
    def test_terms_that_contradict_are_refused(self, market: Market, terms: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="rebalance: "):
            market.apply(workload("shop", image(), placement={**ASKED, **terms}))

    def test_a_budget_of_the_cluster_that_allows_none(self, market: Market) -> None:
        [source] = market.ask(**ASKED)
        self.budget(market, source, allowed=0)
        market.price(other(source), CHEAP)
        assert market.works(60_000) == []
        self.budget(market, source, allowed=1)
        assert len(moves_of(market.works(5_000))) == 1

    def budget(self, market: Market, cluster: str, allowed: int) -> None:
        document = {
            "metadata": {"generation": 1},
            "spec": {"selector": {"matchLabels": {}}},
            "status": {
                "disruptionsAllowed": allowed,
                "currentHealthy": 1,
                "desiredHealthy": 1 - allowed,
                "observedGeneration": 1,
            },
        }
        market.state.observe_object(ObjectKey(cluster, BUDGETS, "default", "budget"), orjson.dumps(document))

    @BINDINGS
    def test_what_is_not_ready(self, market: Market, binding: str) -> None:
        [source] = market.ask(binding=binding, **ASKED)
        market.sync(ready=False)
        market.price(other(source), CHEAP)
        assert market.passes(60_000) == []

    @pytest.mark.parametrize("whose", ["source", "target"])
    @pytest.mark.parametrize("trouble", ["silent", "tainted"])
    def test_where_a_cluster_is_not_well(self, market: Market, trouble: str, whose: str) -> None:
        [source] = market.ask(tolerations=[{"operator": "Exists"}], **ASKED)
        cluster = source if whose == "source" else other(source)
        market.price(other(source), CHEAP)
        if trouble == "tainted":
            market.taint(cluster, "dedicated")
            assert market.works(60_000) == []
            return
        market.heard.remove(cluster)
        market.now += 30_000
        assert market.works(60_000) == []
        market.heard.add(cluster)
        assert market.works(STABLE_MS) == []
        assert len(moves_of(market.works(10_000))) == 1

    def test_what_has_to_leave_its_cluster_comes_first(self) -> None:
        market = Market("east north west", evacuations_per_s=0.0)
        [source] = market.ask(clusters=["east", "west"], **ASKED)
        market.ask("other", clusters=["north"])
        market.ask("other")
        market.taint("north", "flotilla.dev/draining")
        market.price(other(source), CHEAP)
        assert market.works(60_000, "shop", "other") == []

    def test_a_node_where_its_pod_has_no_place_any_more_says_nothing(self, market: Market) -> None:
        [source] = market.ask(**ASKED)
        market.price(other(source), CHEAP)
        node = market.placements["default/shop"].pod_sets[0].shares[0].nodes[0]
        market.node(source, node, cpu="16", memory="64Gi", unschedulable=True)
        assert market.works(60_000) == []


def test_what_waits_comes_first(market: Market) -> None:
    """A replica that waits and has room is placed before any moves; one that fits nowhere holds up nobody."""
    [source] = market.ask(**ASKED)
    placed(market.apply(workload("huge", image(cpu="100"))))
    market.price(other(source), CHEAP)
    assert len(moves_of(market.works(5_000))) == 1


@BINDINGS
def test_of_pods_that_the_cluster_binds_the_one_that_costs_least_counts(binding: str) -> None:
    """Which one its controller removes nobody knows: as long as one is on a cheap node nothing is sure to be gained."""
    market = Market(weights=Weights(spread=0.0))
    for terms in ({"clusters": ["east"]}, ASKED):
        asked = image(replicas=2, cpu="10", memory="40Gi")
        decision = placed(market.apply(workload("shop", asked, placement={"binding": binding, **terms})))
    market.sync()
    [dear, cheap] = decision.pod_sets[0].shares[0].nodes
    market.price("west", "0.5")
    for node, price in ((dear, DEAR), (cheap, CHEAP)):
        market.node("east", node, cpu="16", memory="64Gi", labels={"flotilla.dev/price-per-hour": price})
    moved = moves_of(market.works(5_000))
    assert [move.from_node for move in moved] == ([dear] if binding == "node" else [])
    market.price("east", DEAR)
    assert moves_of(market.works(15_000))


class TestInVain:
    @BINDINGS
    def test_a_replacement_that_does_not_become_ready_is_given_up(self, binding: str) -> None:
        market = Market(rebalance_patience_ms=30_000)
        [source] = market.ask(binding=binding, **ASKED)
        target = other(source)
        market.price(target, CHEAP)
        assert len(market.passes(2 * STEP_MS)) == 1
        for _ in range(28):
            market.sync(but=target)
            assert market.passes(STEP_MS) == []
        market.sync(but=target)
        [after] = market.passes(2 * STEP_MS)
        assert (counts_of(after), leaving_of(after)) == ({source: 1}, {})
        assert after.pod_sets[0].rebalanced is not None
        assert after.pod_sets[0].rebalanced.state == "failed"
        # And not tried again before anything happens to the fleet.
        assert moves_of(market.works(30 * 60_000)) == []
        market.node(target, "new")
        assert [move.cluster for move in moves_of(market.works(5_000))] == [target]

    def test_where_its_cluster_is_lost_meanwhile_the_old_one_stays(self, market: Market) -> None:
        [source] = market.ask(**ASKED)
        target = other(source)
        market.price(target, CHEAP)
        market.passes(2 * STEP_MS)
        market.sync(but=target)
        market.heard.remove(target)
        after = market.passes(60_000)[-1]
        assert counts_of(after)[source] == 1
        assert leaving_of(after) in ({}, {target: 1})
        assert after.pod_sets[0].rebalanced is not None
        assert after.pod_sets[0].rebalanced.state == "failed"


def test_a_cluster_that_it_left_it_comes_back_to_when_something_happened(market: Market) -> None:
    """What others' moves did to the costs does not count: moves alone never go on without end."""
    [source] = market.ask(**ASKED)
    target = other(source)
    market.price(target, CHEAP)
    assert len(moves_of(market.works(10_000))) == 1
    # The cost of its place rises by what runs there alone: nothing about nodes, clusters or workloads.
    for number in range(3):
        market.pod(source, f"packed-{number}", node=f"{source}-{number}", cpu="14", memory="56Gi", ready=True)
    assert moves_of(market.works(30 * 60_000)) == []
    market.price(target, DEAR)
    assert [move.cluster for move in moves_of(market.works(5_000))] == [source]


def test_an_earlier_tier_is_better_whatever_it_costs(market: Market) -> None:
    tiers = [{"clusters": ["east"]}, {"clusters": ["west"]}]
    for number in range(3):
        market.pod("east", f"full-{number}", node=f"east-{number}", cpu="16", ready=True)
    assert market.ask(overflow=tiers, **ASKED) == {"west": 1}
    market.price("west", "0")
    assert market.works(20_000) == []
    market.no_pod("east", "full-0")
    [move] = moves_of(market.works(15_000))
    assert (move.cluster, move.by_terms) == ("east", True)
    assert move.gain < 0
    assert moves_of(market.works(30 * 60_000)) == []


def test_whoever_takes_over_goes_on(market: Market) -> None:
    [source] = market.ask(**ASKED)
    market.price(other(source), CHEAP)
    market.passes(2 * STEP_MS)
    successor = Market()
    successor.price(other(source), CHEAP)
    for decision in market.journal:
        successor.state.apply(decision)
    successor.placements, successor.now = dict(market.placements), market.now
    assert successor.state.hash() != Market().state.hash()
    successor.sync()
    [done] = successor.passes(2 * STEP_MS)
    assert counts_of(done) == {other(source): 1}
    assert Counter(share.cluster for share in done.pod_sets[0].shares)[source] == 0


def test_a_request_that_is_wrong_names_the_field() -> None:
    market = Market()
    with pytest.raises(ValueError, match=r"minimumGain"):
        market.apply(workload("shop", image(), placement={"rebalance": {"minimumGain": 0}}))
    assert not any(isinstance(decision, RequestRejected) for decision in market.journal)
