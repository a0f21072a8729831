"""Every choice is the argmin over all nodes, as a plain re-implementation computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.config import GPU_POLICY, Fit, SchedulerConfig, Weights
from services.scheduler.decision.seen.observed import NODES
from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced
from shared.events.v1.policies import Gang
from shared.events.v1.workloads import Workload
from shared.model.identities import ZONE_LABEL, ObjectKey
from tests.property.scheduler.fleets import CLUSTERS, nodes, workloads
from tests.reference import INFINITE, Reference
from tests.scheduling import World

Json = dict[str, Any]

CONFIGS = (
    SchedulerConfig(),
    SchedulerConfig(fit=Fit.LEAST_ALLOCATED),
    SchedulerConfig(weights=Weights(fit=0.3, balance=1.7, fragmentation=0.0, load=0.0, price=3.0, spread=0.25)),
    SchedulerConfig(weights=GPU_POLICY),
)
FLEETS = st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes()), min_size=1, max_size=70)


def order_of_placement(outcome: PodSetPlacement) -> list[tuple[str, str]]:
    """With `binding: node` the ordinals say which replica came when."""
    places = {
        ordinal: (share.cluster, node)
        for share in outcome.shares
        for ordinal, node in zip(share.ordinals, share.nodes, strict=True)
    }
    return [places[ordinal] for ordinal in sorted(places)]


def check_why(costs: dict[tuple[str, str], float], outcome: PodSetPlacement) -> None:
    """The record of the first choice: its terms are its cost, and no other node costs less than the runner-up."""
    if not outcome.placed:
        return
    assert outcome.why is not None
    choice, first = outcome.why.choices[0], order_of_placement(outcome)[0]
    assert (choice.cluster, choice.node) == first
    assert choice.cost == pytest.approx(costs[first], abs=1e-5)
    assert sum(weight * value for weight, value, _ in choice.terms.values()) == pytest.approx(costs[first], abs=2e-2)
    others = [cost for key, cost in costs.items() if key != first]
    assert bool(choice.runner_up) == bool(others)
    if others:
        assert costs[choice.runner_up_cluster, choice.runner_up] == min(others)
        assert choice.runner_up_cost == pytest.approx(min(others), abs=1e-5)
        assert sum(weight * value for weight, _, value in choice.terms.values()) == pytest.approx(min(others), abs=2e-2)


def turns(gang: Gang | None, plans: Sequence[PodSetPlan]) -> list[tuple[int, int]]:
    """In which order pod sets, by index, have how many replicas placed: of pod sets that start together first what each
    needs.
    """
    needed = [least_of(gang, plan) for plan in plans]
    rest = [plan.desired - least for plan, least in zip(plans, needed, strict=True)]
    if gang is not None and gang.scope == "workload":
        return [*enumerate(needed), *enumerate(rest)]
    return [turn for index in range(len(plans)) for turn in ((index, needed[index]), (index, rest[index]))]


def least_of(gang: Gang | None, plan: PodSetPlan) -> int:
    return min(gang.min_count.get(plan.name, plan.desired), plan.desired) if gang is not None else 0


Money = int | None


def limit_of(workload: Workload) -> Money:
    limit = workload.placement.max_price_per_hour
    return None if limit is None else round(limit * 1_000_000_000)


def possible(
    reference: Reference, plan: PodSetPlan, spread: Counter[tuple[str, str]], allowed: Collection[str], left: Money
) -> dict[tuple[str, str], float]:
    """What the next replica costs where it may go: where it can be paid with an even part of the money, for as many
    more replicas as any can.
    """
    costs = reference.costs(plan.demand.shape, spread, plan.desired)
    found = {key: cost for key, cost in costs.items() if key[0] in allowed and cost != INFINITE}
    if left is None:
        return found
    prices = reference.prices(plan.demand.shape)
    for count in range(plan.desired - spread.total(), 0, -1):
        if paid := {key: cost for key, cost in found.items() if prices[key] * count <= left}:
            return paid
    return {}


def counts_of_gang(
    reference: Reference, gang: Gang, plans: Sequence[PodSetPlan], allowed: Collection[str], left: Money
) -> list[int]:
    """How many replicas of each pod set have a place when each goes where it costs least, and gangs are whole."""
    counts, spreads = [0] * len(plans), [Counter[tuple[str, str]]() for _ in plans]
    for index, wanted in turns(gang, plans):
        plan, spread, trial, count, money = plans[index], Counter(spreads[index]), deepcopy(reference), 0, left
        if counts[index] < least_of(gang, plan) and counts[index]:
            continue
        while count < wanted:
            costs = possible(trial, plan, spread, allowed, money)
            if not costs:
                break
            place = min(costs, key=costs.__getitem__)
            money = money - trial.prices(plan.demand.shape)[place] if money is not None else None
            trial.take(*place, plan.demand.shape)
            spread[place[0], trial.nodes[place].labels.get(ZONE_LABEL, "")] += 1
            count += 1
        if counts[index] + count >= least_of(gang, plan):
            counts[index], reference, spreads[index], left = counts[index] + count, trial, spread, money
        elif gang.scope == "workload":
            return [0] * len(plans)
    return counts


def check(reference: Reference, config: SchedulerConfig, decision: WorkloadPlaced) -> None:
    plans, errors = plan_workload(decision.workload, config.gpu_resource)
    assert not errors
    allowed = decision.workload.placement.clusters or CLUSTERS
    gang, left = decision.workload.placement.gang, limit_of(decision.workload)
    if gang is not None:
        assert [item.placed for item in decision.pod_sets] == counts_of_gang(reference, gang, plans, allowed, left)
    placed = [iter(order_of_placement(outcome)) for outcome in decision.pod_sets]
    spreads = [Counter[tuple[str, str]]() for _ in plans]
    for index, wanted in turns(gang, plans):
        plan, shape, spread = plans[index], plans[index].demand.shape, spreads[index]
        for cluster, node in islice(placed[index], wanted):
            costs = possible(reference, plan, spread, allowed, left)
            if not spread.total():
                check_why(costs, decision.pod_sets[index])
            assert costs[cluster, node] - min(costs.values()) == 0
            left = left - reference.prices(shape)[cluster, node] if left is not None else None
            reference.take(cluster, node, shape)
            spread[cluster, reference.nodes[cluster, node].labels.get(ZONE_LABEL, "")] += 1
    for plan, outcome, spread in zip(plans, decision.pod_sets, spreads, strict=True):
        if gang is not None and not outcome.placed and outcome.desired:
            assert outcome.reason in {"GangDoesNotFit", "NoCluster", "OverBudget"}
        elif outcome.placed < outcome.desired:
            dear = outcome.reason == "OverBudget"
            assert dear or outcome.reason in {"Unschedulable", "NoCluster"}
            assert outcome.message.startswith("one more replica costs " if dear else "0/")
            if len(plans) == 1:
                assert not possible(reference, plan, spread, allowed, left)
                assert bool(possible(reference, plan, spread, allowed, None)) == dear
            elif gang is None:
                assert bool(possible(reference, plan, spread, allowed, None)) <= dear


@pytest.mark.parametrize("config", CONFIGS)
@given(FLEETS, st.data())
def test_every_choice_is_the_cheapest(
    config: SchedulerConfig, fleet: list[tuple[str, Json]], data: st.DataObject
) -> None:
    world, reference = World(config), Reference(config)
    for cluster in CLUSTERS:
        world.cluster(cluster)
        reference.clusters_taking.add(cluster)
    for index, (cluster, document) in enumerate(fleet):
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
        reference.add(cluster, f"n{index}", document)
    for index in range(data.draw(st.integers(1, 8), label="workloads")):
        document = data.draw(workloads(f"w{index}", ("node",)), label="workload")
        mix = world.state.fleet.mix
        reference.mix = [(tuple(kind), part) for kind, part in zip(mix.classes.tolist(), mix.frequency, strict=True)]
        (decision,) = world.apply(document)
        assert isinstance(decision, WorkloadPlaced)
        check(reference, config, decision)
    for (cluster, name), node in reference.nodes.items():
        slot = world.state.fleet.slots.get(cluster, name)
        assert slot is not None
        table = world.state.fleet.table
        for resource in ("cpu", "memory", "pods"):
            left = node.allocatable[resource] - node.used[resource]
            assert table.free[slot.row, table.columns.index[resource]] == left >= 0
