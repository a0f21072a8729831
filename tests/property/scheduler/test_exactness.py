"""Every choice is the argmin over all nodes, as a plain re-implementation computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import PodSetPlan, plan_workload
from services.scheduler.decision.config import GPU_POLICY, Fit, SchedulerConfig, Weights
from services.scheduler.decision.seen.observed import NODES
from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced
from shared.events.v1.policies import Gang
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


def check_why(costs: dict[tuple[str, str], float], allowed: Collection[str], outcome: PodSetPlacement) -> None:
    """The record of the first choice: its terms are its cost, and no other node costs less than the runner-up."""
    if not outcome.placed:
        return
    assert outcome.why is not None
    choice, first = outcome.why.choices[0], order_of_placement(outcome)[0]
    assert (choice.cluster, choice.node) == first
    assert choice.cost == pytest.approx(costs[first], abs=1e-5)
    assert sum(weight * value for weight, value, _ in choice.terms.values()) == pytest.approx(costs[first], abs=2e-2)
    others = [cost for key, cost in costs.items() if key[0] in allowed and key != first and cost != INFINITE]
    assert bool(choice.runner_up) == bool(others)
    if others:
        assert costs[choice.runner_up_cluster, choice.runner_up] == min(others)
        assert choice.runner_up_cost == pytest.approx(min(others), abs=1e-5)
        assert sum(weight * value for weight, _, value in choice.terms.values()) == pytest.approx(min(others), abs=2e-2)


def counts_of_gang(
    reference: Reference, gang: Gang, plans: Sequence[PodSetPlan], allowed: Collection[str]
) -> list[int]:
    """How many replicas of each pod set have a place when each goes where it costs least, and gangs are whole."""
    counts, needed = [], [min(gang.min_count.get(plan.name, plan.desired), plan.desired) for plan in plans]
    for plan, least in zip(plans, needed, strict=True):
        trial, count = deepcopy(reference), 0
        spread = Counter[tuple[str, str]]()
        while count < plan.desired:
            costs = trial.costs(plan.demand.shape, spread, plan.desired)
            possible = {key: cost for key, cost in costs.items() if key[0] in allowed and cost != INFINITE}
            if not possible:
                break
            place = min(possible, key=possible.__getitem__)
            trial.take(*place, plan.demand.shape)
            spread[place[0], trial.nodes[place].labels.get(ZONE_LABEL, "")] += 1
            count += 1
        counts.append(count if count >= least else 0)
        reference = trial if count >= least else reference
    whole = all(count >= least for count, least in zip(counts, needed, strict=True))
    return counts if whole or gang.scope == "podSet" else [0] * len(counts)


def check(reference: Reference, config: SchedulerConfig, decision: WorkloadPlaced) -> None:
    plans, errors = plan_workload(decision.workload, config.gpu_resource)
    assert not errors
    allowed = decision.workload.placement.clusters or CLUSTERS
    gang = decision.workload.placement.gang
    if gang is not None:
        assert [item.placed for item in decision.pod_sets] == counts_of_gang(reference, gang, plans, allowed)
    for plan, outcome in zip(plans, decision.pod_sets, strict=True):
        shape, spread = plan.demand.shape, Counter[tuple[str, str]]()
        check_why(reference.costs(shape, spread, plan.desired), allowed, outcome)
        for cluster, node in order_of_placement(outcome):
            costs = reference.costs(shape, spread, plan.desired)
            least = min(cost for key, cost in costs.items() if key[0] in allowed)
            assert costs[cluster, node] - least == 0
            assert cluster in allowed
            reference.take(cluster, node, shape)
            spread[cluster, reference.nodes[cluster, node].labels.get(ZONE_LABEL, "")] += 1
        if gang is not None and not outcome.placed and outcome.desired:
            assert outcome.reason in {"GangDoesNotFit", "NoCluster"}
        elif outcome.placed < outcome.desired:
            costs = reference.costs(shape, spread, plan.desired)
            assert all(cost == INFINITE for key, cost in costs.items() if key[0] in allowed)
            assert outcome.reason in {"Unschedulable", "NoCluster"}
            assert outcome.message.startswith("0/")


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
