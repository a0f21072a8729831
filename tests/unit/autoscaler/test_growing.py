"""Which node groups grow, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from services.autoscaler.decision.nodes.growing import Growth, grow
from services.autoscaler.decision.nodes.judging import AT_LIMIT, NO_GROUP, OUT_OF_STOCK
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import BoolArray, Demand, FloatArray, IntArray, SchedulerConfig
from services.autoscaler.decision.nodes.searching import Candidate, Search, Sizes
from services.autoscaler.decision.nodes.seen import Cluster, GroupKey, Limits, NodeGroup, PodSet, Seen
from services.autoscaler.decision.nodes.stock import Stock
from shared.model.pods import HostPort, PodShape
from shared.model.taints import Taint
from tests.node_groups import demand_of, group_of, node_of, pod_sets_of

CLUSTERS = (Cluster("one"), Cluster("other"))
GPU = "nvidia.com/gpu"


def plan(
    *groups: NodeGroup,
    pending: tuple[PodSet, ...] = (),
    policy: Policy | None = None,
    stock: Stock | None = None,
    **more: object,
) -> Growth:
    seen = replace(Seen(CLUSTERS, groups, pending=pending), **more)  # type: ignore[arg-type]
    return grow(seen, policy or Policy(), SchedulerConfig(), stock or Stock(), 0)


def waiting(count: int, cpu: int = 1000, **more: object) -> PodSet:
    return replace(PodSet("default/w/main", demand_of(cpu), count), **more)  # type: ignore[arg-type]


def test_nothing_grows_for_pods_that_have_a_place() -> None:
    group = group_of("a", 4000, size=1, price=1.0)
    assert plan(group, pending=(waiting(4),), nodes=(node_of(group, "n"),)).sizes == {}


def test_what_is_on_its_way_counts() -> None:
    group = group_of("a", 4000, size=2, price=1.0)
    growth = plan(group, pending=(waiting(9),), nodes=(node_of(group, "n"),))
    assert growth.sizes == {group.key: 3}


def left_over(*pending: PodSet) -> list[str]:
    """Who finds no place on a node of 4 cores."""
    node = node_of(group_of("a", 4000), "n")
    return [item.pod_set for item in plan(pending=pending, nodes=(node,)).unplaced]


def test_room_is_for_whom_the_scheduler_tries_first() -> None:
    small, large = waiting(1, 2000, key="default/small/main"), waiting(1, 3000, key="default/large/main")
    assert left_over(small, large) == left_over(large, small) == [small.key]
    assert left_over(replace(small, priority=1), large) == [large.key]
    # Another window.
    assert left_over(small, replace(large, requested_at=60_000)) == [large.key]


def test_a_cheaper_cluster_beats_a_larger_local_group() -> None:
    local, cheap = group_of("large", 16_000, price=2.0), group_of("small", 4000, cluster="other", price=0.3)
    assert plan(local, cheap, pending=(waiting(16),)).sizes == {cheap.key: 4}
    assert plan(local, replace(cheap, most=1), pending=(waiting(16),)).sizes == {local.key: 1}


def test_what_arrives_together_is_planned_together() -> None:
    # One by one each would get a small node of its own.
    small, large = group_of("small", 1000, price=1.0), group_of("large", 8000, price=4.0)
    assert plan(small, large, pending=(waiting(1),)).sizes == {small.key: 1}
    batch = tuple(waiting(1, key=f"default/w{number}/main") for number in range(8))
    assert plan(small, large, pending=batch).sizes == {large.key: 1}


def test_a_group_that_was_out_of_stock_is_left_alone_and_comes_back() -> None:
    cheap, dear = group_of("cheap", 4000, price=1.0), group_of("dear", 4000, price=3.0)
    stock = Stock()
    stock.lacked(cheap.key, -1000)
    assert plan(cheap, dear, pending=(waiting(4),), stock=stock).sizes == {dear.key: 1}
    alone = plan(cheap, pending=(waiting(4),), stock=stock)
    assert (alone.sizes, alone.unplaced[0].reason, alone.unplaced[0].count) == ({}, OUT_OF_STOCK, 4)
    assert not stock.is_open(cheap.key, 298_000)
    assert stock.is_open(cheap.key, 299_000)
    stock.lacked(cheap.key, 299_000)
    assert (stock.is_open(cheap.key, 898_999), stock.is_open(cheap.key, 899_000)) == (False, True)
    stock.delivered(cheap.key)
    assert stock.standing(cheap.key, 299_001) == 1.0


def test_limits_of_the_fleet_a_cluster_and_a_group_are_kept() -> None:
    here, there = group_of("a", 4000, price=1.0), group_of("b", 4000, cluster="other", price=2.0)
    clusters = (Cluster("one", limits=Limits(amounts={"cpu": 8000})), Cluster("other"))
    policy = Policy(limits=Limits(price_per_hour=5.0))
    growth = plan(here, there, pending=(waiting(40),), policy=policy, clusters=clusters)
    assert growth.sizes == {here.key: 2, there.key: 1}
    names = "pricePerHour of the fleet, cpu of cluster one"
    assert [(item.count, item.reason) for item in growth.unplaced] == [(28, f"{AT_LIMIT}: {names}")]
    assert [(item.cluster, item.what, item.most) for item in growth.limits] == [
        ("", "pricePerHour", 5.0),
        ("one", "cpu", 8000),
    ]


def test_the_more_important_get_what_limits_leave() -> None:
    group = group_of("a", 4000, most=1, price=1.0)
    high, low = waiting(2, cpu=2000, key="default/high/main", priority=10), waiting(4, key="default/low/main")
    assert [item.pod_set for item in plan(group, pending=(high, low)).unplaced] == ["default/low/main"]


def test_head_room_is_beside_what_waits() -> None:
    group = group_of("a", 4000, price=1.0)
    growth = plan(group, pending=(waiting(4),), head_room=(waiting(2, key="head-room"),))
    assert (growth.sizes, growth.head_room) == ({group.key: 2}, 1.0)


def spare(count: int, cpu: int = 1000) -> PodSet:
    return waiting(count, cpu=cpu, key="one/head-room")


def test_head_room_is_kept_whatever_it_costs_and_comes_behind_who_waits() -> None:
    dear = group_of("dear", 4000, price=100.0, most=2)
    alone = plan(dear, head_room=(spare(4),))
    assert (alone.sizes, alone.head_room, alone.proven) == ({dear.key: 1}, 1.0, True)
    assert plan(dear, head_room=(spare(5),)).sizes == {dear.key: 2}
    full = plan(dear, pending=(waiting(8),), head_room=(spare(4),))
    assert (full.sizes, full.unplaced, full.head_room) == ({dear.key: 2}, (), 0.0)
    assert full.choices[0].unplaced_beside == 4


def test_no_more_nodes_than_head_room_needs() -> None:
    small, large = group_of("small", 4000, price=1.0), group_of("large", 16_000, price=3.0)
    assert plan(small, large, head_room=(spare(12),)).sizes == {large.key: 1}
    assert plan(small, large, head_room=(spare(5),)).sizes == {small.key: 2}
    there = node_of(small, "n")
    assert plan(replace(small, size=1), large, nodes=(there,), head_room=(spare(4),)).sizes == {}


def test_limits_of_a_cluster_count_what_is_there_and_are_named_where_they_bind() -> None:
    group, other = group_of("a", 4000, price=1.0, size=1), group_of("b", 8000, price=3.0)
    there, clusters = node_of(group, "n"), {"nodes": 2, "price_per_hour": 4.0, "amounts": {"cpu": 8000}}
    for name, limit in clusters.items():
        cluster = Cluster("one", limits=Limits(**{name: limit}))  # type: ignore[arg-type]
        seen = Seen((cluster, Cluster("other")), (group, other), (there,), (waiting(40),))
        found = grow(seen, Policy(), SchedulerConfig(), Stock(), 0)
        more = found.sizes.get(other.key, 0), found.sizes.get(group.key, 1) - 1
        assert more == {"nodes": (1, 0), "price_per_hour": (0, 3), "amounts": (0, 1)}[name]
        assert [(item.cluster, item.most) for item in found.limits] == [("one", limit if name != "amounts" else 8000)]
    # Nothing lacks: no limit binds.
    seen = Seen((Cluster("one", limits=Limits(nodes=1)),), (group,), (there,), (waiting(2),))
    assert grow(seen, Policy(), SchedulerConfig(), Stock(), 0).limits == ()


def test_taints_and_clusters_are_the_schedulers_business() -> None:
    group = group_of("a", 4000, price=1.0)
    tainted = replace(group, template=replace(group.template, taints=(Taint(key="k", effect="NoSchedule"),)))
    assert plan(tainted, pending=(waiting(1),)).unplaced[0].reason == NO_GROUP
    elsewhere = replace(waiting(1), demand=replace(demand_of(1000), clusters=("other",)))
    assert plan(group, pending=(elsewhere,)).unplaced[0].reason == NO_GROUP


def test_replicas_that_keep_apart_get_nodes_of_their_own() -> None:
    group = group_of("a", 16_000, price=1.0)
    document = {
        "name": "w",
        "namespace": "default",
        "podSets": [
            {
                "name": "main",
                "replicas": 3,
                "template": {
                    "metadata": {"labels": {"app": "w"}},
                    "spec": {
                        "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
                        "affinity": {
                            "podAntiAffinity": {
                                "requiredDuringSchedulingIgnoredDuringExecution": [
                                    {
                                        "topologyKey": "kubernetes.io/hostname",
                                        "labelSelector": {"matchLabels": {"app": "w"}},
                                    }
                                ]
                            }
                        },
                    },
                },
            }
        ],
        "placement": {"binding": "node"},
    }
    assert plan(group, pending=tuple(pod_sets_of(document))).sizes == {group.key: 3}


def test_a_choice_says_what_came_second() -> None:
    group = group_of("a", 4000, price=1.0)
    choice = plan(group, pending=(waiting(8),)).choices[0]
    assert (choice.group, choice.before, choice.size) == (GroupKey("one", "a"), 0, 2)
    assert choice.runner_up is not None
    assert choice.runner_up < 2
    assert choice.unplaced_beside == 4 * (2 - choice.runner_up)
    assert sum(weight * value for weight, value, _ in choice.terms.values()) == choice.value


class Hill:
    """Single exchanges do not find the way: between the start and the best lies what has no place."""

    complete: tuple[int, ...] = (1,)

    def try_out(self, sizes: Sizes) -> Candidate:
        return Candidate(sizes, (int(sizes in {(4, 0), (0, 3)}),), -float(2 * sizes[0] + sizes[1]), {})

    def allows(self, vectors: IntArray) -> BoolArray:
        return np.ones(len(vectors), np.bool_)

    may_fit = allows

    def bounds(self, vectors: IntArray) -> FloatArray:
        return np.asarray(-(2.0 * vectors[:, 0] + vectors[:, 1]), np.float64)


def test_the_best_is_found_though_no_exchange_leads_there() -> None:
    search = Search(Hill(), np.array([4, 4]), 100)
    assert search.best_from(search.try_out((4, 0))).sizes == (0, 3)
    assert search.proven
    few = Search(Hill(), np.array([4, 4]), 2)
    assert few.best_from(few.try_out((4, 0))).sizes == (4, 0)
    assert (few.proven, len(few.tried)) == (False, 2)


def test_gpus_are_packed_as_the_scheduler_packs_them() -> None:
    plain, base = group_of("plain", 8000, price=1.0), group_of("gpus", 8000, price=5.0)
    gpus = replace(base, template=replace(base.template, allocatable={**base.template.allocatable, GPU: 2}))
    requests = (("cpu", 1000), ("memory", 1), (GPU, 1), ("pods", 1))
    # Two shares of six tenths are two devices, though they come to little more than one.
    shares = PodSet("default/gpu/main", Demand(PodShape(requests, gpu_milli=600)), 3)
    assert plan(plain, gpus, pending=(shares, waiting(2))).sizes == {gpus.key: 2}
    assert plan(plain, gpus, pending=(waiting(2),)).sizes == {plain.key: 1}


def test_a_host_port_is_there_once_on_each_node() -> None:
    group = group_of("a", 8000, price=1.0)
    taken = PodSet("default/w/main", demand_of(100, host_ports=(HostPort("TCP", 80, "0.0.0.0"),)), 3)
    assert plan(group, pending=(taken,)).sizes == {group.key: 3}


def test_there_may_be_nothing() -> None:
    group = group_of("a", 8000, price=1.0)
    assert plan(pending=()).sizes == {}
    assert plan(group, pending=()).sizes == {}
    lonely = plan(pending=(waiting(2),), head_room=(waiting(1, key="head-room"),))
    assert [(item.count, item.reason) for item in lonely.unplaced] == [(2, NO_GROUP)]
    unknown = PodSet("default/w/main", Demand(PodShape((("example.com/tpu", 1), ("pods", 1)))), 1)
    assert plan(group, pending=(unknown,)).unplaced[0].reason == NO_GROUP
    closed = replace(Seen((Cluster("one", open=False),), (group,)), pending=(waiting(1),))
    assert grow(closed, Policy(), SchedulerConfig(), Stock(), 0).sizes == {}
