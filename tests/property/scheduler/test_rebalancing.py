"""Moves to better places: each is to where a plain re-implementation would place the replica, with a gain; they end.

Controllers of this world do at once what is decided, and what happens is drawn: prices, nodes, other pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.config import Fit, SchedulerConfig, Weights
from services.scheduler.decision.rebalancing import rebalancing
from services.scheduler.decision.seen.observed import NODES
from shared.events.v1.decisions import PodSetPlacement, Rebalanced, WorkloadPlaced
from shared.events.v1.workloads import Workload
from shared.model.identities import ZONE_LABEL, ObjectKey
from tests.property.scheduler.fleets import CLUSTERS
from tests.reference import INFINITE, Reference
from tests.scheduling import World, image, node_json, workload

STEP_MS = 1_000
# A pod that comes beside one makes no other place better, so it is noticed at the next look that waits for nothing.
QUIET_STEPS = (rebalancing._LONGEST_REST_MS + rebalancing._REST_MS) // STEP_MS + 2
STABLE_MS = 2_000
CONFIGS = (
    SchedulerConfig(stable_ms=STABLE_MS, rebalances_per_minute=6e5),
    SchedulerConfig(
        stable_ms=STABLE_MS, rebalances_per_minute=6e5, fit=Fit.LEAST_ALLOCATED, weights=Weights(spread=0.1)
    ),
)
_PRICES = st.sampled_from(["0", "0.3", "1"])
_NODES = st.builds(
    lambda cpu, zone, price: node_json(cpu=cpu, labels={ZONE_LABEL: zone, "flotilla.dev/price-per-hour": price}),
    st.sampled_from(["2", "4", "16"]),
    st.sampled_from(["a", "b"]),
    _PRICES,
)
_FLEETS = st.lists(st.tuples(st.sampled_from(CLUSTERS), _NODES), min_size=2, max_size=8)
_TERMS = st.fixed_dictionaries(
    {
        "binding": st.sampled_from(["cluster", "node"]),
        "rebalance": st.fixed_dictionaries(
            {"minimumGain": st.sampled_from([0.01, 0.1, 0.3]), "cooldownSeconds": st.sampled_from([0, 5])}
        ),
    }
)
_ASKED = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["500m", "1", "1500m"]), _TERMS), min_size=1, max_size=4)


class Market(World):
    """Every pod is ready as soon as it is decided where it runs, and gone as soon as it is not to."""

    def __init__(self, config: SchedulerConfig, fleet: list[tuple[str, dict[str, Any]]]) -> None:
        super().__init__(config)
        self.documents = {(cluster, f"n{number}"): document for number, (cluster, document) in enumerate(fleet)}
        self.running: dict[tuple[str, str], tuple[str, str]] = {}
        self.others: set[tuple[str, str]] = set()
        self.left: dict[str, set[str]] = {}
        for cluster in CLUSTERS:
            self.cluster(cluster)
        for (cluster, name), document in self.documents.items():
            self.observe(ObjectKey(cluster, NODES, "", name), document)

    def shares(self) -> Iterator[tuple[str, int, str, str, str]]:
        """Of every replica: whose, its ordinal or place, its cluster and node, and what it asks for."""
        for key, decision in self.placements.items():
            [pod_set] = decision.workload.pod_sets
            assert pod_set.resources is not None
            for share in decision.pod_sets[0].shares:
                for at, node in enumerate(share.nodes):
                    number = share.ordinals[at] if share.ordinals else at
                    yield key, number, share.cluster, node, pod_set.resources.requests["cpu"]

    def sync(self) -> None:
        wanted = {}
        for key, number, cluster, node, cpu in self.shares():
            wanted[cluster, f"{key.partition('/')[2]}-{number}"] = (key, node, cpu)
        for cluster, pod in sorted(self.running.keys() - wanted.keys()):
            self.no_pod(cluster, pod)
        for (cluster, pod), (key, node, cpu) in sorted(wanted.items()):
            self.pod(cluster, pod, node=node, of=f"{key.partition('/')[2]}/web", cpu=cpu, ready=True)
        self.running = {place: (key, node) for place, (key, node, _) in wanted.items()}
        for key, decision in self.placements.items():
            for cluster in decision.withdrawn:
                self.withdrawn(cluster, key.partition("/")[2])

    def step(self, config: SchedulerConfig) -> list[Rebalanced]:
        """A second passes; each move that begins is checked."""
        self.now += STEP_MS
        for cluster in CLUSTERS:
            self.cluster(cluster)
        before = {key: decision.pod_sets[0] for key, decision in self.placements.items()}
        moves = []
        for decision in self.pending():
            assert isinstance(decision, WorkloadPlaced)
            key, item = str(decision.workload.key), decision.pod_sets[0]
            assert item.leaving <= 1
            if item.rebalanced is not None and item.rebalanced.state == "moving" and item.leaving:
                moves.append(item.rebalanced)
                self.judge(config, decision, before, item)
            before[key] = item
        self.sync()
        return moves

    def judge(
        self,
        config: SchedulerConfig,
        decision: WorkloadPlaced,
        before: dict[str, PodSetPlacement],
        item: PodSetPlacement,
    ) -> None:
        move, key = item.rebalanced, str(decision.workload.key)
        assert move is not None
        costs = self.costs(config, decision, before, (move.from_cluster, move.from_node))
        assert costs[move.from_cluster, move.from_node] == pytest.approx(move.cost_before, abs=1e-5)
        assert costs[move.cluster, move.node] == pytest.approx(move.cost, abs=1e-5)
        # But for the clusters that it left for better ones since anything happened.
        left = self.left.setdefault(key, set())
        assert move.cluster not in left
        assert min(
            cost for (name, _), cost in costs.items() if name == move.from_cluster or name not in left
        ) == pytest.approx(move.cost, abs=1e-5)
        left.add(move.from_cluster)
        assert move.gain == pytest.approx(move.cost_before - move.cost, abs=1e-5)
        assert move.gain > move.minimum_gain - 1e-9
        assert not before[key].leaving
        if decision.workload.placement.binding == "cluster":
            # Whichever of the cluster's pods goes, as much is gained.
            nodes = next(share.nodes for share in before[key].shares if share.cluster == move.from_cluster)
            for node in nodes:
                there = self.costs(config, decision, before, (move.from_cluster, node))
                assert there[move.from_cluster, node] - min(there.values()) >= move.gain - 1e-5

    def costs(
        self,
        config: SchedulerConfig,
        decision: WorkloadPlaced,
        before: dict[str, PodSetPlacement],
        without: tuple[str, str],
    ) -> dict[tuple[str, str], float]:
        """What a workload's replica costs on every node, if it is not where it is: all others are, as before."""
        reference, spread = Reference(config), Counter[tuple[str, str]]()
        for (cluster, name), document in self.documents.items():
            reference.add(cluster, name, document)
            reference.clusters_taking.add(cluster)
        for cluster, node in self.others:
            [plan], _ = plan_workload(self.other(cluster, node), config.gpu_resource)
            reference.take(cluster, node, plan.demand.shape)
        for key, item in before.items():
            mine = key == str(decision.workload.key)
            [plan], _ = plan_workload(self.placements[key].workload, config.gpu_resource)
            wanted = Counter((share.cluster, node) for share in item.shares for node in share.nodes)
            if mine:
                wanted[without] -= 1
                for (cluster, node), count in wanted.items():
                    spread[cluster, reference.nodes[cluster, node].labels.get(ZONE_LABEL, "")] += count
            # Pods that were given up in the same round run still.
            running = Counter((place[0], node) for place, (owner, node) in self.running.items() if owner == key)
            running[without] -= mine
            for place in sorted((wanted | running).elements()):
                reference.take(*place, plan.demand.shape)
        [plan], _ = plan_workload(decision.workload, config.gpu_resource)
        found = reference.costs(plan.demand.shape, spread, plan.desired)
        return {place: cost for place, cost in found.items() if cost != INFINITE}

    def other(self, cluster: str, node: str) -> Workload:
        return Workload.model_validate(workload(f"other-{cluster}-{node}", image("web", 1, "1", "1Gi")))

    def crowd(self, cluster: str, node: str) -> None:
        """A pod of nobody's appears, where there is room for it."""
        slot = self.state.fleet.slots.get(cluster, node)
        assert slot is not None
        if (cluster, node) not in self.others and self.state.fleet.table.free[slot.row, 0] >= 1_000:
            self.others.add((cluster, node))
            self.pod(cluster, f"other-{node}", node=node, cpu="1", memory="1Gi", ready=True)


def settle(market: Market, config: SchedulerConfig) -> int:
    """Until nothing moves for longer than who was asked in vain is left alone; how many did."""
    replicas = sum(decision.pod_sets[0].desired for decision in market.placements.values())
    count, quiet = 0, 0
    while quiet < QUIET_STEPS:
        moves = market.step(config)
        count, quiet = count + len(moves), 0 if moves else quiet + 1
        # Each replica comes to each cluster at most once.
        assert count <= replicas * (len(CLUSTERS) - 1), "moves without end"
    return count


@pytest.mark.parametrize("config", CONFIGS)
@settings(max_examples=25)
@given(fleet=_FLEETS, asked=_ASKED, data=st.data())
def test_each_move_is_to_where_it_would_be_placed_and_they_end(
    config: SchedulerConfig,
    fleet: list[tuple[str, dict[str, Any]]],
    asked: list[tuple[int, str, Any]],
    data: st.DataObject,
) -> None:
    market = Market(config, fleet)
    for number, (replicas, cpu, terms) in enumerate(asked):
        market.apply(workload(f"w{number}", image("web", replicas, cpu), placement=terms))
    market.sync()
    settle(market, config)
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        place = data.draw(st.sampled_from(sorted(market.documents)), label="node")
        if data.draw(st.booleans(), label="crowded"):
            market.crowd(*place)
        else:
            labels = {
                **market.documents[place]["metadata"]["labels"],
                "flotilla.dev/price-per-hour": data.draw(_PRICES),
            }
            # Another pod is nothing that opens what was left; another price is.
            changed = labels != market.documents[place]["metadata"]["labels"]
            market.left = {} if changed else market.left
            market.documents[place] = {**market.documents[place], "metadata": {"labels": labels}}
            market.observe(ObjectKey(place[0], NODES, "", place[1]), market.documents[place])
        settle(market, config)
    complete(market, config)


def complete(market: Market, config: SchedulerConfig) -> None:
    """What never moved, and all of which runs, would gain nothing by it."""
    now = {key: decision.pod_sets[0] for key, decision in market.placements.items()}
    if any(item.placed < item.desired for item in now.values()):
        return
    for key, item in now.items():
        decision = market.placements[key]
        terms = decision.workload.placement
        if item.rebalanced is not None or terms.rebalance is None:
            continue
        for share in item.shares:
            gains = []
            for node in share.nodes:
                costs = market.costs(config, decision, now, (share.cluster, node))
                best = min(costs, key=costs.__getitem__)
                gains.append(costs[share.cluster, node] - costs[best] if best[0] != share.cluster else 0.0)
            least = max(gains) if terms.binding == "node" else min(gains)
            assert least <= terms.rebalance.minimum_gain + 1e-5, (key, gains)
