"""Pods that are seen, pods that vanish, and replicas that must go elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import SchedulerConfig
from shared.events.registry import DecodeError
from shared.model.identities import ObjectKey, Resource
from tests.scheduling import World, counts_of, image, nodes_of, placed, workload

BOUND = {"placement": {"binding": "node"}}


def free_cpu(world: World, cluster: str, node: str) -> int:
    slot = world.state.fleet.slots.get(cluster, node)
    assert slot is not None
    return int(world.state.fleet.table.free[slot.row, 0])


def bound(world: World, **more: Any) -> tuple[str, str]:
    """One bound replica, and where it is."""
    ((cluster, (node,)),) = nodes_of(placed(world.apply(workload("shop", image(**more), **BOUND)))).items()
    return cluster, node


class TestRoom:
    def test_a_replica_is_not_counted_twice_when_its_pod_is_seen(self, world: World) -> None:
        cluster, node = bound(world)
        assert free_cpu(world, cluster, node) == 3000
        world.pod(cluster, "shop-web-0", of="shop/web", phase="Pending")
        assert free_cpu(world, cluster, node) == 3000
        for phase in ("Pending", "Running"):
            world.pod(cluster, "shop-web-0", node=node, of="shop/web", phase=phase)
            assert free_cpu(world, cluster, node) == 3000
        world.no_pod(cluster, "shop-web-0")
        assert free_cpu(world, cluster, node) == 3000
        world.apply(workload("shop", image(replicas=0), **BOUND))
        assert free_cpu(world, cluster, node) == 4000

    def test_a_pod_on_another_node_frees_the_reservation(self, world: World) -> None:
        ((cluster, (node,)),) = nodes_of(placed(world.apply(workload("shop")))).items()
        other = next(f"{cluster}-{number}" for number in range(3) if f"{cluster}-{number}" != node)
        world.pod(cluster, "p", node=other, of="shop/web")
        assert (free_cpu(world, cluster, node), free_cpu(world, cluster, other)) == (4000, 3000)
        world.no_pod(cluster, "p")
        assert (free_cpu(world, cluster, node), free_cpu(world, cluster, other)) == (3000, 4000)

    def test_pods_of_others_count(self, world: World) -> None:
        for cluster in ("east", "west"):
            for number in range(3):
                world.pod(cluster, f"system-{number}", node=f"{cluster}-{number}", cpu="3500m")
        outcome = placed(world.apply(workload("shop"))).pod_sets[0]
        assert outcome.message == "0/6 nodes are available: 6 Insufficient cpu."
        world.pod("east", "system-0", node="east-0", cpu="3500m", phase="Succeeded")
        assert nodes_of(placed(world.pending())) == {"east": ("east-0",)}

    def test_a_pod_may_be_known_before_its_node(self, world: World) -> None:
        world.pod("east", "early", node="east-9", cpu="3")
        world.node("east", "east-9")
        assert free_cpu(world, "east", "east-9") == 1000
        world.no_node("east", "east-9")
        world.no_pod("east", "early")
        world.node("east", "east-9")
        assert free_cpu(world, "east", "east-9") == 4000

    def test_a_job_that_ended_holds_nothing(self, world: World) -> None:
        requests = {"requests": {"cpu": "2"}}
        spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "resources": requests}]}
        job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"parallelism": 2, "template": {"spec": spec}}}
        ((cluster, nodes),) = nodes_of(placed(world.apply(workload("sum", {"name": "main", "manifest": job})))).items()
        empty = 12_000

        def total() -> int:
            return sum(free_cpu(world, cluster, f"{cluster}-{number}") for number in range(3))

        assert total() == empty - 4000
        for index, node in enumerate(nodes):
            world.pod(cluster, f"p{index}", node=node, of="sum/main", cpu="2", restart="Never")
            assert total() == empty - 4000
        world.pod(cluster, "p0", node=nodes[0], of="sum/main", cpu="2", restart="Never", phase="Succeeded")
        assert total() == empty - 2000
        world.pod(cluster, "p1", node=nodes[1], of="sum/main", cpu="2", restart="Never", phase="Failed")
        assert total() == empty
        # Its pods are cleaned up later; the Job says that nothing more comes.
        world.job(cluster, "sum", of="sum/main", finished=True)
        world.no_pod(cluster, "p0")
        world.no_pod(cluster, "p1")
        assert total() == empty
        world.job(cluster, "sum", of="sum/main", finished=False)
        assert total() == empty - 4000

    def test_an_evicted_pod_of_a_deployment_is_expected_again(self, world: World) -> None:
        ((cluster, (node,)),) = nodes_of(placed(world.apply(workload("shop")))).items()
        world.pod(cluster, "p", node=node, of="shop/web")
        world.pod(cluster, "p", node=node, of="shop/web", phase="Failed")
        assert free_cpu(world, cluster, node) == 3000


class TestBoundReplicas:
    def test_one_whose_pod_is_evicted_from_a_cordoned_node_moves(self, world: World) -> None:
        cluster, node = bound(world)
        world.pod(cluster, "shop-web-0", node=node, of="shop/web")
        world.node(cluster, node, unschedulable=True)
        assert world.pending() == []
        world.no_pod(cluster, "shop-web-0")
        moved = placed(world.pending())
        assert moved.pod_sets[0].placed == 1
        assert node not in [name for names in nodes_of(moved).values() for name in names]
        assert [share.ordinals for share in moved.pod_sets[0].shares] == [(0,)]

    def test_one_that_never_started_on_a_node_that_went_moves(self, world: World) -> None:
        cluster, node = bound(world)
        world.no_node(cluster, node)
        assert placed(world.pending()).pod_sets[0].placed == 1

    def test_one_whose_pod_runs_stays_whatever_becomes_of_the_node(self, world: World) -> None:
        cluster, node = bound(world)
        world.pod(cluster, "shop-web-0", node=node, of="shop/web")
        world.node(cluster, node, ready=False)
        assert world.pending() == []

    def test_one_whose_pod_is_gone_from_a_good_node_stays(self, world: World) -> None:
        cluster, node = bound(world)
        world.pod(cluster, "shop-web-0", node=node, of="shop/web")
        world.no_pod(cluster, "shop-web-0")
        assert world.pending() == []

    def test_one_without_any_room_waits_with_a_reason(self) -> None:
        world = World()
        world.cluster("east")
        world.node("east", "only")
        bound(world)
        world.node("east", "only", unschedulable=True)
        waiting = placed(world.pending())
        assert waiting.pod_sets[0].message == "0/1 nodes are available: 1 node(s) were unschedulable."
        assert waiting.withdrawn == ("east",)
        world.node("east", "only")
        back = placed(world.pending())
        assert (nodes_of(back), back.withdrawn) == ({"east": ("only",)}, ())

    @pytest.mark.parametrize("goes_first", [True, False])
    def test_one_that_never_started_leaves_a_node_that_is_too_small(self, world: World, goes_first: bool) -> None:
        """Found by a random history: its node came back with less, and it waited there for ever."""
        cluster, node = bound(world)
        if goes_first:
            world.no_node(cluster, node)
        world.node(cluster, node, cpu="500m")
        moved = placed(world.pending())
        assert moved.pod_sets[0].placed == 1
        assert node not in [name for names in nodes_of(moved).values() for name in names]
        assert world.pending() == []

    def test_nothing_moves_out_of_a_cluster_that_is_not_heard(self, world: World) -> None:
        cluster, node = bound(world)
        world.cluster(cluster, ready=False)
        world.no_node(cluster, node)
        assert world.pending() == []

    def test_what_was_lost_while_its_cluster_was_not_heard_moves_once_it_is(self, world: World) -> None:
        """Found by simulation: a node went while its API server was away, and its replica waited for ever."""
        cluster, node = bound(world)
        world.cluster(cluster, ready=False)
        world.no_node(cluster, node)
        assert world.pending() == []
        assert not world.state.has_work
        world.cluster(cluster)
        moved = placed(world.pending())
        assert moved.pod_sets[0].placed == 1
        assert node not in [name for names in nodes_of(moved).values() for name in names]

    def test_what_was_lost_while_nobody_led_moves(self, world: World) -> None:
        decision = placed(world.apply(workload("shop", image(), **BOUND)))
        ((cluster, (node,)),) = nodes_of(decision).items()
        successor = World()
        successor.state.apply(decision)
        successor.state.note_generation(decision, 0)
        for name in ("east", "west"):
            successor.cluster(name)
            for number in range(3):
                if f"{name}-{number}" != node:
                    successor.node(name, f"{name}-{number}")
        moved = placed(successor.pending())
        assert (moved.pod_sets[0].placed, cluster) == (1, cluster)
        assert node not in [name for names in nodes_of(moved).values() for name in names]

    def test_pods_that_have_yet_to_go_stand_for_no_replica_elsewhere(self, world: World) -> None:
        """Found by simulation: room was given away twice while pods of the former size were still there."""
        before = nodes_of(placed(world.apply(workload("shop", image(cpu="100m", replicas=4), **BOUND))))
        for cluster, nodes in before.items():
            for number, node in enumerate(nodes):
                world.pod(cluster, f"shop-web-{cluster}-{number}", node=node, of="shop/web", cpu="100m")
        world.apply(workload("shop", image(cpu="3", replicas=8), **BOUND))
        world.pending()
        after = nodes_of(world.placements["default/shop"])
        taken = [(cluster, node) for cluster, nodes in after.items() for node in nodes]
        assert len(taken) == len(set(taken)), "a node of 4 cores takes one of 3"


class TestUnschedulablePods:
    def shop(self, world: World, replicas: int = 1) -> str:
        decision = placed(world.apply(workload("shop", image(replicas=replicas))))
        return next(iter(counts_of(decision)))

    def unschedulable(self, world: World, cluster: str, name: str = "p") -> None:
        """A pod that is seen, and seen to find no node."""
        world.pod(cluster, name, of="shop/web", unschedulable=True)
        assert world.pending() == []

    def test_its_replica_moves_to_another_cluster_after_a_while(self, world: World) -> None:
        cluster = self.shop(world)
        self.unschedulable(world, cluster)
        world.now += 4_000
        assert world.pending() == []
        world.now += 1_000
        world.cluster("east")
        world.cluster("west")
        moved = placed(world.pending())
        assert list(counts_of(moved)) == ["west" if cluster == "east" else "east"]
        assert moved.withdrawn == (cluster,)

    def test_out_of_a_cluster_that_is_not_heard_it_does_not_move(self, world: World) -> None:
        """It may run by now: silence alone moves nothing."""
        cluster = self.shop(world)
        other = "west" if cluster == "east" else "east"
        self.unschedulable(world, cluster)
        world.now += 16_000
        world.cluster(other)
        assert world.pending() == []
        world.now += 5_000
        for name in (cluster, other):
            world.cluster(name)
        assert list(counts_of(placed(world.pending()))) == [other]

    def test_without_room_elsewhere_it_stays(self) -> None:
        world = World()
        world.cluster("east")
        world.node("east", "only")
        self.shop(world)
        self.unschedulable(world, "east")
        world.now += 5_000
        world.cluster("east")
        assert world.pending() == []

    def test_its_pod_set_keeps_away_from_the_cluster_for_a_while(self, world: World) -> None:
        world.apply(workload("filler", image(cpu="4", replicas=3), placement={"clusters": ["west"]}))
        cluster = self.shop(world)
        assert cluster == "east"
        self.unschedulable(world, "east")
        world.now += 5_000
        for name in ("east", "west"):
            world.cluster(name)
        assert world.pending() == []
        more = placed(world.apply(workload("shop", image(replicas=2)))).pod_sets[0]
        assert more.placed == 1
        assert more.message == "its pods found no node lately in the clusters that have room: east"
        world.now += SchedulerConfig().avoid_ms
        for name in ("east", "west"):
            world.cluster(name)
        world.no_pod("east", "p")
        assert placed(world.pending()).pod_sets[0].placed == 2

    def test_one_that_was_bound_in_time_stays(self, world: World) -> None:
        cluster = self.shop(world)
        self.unschedulable(world, cluster)
        world.pod(cluster, "p", node=f"{cluster}-0", of="shop/web")
        world.now += 6_000
        assert world.pending() == []

    def test_as_many_move_as_are_unschedulable(self, world: World) -> None:
        before = counts_of(placed(world.apply(workload("shop", image(replicas=6)))))
        assert before == {"east": 3, "west": 3}
        for name in ("p", "q"):
            world.pod("east", name, of="shop/web", unschedulable=True)
        assert world.pending() == []
        world.now += 5_000
        world.cluster("west")
        world.cluster("east")
        assert counts_of(placed(world.pending())) == {"east": 1, "west": 5}


@pytest.mark.parametrize(
    ("resource", "raw"),
    [
        ("nodes", b"{"),
        ("nodes", b"\xff"),
        ("nodes", b"[]"),
        ("nodes", b'{"status":{"allocatable":{"cpu":"many"}}}'),
        ("nodes", b'{"status":{"allocatable":{"cpu":4}}}'),
        ("pods", b'{"spec":{"containers":[{"resources":{"requests":{"cpu":"x"}}}]}}'),
        ("pods", b'{"spec":{"containers":7}}'),
    ],
)
def test_a_record_that_is_no_object_is_refused_and_changes_nothing(world: World, resource: str, raw: bytes) -> None:
    before = world.state.hash()
    with pytest.raises(DecodeError):
        world.state.observe_object(ObjectKey("east", Resource("", "v1", resource), "", "x"), raw)
    assert world.state.hash() == before


def test_other_objects_do_not_matter(world: World) -> None:
    before = world.state.hash()
    world.state.observe_object(ObjectKey("east", Resource("apps", "v1", "deployments"), "default", "x"), b"anything")
    assert world.state.hash() == before
