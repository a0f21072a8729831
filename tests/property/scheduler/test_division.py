"""Shares of clusters: monotone, near their quota, stable; each choice is the argmin among the clusters that are due.

What is due is computed anew from the docstring of `services.scheduler.decision.placing.division`, with fractions and
loops.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import NODES
from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced
from shared.events.v1.workloads import PlacementTerms
from shared.model.identities import ObjectKey
from tests.property.scheduler.test_exactness import order_of_placement
from tests.reference import INFINITE, Reference
from tests.scheduling import World, counts_of, image, node_json, placed, workload

Json = dict[str, Any]
NAMES = ("a", "b", "c", "d")
REGIONS = {"a": "eu", "b": "eu", "c": "us", "d": ""}


def weighted(weights: dict[str, int]) -> Json:
    return {"weightPreference": {"staticWeightList": [{"clusters": [n], "weight": w} for n, w in weights.items()]}}


def roomy(names: tuple[str, ...]) -> World:
    world = World()
    for name in names:
        world.cluster(name)
        world.node(name, f"{name}-0", cpu="1000", memory="4000Gi", pods="1000")
    return world


def counts(world: World, replicas: int, terms: Json, name: str = "shop") -> dict[str, int]:
    return counts_of(placed(world.apply(workload(name, image(replicas=replicas, cpu="100m"), placement=terms))))


WEIGHTS = st.lists(st.integers(1, 60), min_size=2, max_size=4)


@given(WEIGHTS, st.integers(0, 15))
def test_one_more_replica_is_one_more_in_one_cluster_and_back_again(weights: list[int], replicas: int) -> None:
    world = roomy(NAMES)
    terms = weighted(dict(zip(NAMES, weights, strict=False)))
    before = counts(world, replicas, terms)
    after = counts(world, replicas + 1, terms)
    assert Counter(before) <= Counter(after)
    # Another workload of that many replicas has the same shares: they do not depend on the way.
    assert counts(world, replicas + 1, terms, "other") == after
    assert counts(world, replicas, terms) == before


@given(WEIGHTS, st.integers(1, 25))
def test_shares_are_those_of_websters_method(weights: list[int], replicas: int) -> None:
    """No transfer between two clusters brings both nearer to their weights; up to three clusters keep their quota.

    With more, no method that is monotone always does (Balinski and Young, theorem 6.1).
    """
    by_name = dict(zip(NAMES, weights, strict=False))
    shares = Counter(counts(roomy(NAMES), replicas, weighted(by_name)))
    for giver, taker in ((a, b) for a in by_name for b in by_name):
        assert Fraction(2 * shares[giver] - 1, by_name[giver]) <= Fraction(2 * shares[taker] + 1, by_name[taker])
    if len(by_name) <= 3:
        for name, weight in by_name.items():
            assert abs(shares[name] - Fraction(replicas * weight, sum(weights))) < 1


@given(WEIGHTS, WEIGHTS, st.integers(1, 15))
def test_other_weights_move_no_more_than_they_need(old: list[int], new: list[int], replicas: int) -> None:
    world = roomy(NAMES)
    by_name = dict(zip(NAMES, new, strict=False))
    before = Counter(counts(world, replicas, weighted(dict(zip(NAMES, old, strict=False)))))
    after = Counter(counts(world, replicas, weighted(by_name))) if old != new else before
    fresh = Counter(counts(world, replicas, weighted(by_name), "fresh"))
    for giver, taker in ((a, b) for a in by_name for b in by_name):
        assert Fraction(2 * after[giver] - 1, by_name[giver]) <= Fraction(2 * after[taker] + 1, by_name[taker])
    assert (before - after).total() <= (before - fresh).total()


# --- every choice ---

TERMS = st.fixed_dictionaries(
    {},
    optional={
        "weightPreference": st.one_of(
            st.just({"dynamicWeight": "AvailableReplicas"}),
            st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5), min_size=2).map(
                lambda weights: weighted(weights)["weightPreference"]
            ),
        ),
        "overflow": st.lists(
            st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True).map(
                lambda names: {"clusters": names}
            ),
            min_size=1,
            max_size=3,
        ),
        "preferences": st.lists(
            st.tuples(st.sampled_from(NAMES), st.integers(1, 100)).map(lambda p: {"clusters": [p[0]], "weight": p[1]}),
            min_size=1,
            max_size=2,
        ),
        "spreadConstraints": st.sampled_from(
            [
                [{"spreadByField": "cluster", "minGroups": 2}],
                [{"spreadByField": "cluster", "maxGroups": 2}],
                [{"spreadByField": "region", "maxGroups": 1}],
                [{"spreadByField": "region", "minGroups": 2}, {"spreadByField": "cluster", "maxGroups": 3}],
            ]
        ),
    },
)


class Due:
    """Which clusters are due for the next replica; `full` are those that were found to be so."""

    def __init__(self, terms: PlacementTerms, desired: int, room: dict[str, int], start: Counter[str]) -> None:
        self.terms, self.desired, self.counts = terms, desired, start
        self.room = dict(room)
        self.full: set[str] = set()
        preference = terms.weight_preference
        self.weights = {
            name: 1
            if preference is None
            else start[name] + room[name]
            if preference.dynamic_weight
            else max((item.weight for item in preference.static_weight_list if name in item.clusters), default=0)
            for name in NAMES
        }
        self.tiers = {
            name: next((i for i, tier in enumerate(terms.overflow) if name in tier.clusters), -1)
            if terms.overflow
            else 0
            for name in NAMES
        }

    def group(self, field: str, name: str) -> str:
        return name if field == "cluster" else REGIONS[name]

    def eligible(self) -> list[str]:
        fields = [item.spread_by_field for item in self.terms.spread_constraints]
        return [
            name
            for name in NAMES
            if self.weights[name] > 0 and self.tiers[name] >= 0 and all(self.group(field, name) for field in fields)
        ]

    def lacks_groups(self) -> bool:
        for item in self.terms.spread_constraints:
            able = {self.group(item.spread_by_field, n) for n in self.eligible() if self.room[n] or self.counts[n]}
            if len(able) < min(item.min_groups, self.desired):
                return True
        return False

    def allowed(self) -> list[str]:
        names = self.eligible()
        for item in self.terms.spread_constraints:
            group = {name: self.group(item.spread_by_field, name) for name in NAMES}
            used = {group[name] for name in NAMES if self.counts[name] and group[name]}
            opening = {group[name] for name in self.eligible()} - used
            if len(used) < min(item.min_groups, self.desired):
                names = [name for name in names if group[name] not in used]
            if item.max_groups is None:
                continue
            if len(used) >= item.max_groups:
                names = [name for name in names if group[name] in used]
                continue
            room = Counter[str]()
            for name in self.eligible():
                room[group[name]] += self.room[name]
            inside = sum(room[name] for name in used)
            fitting = set()
            for one in opening:
                others = sorted((room[other] for other in opening - {one}), reverse=True)
                most = inside + room[one] + sum(others[: item.max_groups - len(used) - 1])
                if most >= max(self.desired - self.counts.total(), 1):
                    fitting.add(one)
            if fitting:
                names = [name for name in names if group[name] in used | fitting]
        return names

    def next(self) -> list[str]:
        """The clusters among which the cheapest node is to be chosen; empty if nothing has room."""
        while True:
            names = self.allowed()
            names = [name for name in names if name not in self.full]
            if not names:
                return []
            tier = min(self.tiers[name] for name in names)
            names = [name for name in names if self.tiers[name] == tier]
            if self.terms.weight_preference is not None:
                claims = {name: Fraction(self.weights[name], 2 * self.counts[name] + 1) for name in names}
                names = [name for name in names if claims[name] == max(claims.values())]
            if any(self.room[name] for name in names):
                return names
            self.full |= set(names)

    def cost(self, name: str, scale: float) -> float:
        total = sum(item.weight for item in self.terms.preferences) or 1
        return scale * (sum(item.weight for item in self.terms.preferences if name not in item.clusters) / total)

    def take(self, name: str) -> None:
        self.counts[name] += 1
        self.room[name] -= 1


def room_in(reference: Reference, request: dict[str, int]) -> dict[str, int]:
    found = dict.fromkeys(NAMES, 0)
    for (cluster, _), node in reference.nodes.items():
        found[cluster] += min((node.allocatable[name] - node.used[name]) // amount for name, amount in request.items())
    return found


def check(reference: Reference, config: SchedulerConfig, decision: WorkloadPlaced) -> None:
    plans, errors = plan_workload(decision.workload, config.gpu_resource)
    assert not errors
    (plan,), (outcome,) = plans, decision.pod_sets
    shape, spread = plan.demand.shape, Counter[tuple[str, str]]()
    due = Due(decision.workload.placement, plan.desired, room_in(reference, dict(shape.requests)), Counter())
    if due.lacks_groups():
        assert (outcome.placed, outcome.reason) == (0, "SpreadConstraint" if plan.desired else "")
        return
    for cluster, node in order_of_placement(outcome):
        names = due.next()
        costs = reference.costs(shape, spread, plan.desired)
        total = {
            key: cost + due.cost(key[0], config.weights.preferences)
            for key, cost in costs.items()
            if key[0] in names and cost != INFINITE
        }
        assert (cluster, node) in total
        assert total[cluster, node] <= min(total.values()) + 1e-12
        reference.take(cluster, node, shape)
        spread[cluster, ""] += 1
        due.take(cluster)
    if outcome.placed < outcome.desired:
        assert due.next() == []
        assert outcome.reason == "Unschedulable" or not due.eligible()


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["1", "3", "8"])), min_size=1, max_size=10),
    st.lists(st.tuples(st.integers(0, 9), TERMS), min_size=1, max_size=4),
)
def test_every_choice_is_the_cheapest_of_those_that_are_due(
    fleet: list[tuple[str, str]], asked: list[tuple[int, Json]]
) -> None:
    config = SchedulerConfig()
    world, reference = World(config), Reference(config)
    for name in NAMES:
        world.cluster(name, {"topology.kubernetes.io/region": REGIONS[name]} if REGIONS[name] else {})
        reference.clusters_taking.add(name)
    for index, (cluster, cpu) in enumerate(fleet):
        document = node_json(cpu=cpu)
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
        reference.add(cluster, f"n{index}", document)
    for index, (replicas, terms) in enumerate(asked):
        document = workload(f"w{index}", image(replicas=replicas), placement={"binding": "node", **terms})
        check(reference, config, placed(world.apply(document)))


# --- what always holds ---


def by_cluster(outcome: PodSetPlacement) -> Counter[tuple[str, str]]:
    return Counter((share.cluster, node) for share in outcome.shares for node in share.nodes)


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["1", "3", "8"])), min_size=1, max_size=10),
    TERMS,
    st.lists(st.integers(0, 9), min_size=2, max_size=6),
    st.sampled_from(["cluster", "node"]),
)
def test_scaling_moves_only_the_difference(
    fleet: list[tuple[str, str]], terms: Json, sizes: list[int], binding: str
) -> None:
    world = World()
    for name in NAMES:
        world.cluster(name, {"topology.kubernetes.io/region": REGIONS[name]} if REGIONS[name] else {})
    for index, (cluster, cpu) in enumerate(fleet):
        world.node(cluster, f"n{index}", cpu=cpu)
    before = Counter[tuple[str, str]]()
    for size in sizes:
        decisions = world.apply(workload("shop", image(replicas=size), placement={"binding": binding, **terms}))
        after = by_cluster(placed(decisions).pod_sets[0]) if decisions else before
        assert before <= after or after <= before
        assert world.pending() == []
        before = after
    table = world.state.fleet.table
    assert (table.free[table.alive] >= 0).all()


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["1", "3", "8"])), min_size=1, max_size=10),
    st.lists(TERMS, min_size=2, max_size=4),
    st.integers(0, 9),
)
def test_a_change_of_terms_ends_and_charges_each_replica_once(
    fleet: list[tuple[str, str]], changes: list[Json], replicas: int
) -> None:
    world = World()
    for name in NAMES:
        world.cluster(name, {"topology.kubernetes.io/region": REGIONS[name]} if REGIONS[name] else {})
    for index, (cluster, cpu) in enumerate(fleet):
        world.node(cluster, f"n{index}", cpu=cpu)
    free = int(world.state.fleet.table.free[:, 0].sum())
    for terms in changes:
        world.apply(workload("shop", image(replicas=replicas), placement=terms))
        outcome = world.placements["default/shop"].pod_sets[0]
        assert outcome.placed <= replicas
        assert free - int(world.state.fleet.table.free[:, 0].sum()) == 1000 * outcome.placed
        for constraint in PlacementTerms.model_validate(terms).spread_constraints:
            if constraint.max_groups is not None:
                group = (lambda n: n) if constraint.spread_by_field == "cluster" else REGIONS.__getitem__
                assert len({group(share.cluster) for share in outcome.shares}) <= constraint.max_groups
