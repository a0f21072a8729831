"""What a change of a workload moves, and what it leaves where it is."""

from __future__ import annotations

from collections import Counter

from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import WorkloadForgotten, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from tests.scheduling import World, counts_of, image, nodes_of, placed, workload


def all_nodes(decision: WorkloadPlaced) -> Counter[str]:
    return Counter(node for nodes in nodes_of(decision).values() for node in nodes)


class TestScaling:
    def test_up_adds_only_the_difference(self, world: World) -> None:
        before = all_nodes(placed(world.apply(workload("shop", image(replicas=4)))))
        after = all_nodes(placed(world.apply(workload("shop", image(replicas=9)))))
        assert before <= after
        assert after.total() == 9

    def test_down_takes_only_the_difference_and_keeps_the_rest_spread(self, world: World) -> None:
        before = placed(world.apply(workload("shop", image(replicas=8))))
        after = placed(world.apply(workload("shop", image(replicas=4))))
        assert all_nodes(after) <= all_nodes(before)
        assert counts_of(after) == {"east": 2, "west": 2}

    def test_down_takes_what_was_never_seen_first(self, world: World) -> None:
        decision = placed(world.apply(workload("shop", image(replicas=4))))
        for index, node in enumerate(nodes_of(decision)["west"]):
            world.pod("west", f"p{index}", node=node, of="shop/web")
        assert counts_of(placed(world.apply(workload("shop", image(replicas=2))))) == {"west": 2}

    def test_down_leaves_the_dearest_cluster_first(self, world: World) -> None:
        world.state.declare_cluster("east", ClusterDeclared(name="east", price_per_hour=9.0))
        world.apply(workload("shop", image(replicas=3)))
        assert counts_of(placed(world.apply(workload("shop", image(replicas=1))))) == {"west": 1}

    def test_bound_replicas_lose_the_highest_ordinals_and_new_ones_take_the_lowest(self, world: World) -> None:
        bound = {"placement": {"binding": "node"}}
        first = placed(world.apply(workload("shop", image(replicas=5), **bound)))
        nodes = {
            ordinal: node
            for share in first.pod_sets[0].shares
            for ordinal, node in zip(share.ordinals, share.nodes, strict=True)
        }
        assert sorted(nodes) == [0, 1, 2, 3, 4]
        fewer = placed(world.apply(workload("shop", image(replicas=2), **bound)))
        assert {o for share in fewer.pod_sets[0].shares for o in share.ordinals} == {0, 1}
        more = placed(world.apply(workload("shop", image(replicas=3), **bound)))
        assert {o for share in more.pod_sets[0].shares for o in share.ordinals} == {0, 1, 2}

    def test_to_nothing_leaves_every_cluster(self, world: World) -> None:
        world.apply(workload("shop", image(replicas=2)))
        decision = placed(world.apply(workload("shop", image(replicas=0))))
        assert decision.pod_sets[0].shares == ()
        assert decision.withdrawn == ("east", "west")


class TestOtherChanges:
    def test_a_new_image_moves_nothing(self, world: World) -> None:
        before = placed(world.apply(workload("shop", image(replicas=4))))
        after = placed(world.apply(workload("shop", {**image(replicas=4), "image": "nginx:2"})))
        assert after.pod_sets == before.pod_sets
        assert after.workload_generation == before.workload_generation + 1
        assert after.uid == before.uid

    def test_more_resources_move_only_what_no_longer_fits(self, world: World) -> None:
        before = all_nodes(placed(world.apply(workload("shop", image(replicas=6, cpu="1")))))
        after = placed(world.apply(workload("shop", image(replicas=6, cpu="2"))))
        # A node has room for two of 2 cores: what it had beyond that has moved.
        expected = Counter({node: min(count, 2) for node, count in before.items()})
        assert expected <= all_nodes(after)
        assert max(all_nodes(after).values()) == 2
        assert after.pod_sets[0].placed == 6

    def test_pods_that_run_keep_their_node_and_hold_room_for_what_replaces_them(self, world: World) -> None:
        bound = {"placement": {"binding": "node"}}
        decision = placed(world.apply(workload("shop", image(cpu="1"), **bound)))
        ((cluster, (node,)),) = nodes_of(decision).items()
        world.pod(cluster, "shop-web-0", node=node, of="shop/web", cpu="1")
        again = placed(world.apply(workload("shop", image(cpu="3"), **bound)))
        assert nodes_of(again) == {cluster: (node,)}
        # The pod of 1 core still runs, and its node has no room for more than 1 core beside it.
        pinned = {"placement": {"clusters": [cluster], "nodeSelector": {"kubernetes.io/hostname": node}}}
        assert placed(world.apply(workload("other", image(cpu="2"), **pinned))).pod_sets[0].placed == 0

    def test_new_terms_move_only_what_they_exclude(self, world: World) -> None:
        before = placed(world.apply(workload("shop", image(replicas=4))))
        after = placed(world.apply(workload("shop", image(replicas=4), placement={"clusters": ["east"]})))
        assert counts_of(after) == {"east": 4}
        assert Counter(nodes_of(before)["east"]) <= all_nodes(after)
        assert after.withdrawn == ("west",)

    def test_a_label_that_changes_on_a_cluster_moves_nothing(self, world: World) -> None:
        selector = {"placement": {"clusterSelector": {"matchLabels": {"region": "east"}}}}
        world.apply(workload("shop", **selector))
        world.cluster("east", {"region": "elsewhere"})
        assert world.pending() == []

    def test_a_pod_set_that_is_gone_frees_its_room(self, world: World) -> None:
        free = world.state.fleet.table.free.sum()
        world.apply(workload("shop", image("web"), image("db")))
        assert len(placed(world.apply(workload("shop", image("web")))).pod_sets) == 1
        world.delete("shop")
        assert world.state.fleet.table.free.sum() == free


class TestDeletion:
    def test_it_ends_when_every_cluster_has_confirmed(self, world: World) -> None:
        created = placed(world.apply(workload("shop", image(replicas=2))))
        deleted = placed(world.delete("shop"))
        assert (deleted.deleting, deleted.pod_sets, deleted.withdrawn) == (True, (), ("east", "west"))
        assert world.delete("shop") == []
        world.withdrawn("east", "shop")
        assert placed(world.pending()).withdrawn == ("west",)
        world.withdrawn("west", "shop")
        assert world.pending() == [WorkloadForgotten(key="default/shop", uid=created.uid, retired=("west",))]

    def test_what_never_ran_ends_at_once(self) -> None:
        world = World()
        world.apply(workload("shop"))
        deleted, forgotten = world.delete("shop")
        assert placed([deleted]).deleting
        assert isinstance(forgotten, WorkloadForgotten)
        assert placed(world.apply(workload("shop"), "create")).workload_generation == 1

    def test_an_old_report_confirms_nothing(self, world: World) -> None:
        east, west = {"placement": {"clusters": ["east"]}}, {"placement": {"clusters": ["west"]}}
        world.apply(workload("shop", **east))
        world.apply(workload("shop", **west))
        first_withdrawal = len(world.journal) - 1
        world.apply(workload("shop", **east))
        world.apply(workload("shop", **west))
        world.withdrawn("east", "shop", first_withdrawal)
        assert world.pending() == []
        world.withdrawn("east", "shop", len(world.journal) - 1)
        assert placed(world.pending()).withdrawn == ()

    def test_a_report_before_the_generation_is_known_confirms_nothing(self, world: World) -> None:
        world.apply(workload("shop", placement={"clusters": ["east"]}))
        body = {"operation": "apply", "workload": workload("shop", placement={"clusters": ["west"]})}
        (decision,) = world.state.decide_request(WorkloadRequested.model_validate(body), world.ref(), world.now)
        world.withdrawn("east", "shop", 10**9)
        assert world.pending() == []
        world.state.note_generation(decision, 7)
        world.withdrawn("east", "shop", 7)
        assert placed(world.pending()).withdrawn == ()

    def test_apply_while_deleting_revives_it_as_another(self, world: World) -> None:
        created = placed(world.apply(workload("shop", placement={"clusters": ["east"]})))
        world.delete("shop")
        revived = placed(world.apply(workload("shop", placement={"clusters": ["west"]}), "create", "again"))
        assert revived.uid != created.uid
        assert (revived.deleting, revived.withdrawn, revived.workload_generation) == (False, ("east",), 1)
        again = World()
        assert placed(again.apply(workload("shop"), "create", "again")).uid == revived.uid


def test_a_job_that_ended_says_nothing_of_pods_that_took_its_place() -> None:
    world = World()
    world.cluster("north")
    world.node("north", "a", cpu="4")
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}}
    world.apply(workload("one", {"name": "main", "manifest": manifest}))
    world.apply(workload("one", image("main", 3, "1"), placement={"binding": "node"}))
    world.job("north", "one-main", of="one/main", finished=True)
    # There would be room for two if the three replicas held none.
    two = workload("two", image("main", 2, "1"), placement={"binding": "node"})
    assert placed(world.apply(two)).pod_sets[0].placed == 1
