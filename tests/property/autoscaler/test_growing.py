"""The sizes that are chosen are the argmax over all candidates: every one of them put before the scheduler itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.autoscaler.decision.nodes.growing import Growth, grow
from services.autoscaler.decision.nodes.judging import Sizing
from services.autoscaler.decision.nodes.rewards import Policy, Rewards
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import Cluster, GroupKey, Limits, NodeGroup, Seen, Template
from services.autoscaler.decision.nodes.stock import Stock
from services.scheduler.decision.seen.observed import NODES
from shared.model.identities import ObjectKey
from shared.model.quantities import parse_quantity
from tests.node_groups import GIBI, pod_sets_of, seen_node
from tests.scheduling import World, image, node_json

Json = dict[str, Any]
CLUSTERS = ("one", "other")
EXACT = 1e-6

there = st.lists(
    st.tuples(st.sampled_from(CLUSTERS), st.sampled_from(["1", "2"]), st.sampled_from(["1Gi", "4Gi"])), max_size=3
)
kinds = st.tuples(
    st.sampled_from(CLUSTERS),
    st.sampled_from(["1", "2", "4", "8"]),
    st.sampled_from(["2Gi", "8Gi", "16Gi"]),
    st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.7]),
    st.integers(0, 3),
)
pods = st.tuples(st.sampled_from(["300m", "1", "1500m", "3"]), st.sampled_from(["256Mi", "1Gi", "5Gi"]))
waits = st.lists(st.tuples(pods, st.integers(1, 4), st.sampled_from([None, *CLUSTERS])), min_size=1, max_size=3)


def workloads_of(waiting: list[Any]) -> list[Json]:
    found = []
    for number, ((cpu, memory), replicas, cluster) in enumerate(waiting):
        placement: Json = {"binding": "node", **({"clusters": [cluster]} if cluster else {})}
        pod_set = image("main", replicas, cpu, memory)
        found.append({"namespace": "default", "name": f"w{number}", "podSets": [pod_set], "placement": placement})
    return found


def amounts(cpu: str, memory: str) -> dict[str, int]:
    return {
        "cpu": int(parse_quantity(cpu) * 1000),
        "memory": int(parse_quantity(memory)),
        "pods": 110,
        "ephemeral-storage": 100 * GIBI,
    }


def put_before_the_scheduler(
    existing: list[Any], groups: list[NodeGroup], sizes: tuple[int, ...], workloads: list[Json]
) -> tuple[list[int], float]:
    """How many pods of each workload find a place, and how full the new nodes are."""
    world = World()
    free: dict[tuple[str, str], list[float]] = {}
    for cluster in CLUSTERS:
        world.cluster(cluster)
    for document in workloads:
        # It waits, for there is no node yet.
        world.apply(document)
    for index, (cluster, cpu, memory) in enumerate(existing):
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), node_json(cpu=cpu, memory=memory))
    for group, size in zip(groups, sizes, strict=True):
        for number in range(size):
            name = f"{group.name}-new-{number}"
            has = group.template.allocatable
            labels = {"flotilla.dev/price-per-hour": str(group.price), "kubernetes.io/hostname": name}
            document = node_json(cpu=f"{has['cpu']}m", memory=str(has["memory"]), labels=labels)
            world.observe(ObjectKey(group.cluster, NODES, "", name), document)
            free[group.cluster, name] = [0, 0, has["cpu"], has["memory"]]
    while world.pending() or world.state.has_work:
        pass
    placed = []
    for document in workloads:
        outcome = world.placements[f"default/{document['name']}"].pod_sets[0]
        placed.append(outcome.placed)
        requests = document["podSets"][0]["resources"]["requests"]
        for share in outcome.shares:
            for node in share.nodes:
                if (share.cluster, node) in free:
                    free[share.cluster, node][0] += float(parse_quantity(requests["cpu"]) * 1000)
                    free[share.cluster, node][1] += float(parse_quantity(requests["memory"]))
    sums = [sum(item[place] for item in free.values()) for place in range(4)]
    return placed, (sums[0] / sums[2] + sums[1] / sums[3]) / 2 if free else 1.0


def least_price(groups: list[NodeGroup], workloads: list[Json], lacking: list[int]) -> float:
    """By the cheapest dominant share of each pod, where only nodes that may be there count."""
    total = 0.0
    for document, count in zip(workloads, lacking, strict=True):
        requests = amounts(**document["podSets"][0]["resources"]["requests"])
        shares = [
            group.price * max(requests[name] / group.template.allocatable[name] for name in ("cpu", "memory"))
            for group in groups
            if takes(group, document)
        ]
        of_pods = [group.price / 110 for group in groups if takes(group, document)]
        total += count * min(map(max, zip(shares, of_pods, strict=True)), default=0.0)
    return total


def takes(group: NodeGroup, document: Json) -> bool:
    requests = amounts(**document["podSets"][0]["resources"]["requests"])
    fits = all(requests[name] <= group.template.allocatable[name] for name in ("cpu", "memory"))
    return fits and group.cluster in document["placement"].get("clusters", CLUSTERS) and group.most > 0


def values(
    rewards: Rewards, groups: list[NodeGroup], existing: list[Any], workloads: list[Json], limit: float | None
) -> Iterator[tuple[tuple[int, ...], int, float]]:
    """Of all candidates within the limit: their sizes, how many pods have a place, and what they are worth."""
    nothing, _ = put_before_the_scheduler(existing, groups, (0,) * len(groups), workloads)
    wanted = [document["podSets"][0]["replicas"] for document in workloads]
    least = least_price(groups, workloads, [count - had for count, had in zip(wanted, nothing, strict=True)])
    for sizes in product(*(range(group.most + 1) for group in groups)):
        price = sum(group.price * size for group, size in zip(groups, sizes, strict=True))
        if limit is not None and price > limit + EXACT:
            continue
        placed, fit = put_before_the_scheduler(existing, groups, sizes, workloads)
        worth = rewards.price * (1 - price / (2 * least or 1.0)) + rewards.fit * fit
        yield sizes, sum(placed), worth + rewards.head_room + rewards.disruption + rewards.availability


def seen_of(existing: list[Any], groups: list[NodeGroup], workloads: list[Json]) -> Seen:
    nodes = tuple(
        seen_node(cluster, f"n{index}", node_json(cpu=cpu, memory=memory))
        for index, (cluster, cpu, memory) in enumerate(existing)
    )
    waiting = tuple(pod_set for document in workloads for pod_set in pod_sets_of(document))
    return Seen(tuple(map(Cluster, CLUSTERS)), tuple(groups), nodes, waiting)


def planned(
    existing: list[Any], groups: list[NodeGroup], workloads: list[Json], policy: Policy
) -> tuple[Growth, tuple[int, ...]]:
    growth = grow(seen_of(existing, groups, workloads), policy, SchedulerConfig(), Stock(), 0)
    return growth, tuple(growth.sizes.get(group.key, 0) for group in groups)


def check_what_is_not_tried(
    existing: list[Any], groups: list[NodeGroup], workloads: list[Json], policy: Policy, every: list[Any]
) -> None:
    """What is ruled out without a trial is no candidate that has a place for every pod, nor worth more than is said."""
    sizing = Sizing(seen_of(existing, groups, workloads), policy, SchedulerConfig(), Stock(), 0)
    vectors = np.array([sizes for sizes, _, _ in every])
    bounds, fits = sizing.bounds(vectors), sizing.may_fit(vectors)
    assert sizing.allows(vectors).all()
    for (_, placed, worth), bound, may_fit in zip(every, bounds.tolist(), fits.tolist(), strict=True):
        assert worth <= bound + EXACT
        assert may_fit or placed < sum(sizing.complete)


@pytest.mark.parametrize("limit", [None, 0.5])
@given(there, st.lists(kinds, min_size=1, max_size=2), waits, st.sampled_from([Rewards(), Rewards(fit=3.0)]))
@example(
    [("one", "2", "1Gi")],
    [("one", "1", "2Gi", 0.0, 0), ("other", "1", "2Gi", 0.1, 2)],
    [(("300m", "1Gi"), 1, None), (("1", "256Mi"), 1, "one")],
    Rewards(),
)
def test_the_choice_is_the_argmax(
    limit: float | None, existing: list[Any], found: list[Any], waiting: list[Any], rewards: Rewards
) -> None:
    if not any(price for _, _, _, price, _ in found):
        # What nodes cost then is another question.
        return
    groups = [
        NodeGroup(cluster, f"g{number}", Template(amounts(cpu, memory)), 0, most, 0, price)
        for number, (cluster, cpu, memory, price, most) in enumerate(found)
    ]
    workloads = workloads_of(waiting)
    policy = Policy(rewards, Limits(price_per_hour=limit), most_trials=1_000)
    growth, sizes = planned(existing, groups, workloads, policy)
    every = list(values(rewards, groups, existing, workloads, limit))
    check_what_is_not_tried(existing, groups, workloads, policy, every)
    # Nobody asks for more nodes of a group than pods could have one of them each. What those do is another cluster with
    # more room, where a pod may be drawn to that leaves another its place.
    room = [sum(item["podSets"][0]["replicas"] for item in workloads if takes(group, item)) for group in groups]
    of_use = [item for item in every if all(size <= most for size, most in zip(item[0], room, strict=True))]
    best = max((placed, worth) for _, placed, worth in of_use)
    mine = next((placed, worth) for candidate, placed, worth in of_use if candidate == sizes)
    assert growth.proven
    assert mine[0] == best[0]
    assert mine[1] == pytest.approx(max(worth for _, placed, worth in of_use if placed == best[0]), abs=EXACT)
    wanted = sum(document["podSets"][0]["replicas"] for document in workloads)
    assert sum(item.count for item in growth.unplaced) == wanted - mine[0]
    for choice in growth.choices:
        assert choice.size <= next(group.most for group in groups if group.key == choice.group)
        assert choice.value == pytest.approx(mine[1], abs=EXACT)
        assert sum(weight * value for weight, value, _ in choice.terms.values()) == pytest.approx(choice.value)
        assert isinstance(choice.group, GroupKey)
