"""Where replicas go, and what is said of those that go nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import Fit, SchedulerConfig, Weights
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.metrics import NodeMetricsSampled, NodeUsage
from shared.model.taints import Taint
from tests.scheduling import NOW, World, counts_of, image, nodes_of, placed, workload

GIB = 1024**3


def where(world: World, *pod_sets: dict[str, Any], **more: Any) -> dict[str, tuple[str, ...]]:
    return nodes_of(placed(world.apply(workload("shop", *pod_sets, **more))))


def message(world: World, *pod_sets: dict[str, Any], **more: Any) -> tuple[str, str]:
    outcome = placed(world.apply(workload("shop", *pod_sets, **more))).pod_sets[0]
    assert outcome.placed == 0
    return outcome.reason, outcome.message


class TestFilters:
    def test_a_node_that_is_not_ready_is_passed_over(self, world: World) -> None:
        for number in range(3):
            world.node("east", f"east-{number}", ready=False)
        assert list(where(world)) == ["west"]

    def test_a_node_that_went_is_not_chosen(self, world: World) -> None:
        ((cluster, (node,)),) = where(world).items()
        world.no_node(cluster, node)
        others = nodes_of(placed(world.apply(workload("other", image(replicas=20)))))
        assert node not in {name for names in others.values() for name in names}
        assert sum(map(len, others.values())) == 20

    def test_a_cordoned_node_takes_only_what_tolerates_it(self, world: World) -> None:
        for cluster in ("east", "west"):
            for number in range(3):
                world.node(cluster, f"{cluster}-{number}", unschedulable=True)
        assert message(world)[1] == "0/6 nodes are available: 6 node(s) were unschedulable."
        tolerant = {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}
        assert placed(world.apply(workload("tolerant", placement=tolerant))).pod_sets[0].placed == 1

    @pytest.mark.parametrize("effect", ["NoSchedule", "NoExecute"])
    def test_a_hard_taint_keeps_pods_away(self, world: World, effect: str) -> None:
        for number in range(3):
            world.node("east", f"east-{number}", taints=[{"key": "gpu", "value": "yes", "effect": effect}])
        assert list(where(world, image(replicas=2))) == ["west"]
        tolerant = {"tolerations": [{"key": "gpu", "value": "yes"}], "clusters": ["east"]}
        assert placed(world.apply(workload("tolerant", placement=tolerant))).pod_sets[0].placed == 1

    def test_a_soft_taint_does_not(self, world: World) -> None:
        for number in range(3):
            world.node("east", f"east-{number}", taints=[{"key": "gpu", "effect": "PreferNoSchedule"}])
        assert list(where(world, placement={"clusters": ["east"]})) == ["east"]

    def test_node_selector_and_affinity(self, world: World) -> None:
        world.node("west", "west-1", labels={"disk": "ssd", "cores": "16"})
        assert where(world, placement={"nodeSelector": {"disk": "ssd"}}) == {"west": ("west-1",)}
        expression = {"key": "cores", "operator": "Gt", "values": ["8"]}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        spec = {
            "containers": [{"name": "c", "image": "i"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        }
        pod_set = {"name": "web", "template": {"spec": spec}}
        assert nodes_of(placed(world.apply(workload("other", pod_set)))) == {"west": ("west-1",)}

    def test_single_nodes_by_host_name_and_by_field(self, world: World) -> None:
        assert where(world, placement={"nodeSelector": {"kubernetes.io/hostname": "east-2"}}) == {"east": ("east-2",)}
        by_field = {"key": "metadata.name", "operator": "In", "values": ["west-0"]}
        terms = {"nodeSelectorTerms": [{"matchFields": [by_field]}]}
        spec = {
            "containers": [{"name": "c", "image": "i"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        }
        pod_set = {"name": "web", "template": {"spec": spec}}
        assert nodes_of(placed(world.apply(workload("other", pod_set)))) == {"west": ("west-0",)}

    def test_extended_resources(self, world: World) -> None:
        world.node("west", "west-1", **{"example.org_fpga": "2"})
        wants = image(resources={"requests": {"example.org/fpga": "1"}}, replicas=3)
        decision = placed(world.apply(workload("shop", wants)))
        assert nodes_of(decision) == {"west": ("west-1", "west-1")}
        assert decision.pod_sets[0].message == "0/6 nodes are available: 6 Insufficient example.org/fpga."

    def test_a_resource_that_no_node_has(self, world: World) -> None:
        reason, text = message(world, image(resources={"requests": {"example.org/none": "1"}}))
        assert (reason, text) == ("Unschedulable", "0/6 nodes are available: 6 Insufficient example.org/none.")

    def test_host_ports(self, world: World) -> None:
        wants = image(ports=[{"containerPort": 80, "hostPort": 8080}], replicas=7, cpu="100m")
        decision = placed(world.apply(workload("shop", wants)))
        assert decision.pod_sets[0].placed == 6
        assert "6 node(s) didn't have free ports" in decision.pod_sets[0].message

    def test_pod_count(self, world: World) -> None:
        for cluster in ("east", "west"):
            for number in range(3):
                world.node(cluster, f"{cluster}-{number}", pods="1")
        decision = placed(world.apply(workload("shop", image(replicas=7, cpu="1m"))))
        assert decision.pod_sets[0].placed == 6
        assert decision.pod_sets[0].message == "0/6 nodes are available: 6 Too many pods."

    def test_reasons_are_counted_as_kube_scheduler_does(self, world: World) -> None:
        world.node("east", "east-0", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
        world.node("east", "east-1", ready=False)
        assert message(world, image(cpu="8", memory="64Gi")) == (
            "Unschedulable",
            (
                "0/6 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were not ready,"
                " 4 Insufficient cpu, 4 Insufficient memory."
            ),
        )


class TestClusters:
    def test_by_name_and_by_selector(self, world: World) -> None:
        assert list(where(world, placement={"clusters": ["west"]})) == ["west"]
        for index, selector in enumerate(
            ({"matchLabels": {"region": "east"}}, {"matchLabels": {"flotilla.dev/cluster": "east"}})
        ):
            decision = placed(world.apply(workload(f"by-{index}", placement={"clusterSelector": selector})))
            assert list(nodes_of(decision)) == ["east"]

    def test_declared_labels_go_before_observed_ones(self, world: World) -> None:
        world.state.declare_cluster("east", ClusterDeclared(name="east", labels={"region": "north"}))
        selector = {"clusterSelector": {"matchLabels": {"region": "north"}}}
        assert list(where(world, placement=selector)) == ["east"]

    def test_one_that_is_not_ready_silent_declared_off_or_tainted_takes_nothing(self, world: World) -> None:
        only_east = {"clusters": ["east"]}
        world.cluster("east", ready=False)
        assert message(world, placement=only_east)[0] == "NoCluster"
        world.cluster("east")
        world.now += 60_000
        world.cluster("west")
        reason, text = message(world, image(name="a"), placement=only_east)
        assert reason == "NoCluster"
        assert "3 node(s) in clusters that are silent" in text
        world.cluster("east")
        world.state.declare_cluster("east", ClusterDeclared(name="east", unschedulable=True))
        assert "are unschedulable" in message(world, image(name="b"), placement=only_east)[1]
        taint = Taint(key="maintenance", effect="NoSchedule")
        world.state.declare_cluster("east", ClusterDeclared(name="east", taints=(taint,)))
        assert "had untolerated taint {maintenance: }" in message(world, image(name="c"), placement=only_east)[1]

    def test_what_a_watchers_clock_says_does_not_matter(self, world: World) -> None:
        world.cluster("east", skew_ms=-3_600_000)
        world.cluster("west", skew_ms=3_600_000)
        assert counts_of(placed(world.apply(workload("shop", image(replicas=2))))) == {"east": 1, "west": 1}
        world.now += 60_000
        assert "6 node(s) in clusters that are silent" in message(world, image(name="late"))[1]

    def test_one_that_never_reported_takes_nothing(self) -> None:
        world = World()
        world.node("east", "east-0")
        assert message(world) == (
            "NoCluster",
            "0/1 nodes are available: 1 node(s) in clusters that have not reported yet.",
        )

    def test_an_empty_fleet(self) -> None:
        assert message(World()) == ("NoCluster", "0/0 nodes are available.")


def alone(**weights: float) -> SchedulerConfig:
    """Only the given terms count."""
    none = dict.fromkeys(("fit", "balance", "fragmentation", "load", "price", "spread"), 0.0)
    return SchedulerConfig(weights=Weights(**{**none, **weights}))


class TestCosts:
    def fleet(self, config: SchedulerConfig) -> World:
        world = World(config)
        world.cluster("east")
        return world

    @pytest.mark.parametrize(("fit", "expected"), [(Fit.MOST_ALLOCATED, "small"), (Fit.LEAST_ALLOCATED, "large")])
    def test_fit(self, fit: Fit, expected: str) -> None:
        world = self.fleet(SchedulerConfig(weights=alone(fit=1.0).weights, fit=fit))
        world.node("east", "large", cpu="32", memory="64Gi")
        world.node("east", "small", cpu="4", memory="8Gi")
        assert where(world) == {"east": (expected,)}

    def test_weights_may_be_whole_numbers(self) -> None:
        world = self.fleet(
            SchedulerConfig(weights=Weights(fit=1, balance=0, fragmentation=0, load=0, price=0, spread=0))
        )
        world.node("east", "only")
        assert where(world) == {"east": ("only",)}

    def test_pods_that_share_gpus_go_where_the_fewest_are_left(self) -> None:
        world = self.fleet(alone(fragmentation=1.0))
        world.node("east", "two", cpu="64", memory="64Gi", **{"nvidia.com_gpu": "2"})
        world.node("east", "eight", cpu="64", memory="64Gi", **{"nvidia.com_gpu": "8"})
        third = {"annotations": {"flotilla.dev/gpu-milli": "300"}}
        wants = image(resources={"requests": {"nvidia.com/gpu": "1"}}, replicas=7)
        decision = placed(world.apply(workload("shop", wants, **third)))
        assert sorted(nodes_of(decision)["east"]) == ["eight"] + ["two"] * 6

    def test_balance(self) -> None:
        world = self.fleet(alone(balance=1.0))
        world.node("east", "wide", cpu="16", memory="4Gi")
        world.node("east", "even", cpu="4", memory="16Gi")
        assert where(world, image(cpu="2", memory="8Gi")) == {"east": ("even",)}

    def test_price_by_node_and_by_cluster(self) -> None:
        world = self.fleet(alone(price=1.0))
        world.cluster("west")
        world.state.declare_cluster("west", ClusterDeclared(name="west", price_per_hour=0.5))
        world.node("east", "dear", labels={"flotilla.dev/price-per-hour": "0.9"})
        world.node("west", "declared")
        assert where(world) == {"west": ("declared",)}
        world.node("east", "cheap", labels={"flotilla.dev/price-per-hour": "0.1"})
        assert nodes_of(placed(world.apply(workload("other")))) == {"east": ("cheap",)}
        world.state.declare_cluster("west", ClusterDeclared(name="west", price_per_hour=0.05))
        assert nodes_of(placed(world.apply(workload("third")))) == {"west": ("declared",)}

    def test_measured_load(self) -> None:
        world = self.fleet(alone(load=1.0))
        world.node("east", "a")
        world.node("east", "b")
        busy = NodeMetricsSampled(
            cluster="east", sampled_at=NOW, nodes=(NodeUsage(name="a", cpu=3900, memory=15 * GIB),)
        )
        world.state.observe_usage(busy)
        assert where(world) == {"east": ("b",)}
        idle = NodeMetricsSampled(
            cluster="east",
            sampled_at=NOW,
            nodes=(NodeUsage(name="a", cpu=100, memory=0), NodeUsage(name="b", cpu=2000, memory=0)),
        )
        world.state.observe_usage(idle)
        assert nodes_of(placed(world.apply(workload("other")))) == {"east": ("a",)}

    def test_spread_over_clusters_and_zones(self) -> None:
        world = World()
        for cluster in ("east", "west"):
            world.cluster(cluster)
            for zone in ("a", "b"):
                labels = {"topology.kubernetes.io/zone": zone}
                world.node(cluster, f"{cluster}-{zone}", cpu="64", memory="256Gi", labels=labels)
        decision = placed(world.apply(workload("shop", image(replicas=8))))
        assert {node: nodes.count(node) for nodes in nodes_of(decision).values() for node in nodes} == {
            "east-a": 2,
            "east-b": 2,
            "west-a": 2,
            "west-b": 2,
        }

    def test_shared_gpus_need_room_on_one_device(self) -> None:
        world = self.fleet(SchedulerConfig())
        world.node("east", "gpus", cpu="64", memory="64Gi", **{"nvidia.com_gpu": "2"})
        world.node("east", "none", cpu="64", memory="64Gi")
        six = {"annotations": {"flotilla.dev/gpu-milli": "600"}}
        wants = image(resources={"requests": {"nvidia.com/gpu": "1"}}, replicas=3)
        decision = placed(world.apply(workload("shop", wants, **six)))
        # 0.4 is left on each of two devices: 0.8 together, and no room for 0.6.
        assert nodes_of(decision) == {"east": ("gpus", "gpus")}
        assert "1 Insufficient nvidia.com/gpu on single devices" in decision.pod_sets[0].message
        # Without a GPU, the node that has none comes first.
        assert nodes_of(placed(world.apply(workload("plain")))) == {"east": ("none",)}


class TestWaiting:
    def test_what_waits_is_placed_when_a_node_comes_by_priority_and_age(self, world: World) -> None:
        for name, priority in (("old", 0), ("young", 0), ("urgent", 10)):
            world.apply(workload(name, image(cpu="6", replicas=1), priority=priority))
        assert world.pending() == []
        world.node("east", "large", cpu="12", memory="64Gi")
        assert [decision.workload.name for decision in map(placed_one, world.pending())] == ["urgent", "old"]
        assert world.pending() == []

    @pytest.mark.parametrize(("apart_ms", "first"), [(10_000, "large"), (40_000, "small")])
    def test_the_largest_of_one_window_are_placed_first(self, world: World, apart_ms: int, first: str) -> None:
        # A window of 60 s has 40 s left now.
        world.apply(workload("small", image(cpu="5", replicas=1)))
        world.now += apart_ms
        world.apply(workload("large", image(cpu="7", replicas=1)))
        world.node("east", "n", cpu="8", memory="64Gi")
        world.cluster("east")
        assert [placed_one(decision).workload.name for decision in world.pending()] == [first]

    def test_nobody_who_asks_in_a_later_window_goes_ahead(self, world: World) -> None:
        world.apply(workload("small", image(cpu="5", replicas=1)))
        for number in range(20):
            world.now += 60_000
            world.apply(workload(f"large{number}", image(cpu="7", replicas=1)))
        world.cluster("east")
        world.node("east", "n", cpu="8", memory="64Gi")
        assert [placed_one(decision).workload.name for decision in world.pending()] == ["small"]

    def test_large_is_who_asks_for_the_largest_part_of_anything(self, world: World) -> None:
        # Of 29 cores and 136 GiB in the end.
        world.apply(workload("cores", image(cpu="5", memory="1Gi", replicas=1)))
        world.apply(workload("memory", image(cpu="100m", memory="40Gi", replicas=1)))
        world.node("east", "n", cpu="5", memory="40Gi")
        assert [placed_one(decision).workload.name for decision in world.pending()] == ["memory"]

    def test_without_a_window_the_oldest_is_first(self) -> None:
        world = World(SchedulerConfig(largest_first_ms=0))
        world.cluster("east")
        world.apply(workload("small", image(cpu="5", replicas=1)))
        world.apply(workload("large", image(cpu="7", replicas=1)))
        world.node("east", "n", cpu="8", memory="64Gi")
        assert [placed_one(decision).workload.name for decision in world.pending()] == ["small"]

    def test_room_that_is_given_back_is_used(self, world: World) -> None:
        world.apply(workload("full", image(cpu="4", replicas=6)))
        assert placed(world.apply(workload("next", image(cpu="4")))).pod_sets[0].placed == 0
        world.apply(workload("full", image(cpu="4", replicas=5)))
        assert placed(world.pending()).pod_sets[0].placed == 1

    def test_a_cluster_that_comes_is_used(self, world: World) -> None:
        placement = {"clusters": ["north"]}
        assert message(world, placement=placement)[0] == "NoCluster"
        world.node("north", "n")
        assert world.pending() == []
        world.cluster("north")
        assert counts_of(placed(world.pending())) == {"north": 1}

    def test_a_large_workload_is_placed_over_several_calls(self) -> None:
        world = World(SchedulerConfig(placements_per_call=10))
        world.cluster("east")
        for number in range(10):
            world.node("east", f"n{number}")
        first = placed(world.apply(workload("shop", image(replicas=30))))
        assert (first.pod_sets[0].placed, first.pod_sets[0].reason) == (10, "Placing")
        sizes = []
        while world.state.has_work:
            sizes.append(placed(world.pending()).pod_sets[0].placed)
        assert sizes == [20, 30]

    def test_work_ends_also_where_there_is_no_room(self) -> None:
        world = World(SchedulerConfig(placements_per_call=3))
        world.cluster("east")
        world.node("east", "n")
        world.apply(workload("shop", image(replicas=9)))
        calls = 0
        while world.state.has_work:
            world.pending()
            calls += 1
            assert calls < 10
        last = placed([world.journal[-1]])
        assert (last.pod_sets[0].placed, last.pod_sets[0].reason) == (4, "Unschedulable")


def placed_one(decision: Any) -> Any:
    return placed([decision])


class TestDivisions:
    def job(self, pods: int) -> dict[str, Any]:
        requests = {"requests": {"cpu": "3"}}
        spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "resources": requests}]}
        manifest = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"parallelism": pods, "template": {"spec": spec}}}
        return {"name": "main", "manifest": manifest}

    def test_a_job_goes_to_one_cluster_or_waits(self, world: World) -> None:
        assert sorted(counts_of(placed(world.apply(workload("one", self.job(3))))).values()) == [3]
        world.node("west", "west-3")
        outcome = placed(world.apply(workload("two", self.job(4)))).pod_sets[0]
        assert outcome.placed in {0, 4}
        waiting = placed(world.apply(workload("three", self.job(4)))).pod_sets[0]
        assert (waiting.placed, waiting.reason) == (0, "Unschedulable")

    def test_a_daemon_set_goes_to_every_cluster_and_to_those_that_come(self, world: World) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        manifest = {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": spec}
        agent = workload("agent", {"name": "main", "manifest": manifest})
        assert counts_of(placed(world.apply(agent))) == {"east": 1, "west": 1}
        world.cluster("north")
        assert counts_of(placed(world.pending())) == {"east": 1, "north": 1, "west": 1}
        world.cluster("north", ready=False)
        assert world.pending() == []

    def test_other_kinds_are_placed_whole_and_hold_nothing(self, world: World) -> None:
        before = world.state.fleet.table.free.sum()
        manifest = {"apiVersion": "example.org/v1", "kind": "Queue", "spec": {"size": 3}}
        decision = placed(world.apply(workload("queue", {"name": "main", "manifest": manifest})))
        assert list(counts_of(decision).values()) == [1]
        assert list(nodes_of(decision).values()) == [()]
        assert world.state.fleet.table.free.sum() == before
