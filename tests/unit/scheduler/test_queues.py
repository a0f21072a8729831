"""Queues: whose turn it is, and how much each may use."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.scheduler.bootstrap import configuration
from services.scheduler.decision.config import QueueConfig, SchedulerConfig
from services.scheduler.decision.remedies import remedies
from services.scheduler.settings import SchedulerSettings
from shared.events.v1.decisions import RequestRejected, WorkloadPlaced
from tests.scheduling import World, image, placed, workload

Json = dict[str, Any]


def fleet(*queues: QueueConfig, nodes: int = 0) -> World:
    world = World(SchedulerConfig(queues=queues))
    world.cluster("east")
    grow(world, nodes)
    return world


def grow(world: World, nodes: int, first: int = 0, **facts: Any) -> None:
    for number in range(first, first + nodes):
        world.node("east", f"n{number}", **facts)


def of(queue: str, name: str, *pod_sets: Json, **more: Any) -> Json:
    return workload(name, *pod_sets, queue=queue, **{"placement": {"binding": "node"}, **more})


def used(world: World) -> dict[str, int]:
    """Replicas that have a place, by queue."""
    counts: dict[str, int] = {}
    for decision in world.placements.values():
        queue = decision.workload.queue or "default"
        counts[queue] = counts.get(queue, 0) + sum(item.placed for item in decision.pod_sets)
    return counts


def settle(world: World) -> None:
    while world.pending() or world.state.has_work:
        pass


class TestFairness:
    def test_what_waits_shares_the_room_that_comes(self) -> None:
        """Whoever asked first has no more of it."""
        world = fleet(QueueConfig("a"), QueueConfig("b"))
        for number in range(10):
            world.apply(of("a", f"a{number}", image(replicas=2)))
        for number in range(10):
            world.apply(of("b", f"b{number}", image(replicas=2)))
        grow(world, 4)
        settle(world)
        assert used(world) == {"a": 8, "b": 8}

    def test_by_weight(self) -> None:
        world = fleet(QueueConfig("a", weight=3), QueueConfig("b"))
        world.apply(of("b", "b", image(replicas=30)))
        world.apply(of("a", "a", image(replicas=30)))
        grow(world, 4)
        settle(world)
        assert used(world) == {"a": 12, "b": 4}

    def test_by_the_resource_of_which_each_has_most(self) -> None:
        """The example of the paper: 9 cores and 18 GiB; tasks of <1 core, 4 GiB> and <3 cores, 1 GiB>."""
        world = fleet(QueueConfig("a"), QueueConfig("b"))
        world.apply(of("a", "a", image(replicas=9, cpu="1", memory="4Gi")))
        world.apply(of("b", "b", image(replicas=9, cpu="3", memory="1Gi")))
        world.node("east", "n", cpu="9", memory="18Gi")
        settle(world)
        assert used(world) == {"a": 3, "b": 2}

    def test_a_late_request_does_not_overtake(self) -> None:
        """While others wait, its turn comes when their queue has as much."""
        world = fleet(QueueConfig("a"), QueueConfig("b"), nodes=1)
        world.apply(of("a", "a", image(replicas=4)))
        world.apply(of("b", "b", image(replicas=2)))
        assert used(world) == {"a": 4, "b": 0}
        grow(world, 1, first=1, cpu="2")
        assert placed(world.apply(of("a", "late", image(replicas=2)))).pod_sets[0].placed == 0
        settle(world)
        assert used(world) == {"a": 4, "b": 2}
        assert world.placements["default/late"].pod_sets[0].reason == "Unschedulable"

    def test_within_a_queue_by_priority_and_age(self) -> None:
        world = fleet(QueueConfig("a"))
        for name, priority in (("old", 0), ("new", 0), ("urgent", 5)):
            world.apply(of("a", name, image(cpu="4"), priority=priority))
        grow(world, 2)
        settle(world)
        assert [name for name, item in world.placements.items() if item.pod_sets[0].placed] == [
            "default/old",
            "default/urgent",
        ]

    def test_within_a_queue_and_a_window_the_largest_first(self) -> None:
        world = fleet(QueueConfig("a"))
        for name, cpu in (("small", "2"), ("large", "3")):
            world.apply(of("a", name, image(cpu=cpu)))
        grow(world, 1)
        settle(world)
        # There are 4 cores.
        assert [name for name, item in world.placements.items() if item.pod_sets[0].placed] == ["default/large"]

    def test_a_guarantee_comes_before_shares(self) -> None:
        world = fleet(QueueConfig("a", guarantee=(("cpu", 10_000),)), QueueConfig("b", weight=9))
        world.apply(of("b", "b", image(replicas=16)))
        world.apply(of("a", "a", image(replicas=16)))
        grow(world, 3)
        settle(world)
        assert used(world) == {"a": 10, "b": 2}

    def test_what_a_queue_does_not_use_others_borrow(self) -> None:
        world = fleet(QueueConfig("a", guarantee=(("cpu", 10_000),)), QueueConfig("b"), nodes=3)
        world.apply(of("b", "b", image(replicas=12)))
        assert used(world) == {"b": 12}

    def test_one_workload_is_decided_once_in_a_call(self) -> None:
        world = fleet(QueueConfig("a"), QueueConfig("b"))
        world.apply(of("a", "a", image(replicas=8)))
        world.apply(of("b", "b", image(replicas=8)))
        grow(world, 4)
        decisions = world.pending()
        keys = [str(item.workload.key) for item in decisions if isinstance(item, WorkloadPlaced)]
        assert sorted(keys) == ["default/a", "default/b"]
        standby = World(world.state.config)
        standby.cluster("east")
        grow(standby, 4)
        for decision in world.journal:
            standby.state.apply(decision)
        assert standby.state.hash() == world.state.hash()
        assert list(standby.state.queues()) == list(world.state.queues())

    def test_what_is_decided_in_turns_can_still_be_withdrawn(self) -> None:
        """A confirmation is told from older ones by the generation of the decision that it is for."""
        world = fleet(QueueConfig("a"), QueueConfig("b"))
        for name in ("a", "b"):
            world.apply(of(name, name, image(replicas=8)))
        grow(world, 4)
        settle(world)
        world.delete("a")
        world.withdrawn("east", "a")
        settle(world)
        assert "default/a" not in world.placements
        assert used(world) == {"b": 8}

    def test_a_gang_has_its_turn_as_a_whole(self) -> None:
        world = fleet(QueueConfig("a"), QueueConfig("b"))
        world.apply(of("a", "a", image(replicas=6), placement={"gang": {}}))
        world.apply(of("b", "b", image(replicas=16)))
        grow(world, 2)
        settle(world)
        assert used(world) == {"a": 6, "b": 2}

    def test_a_gang_that_has_its_turn_learns_that_there_is_no_room(self) -> None:
        world = fleet(QueueConfig("a"), nodes=1)
        world.apply(of("a", "large", image(cpu="5")))
        world.apply(of("a", "gang", image(replicas=5), placement={"gang": {}}))
        settle(world)
        assert world.placements["default/gang"].pod_sets[0].reason == "GangDoesNotFit"


class TestLimits:
    LIMIT = (("cpu", 5_000),)

    def test_a_limit_is_kept_however_much_is_free(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        decision = placed(world.apply(of("a", "one", image(replicas=8))))
        (item,) = decision.pod_sets
        assert (item.placed, item.reason) == (5, "QueueLimit")
        assert item.message == "with one more replica, queue 'a' would be beyond its limit of cpu"
        assert placed(world.apply(of("a", "two"))).pod_sets[0].reason == "QueueLimit"
        settle(world)
        assert placed(world.apply(of("default", "free"))).pod_sets[0].placed == 0
        settle(world)
        assert used(world) == {"a": 5, "default": 1}

    def test_what_a_workload_gives_up_another_has(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        world.apply(of("a", "one", image(replicas=5)))
        world.apply(of("a", "two", image(replicas=5)))
        settle(world)
        world.apply(of("a", "one", image(replicas=2)))
        settle(world)
        assert world.placements["default/two"].pod_sets[0].placed == 3

    def test_pod_sets_share_it(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        decision = placed(world.apply(of("a", "one", image("x", replicas=3), image("y", replicas=3))))
        assert [item.placed for item in decision.pod_sets] == [3, 2]
        decision = placed(world.apply(of("a", "one", image("x", replicas=4), image("y", replicas=3))))
        assert [item.placed for item in decision.pod_sets] == [3, 2]

    def test_a_gang_beyond_it_takes_nothing(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        decision = placed(world.apply(of("a", "one", image(replicas=6), placement={"gang": {}})))
        assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (0, "QueueLimit")

    def test_so_do_pod_sets_that_start_together(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        terms = {"gang": {"scope": "workload", "minCount": {"x": 1}}}
        decision = placed(world.apply(of("a", "one", image("x", replicas=9), image("y", replicas=2), placement=terms)))
        assert [item.placed for item in decision.pod_sets] == [3, 2]

    @pytest.mark.parametrize(
        "change", [{"queue": "a"}, {"queue": "a", "placement": {"binding": "node", "gang": {}}}], ids=["single", "gang"]
    )
    def test_who_comes_from_another_queue_keeps_what_is_within_it(self, change: Json) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), QueueConfig("b"), nodes=4)
        terms = {"placement": {"binding": "node"}, **change}
        world.apply(workload("one", image(replicas=8), **{**terms, "queue": "b"}))
        assert used(world) == {"b": 8}
        decision = placed(world.apply(workload("one", image(replicas=8), **terms)))
        assert decision.pod_sets[0].placed == (0 if "gang" in terms["placement"] else 5)
        assert decision.pod_sets[0].reason == "QueueLimit"

    def test_larger_replicas_are_fewer(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        world.apply(of("a", "one", image(replicas=4, cpu="1")))
        assert placed(world.apply(of("a", "one", image(replicas=4, cpu="2")))).pod_sets[0].placed == 2

    def test_copies_count_in_every_cluster(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        world.cluster("west")
        world.node("west", "w")
        decision = placed(world.apply(of("a", "one", image(replicas=3), placement={"division": "duplicated"})))
        assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (5, "QueueLimit")

    def test_a_lost_replica_is_replaced(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        world.apply(of("a", "one", image(replicas=8)))
        world.no_node("east", placed(world.journal[-1:]).pod_sets[0].shares[0].nodes[0])
        settle(world)
        assert world.placements["default/one"].pod_sets[0].placed == 5

    def test_a_job_that_ended_uses_nothing(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        spec = {"containers": [{"name": "main", "image": "j", "resources": {"requests": {"cpu": "3"}}}]}
        template = {"spec": {"restartPolicy": "Never", **spec}}
        job = {"name": "job", "manifest": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}}}
        world.apply(of("a", "one", job, placement={}))
        world.apply(of("a", "two", job, placement={}))
        assert world.placements["default/two"].pod_sets[0].reason == "QueueLimit"
        world.job("east", "one-job", of="one/job", finished=True)
        settle(world)
        assert world.placements["default/two"].pod_sets[0].placed == 1

    def test_a_change_is_said_to_be_enough_only_within_the_limit(self) -> None:
        world = fleet(QueueConfig("a", limit=self.LIMIT), nodes=4)
        world.apply(of("a", "one", image(replicas=2, cpu="3")))
        assert {item.text for item in remedies(world.state, "default/one", world.now)} == {
            "request cpu of 2 or less for a pod",
            "ask for 1 replicas",
        }


class TestReclaiming:
    """What others borrowed of a guarantee comes back when it is wanted."""

    GUARANTEED = QueueConfig("a", guarantee=(("cpu", 6_000),))

    def test_a_queue_below_its_guarantee_takes_back_what_others_borrowed(self) -> None:
        world = fleet(self.GUARANTEED, QueueConfig("b"), nodes=3)
        world.apply(of("b", "b", image(replicas=12), priority=100))
        world.apply(of("a", "a", image(replicas=12)))
        settle(world)
        assert used(world) == {"a": 6, "b": 6}
        (lent,) = world.placements["default/b"].pod_sets
        assert lent.reason == "Preempted"
        assert lent.message.startswith("made room for default/a (guaranteed to queue 'a')")
        assert {to.queue for to in lent.preempted} == {"a"}
        why = world.placements["default/a"].pod_sets[0].why
        assert why is not None
        assert {by.queue for by in why.displaced} == {"a"}

    def test_beyond_it_nothing_is_taken(self) -> None:
        world = fleet(self.GUARANTEED, QueueConfig("b"), nodes=3)
        world.apply(of("b", "b", image(replicas=12)))
        world.apply(of("a", "a", image(cpu="4", replicas=3), priority=9))
        settle(world)
        assert used(world) == {"a": 1, "b": 8}

    def test_what_is_within_the_guarantee_of_its_own_queue_stays(self) -> None:
        world = fleet(self.GUARANTEED, QueueConfig("b", guarantee=(("cpu", 10_000),)), nodes=3)
        world.apply(of("b", "b", image(replicas=12)))
        world.apply(of("a", "a", image(replicas=12)))
        settle(world)
        # Guarantees that add up to more than there is: who has it keeps it.
        assert used(world) == {"a": 2, "b": 10}
        assert world.placements["default/a"].pod_sets[0].reason == "Unschedulable"

    def test_from_the_queue_with_the_largest_share_for_its_weight(self) -> None:
        world = fleet(self.GUARANTEED, QueueConfig("b", weight=3), QueueConfig("c"), nodes=3)
        world.apply(of("b", "b", image(replicas=7)))
        world.apply(of("c", "c", image(replicas=5), priority=5))
        world.apply(of("a", "a", image(replicas=3)))
        settle(world)
        assert used(world) == {"a": 3, "b": 7, "c": 2}

    def test_two_that_both_take_back_do_so_in_turn(self) -> None:
        guarantee = (("cpu", 8_000),)
        queues = QueueConfig("a", guarantee=guarantee), QueueConfig("b", guarantee=guarantee), QueueConfig("c")
        world = fleet(*queues, nodes=3)
        for name in ("c", "a", "b"):
            world.apply(of(name, name, image(replicas=12)))
        settle(world)
        assert used(world) == {"a": 6, "b": 6, "c": 0}

    def test_a_disruption_budget_is_kept(self) -> None:
        world = fleet(self.GUARANTEED, QueueConfig("b"), nodes=3)
        world.apply(of("b", "b", image(replicas=12, disruptionBudget={"minAvailable": 10})))
        for share in world.placements["default/b"].pod_sets[0].shares:
            for node, ordinal in zip(share.nodes, share.ordinals, strict=True):
                world.pod("east", f"b-web-{ordinal}", node=node, of="b/web", ready=True)
        world.apply(of("a", "a", image(replicas=12)))
        settle(world)
        assert used(world) == {"a": 2, "b": 10}

    def test_who_shall_take_nothing_does_not(self) -> None:
        world = fleet(self.GUARANTEED, QueueConfig("b"), nodes=3)
        world.apply(of("b", "b", image(replicas=12)))
        world.apply(of("a", "a", image(replicas=12), preemptionPolicy="Never"))
        settle(world)
        assert used(world) == {"a": 0, "b": 12}

    def test_priorities_count_within_a_queue_alone(self) -> None:
        world = fleet(QueueConfig("a"), QueueConfig("b"), nodes=2)
        world.apply(of("b", "b", image(replicas=4)))
        world.apply(of("a", "low", image(replicas=4)))
        world.apply(of("a", "high", image(replicas=6), priority=9))
        settle(world)
        assert used(world) == {"a": 4, "b": 4}
        assert world.placements["default/high"].pod_sets[0].placed == 4
        assert world.placements["default/low"].pod_sets[0].preempted[0].queue == ""

    def test_not_beyond_the_limit(self) -> None:
        world = fleet(QueueConfig("a", guarantee=(("cpu", 2_000),), limit=(("cpu", 2_000),)), QueueConfig("b"), nodes=1)
        world.apply(of("b", "b", image(replicas=4)))
        world.apply(of("a", "a", image("x", replicas=2), image("y", replicas=2)))
        settle(world)
        assert used(world) == {"a": 2, "b": 2}
        assert {item.reason for item in world.placements["default/a"].pod_sets} == {"", "QueueLimit"}


class TestTurnsEnd:
    """What is tried in vain keeps nothing else of the same workload from being tried."""

    def test_the_second_pod_set_has_its_turn_where_the_first_finds_nothing(self) -> None:
        world = fleet(QueueConfig("a"), QueueConfig("b"))
        world.apply(of("b", "b", image(replicas=3)))
        world.apply(of("a", "a", image("large", cpu="5"), image("small")))
        grow(world, 1)
        for _ in range(20):
            world.pending()
        assert [item.placed for item in world.placements["default/a"].pod_sets] == [0, 1]
        assert not world.state.has_work

    def test_a_full_cluster_does_not_keep_copies_from_the_others(self) -> None:
        world = fleet(QueueConfig("a"), QueueConfig("b"))
        world.cluster("west")
        world.apply(of("b", "b", image(replicas=9)))
        world.apply(of("a", "a", image(), placement={"division": "duplicated"}))
        world.node("west", "w0", cpu="2")
        for _ in range(20):
            world.pending()
        assert [(item.placed, item.reason) for item in world.placements["default/a"].pod_sets] == [(1, "Unschedulable")]
        assert not world.state.has_work


class TestWhichQueue:
    @pytest.mark.parametrize(
        ("document", "queue"),
        [
            (workload("w", queue="a"), "a"),
            ({**workload("w"), "namespace": "team"}, "team"),
            (workload("w"), "default"),
            ({**workload("w", queue="a"), "namespace": "team"}, "a"),
            ({**workload("w"), "namespace": "other"}, "default"),
        ],
    )
    def test_its_own_that_of_its_namespace_or_the_default(self, document: Json, queue: str) -> None:
        world = fleet(QueueConfig("a"), QueueConfig("team"), nodes=1)
        world.apply(document)
        assert [name for name, share, _ in world.state.queues() if share] == [queue]

    def test_one_that_is_not_there_is_refused(self) -> None:
        (decision,) = fleet(QueueConfig("a")).apply(workload("w", queue="b"))
        assert isinstance(decision, RequestRejected)
        (error,) = decision.errors
        assert (error.field, error.reason) == ("workload.queue", "NotFound")
        assert error.message == "there is no queue 'b'; there are: a, default"

    def test_without_queues_none_is_looked_for(self, world: World) -> None:
        assert placed(world.apply(workload("w", queue="b"))).pod_sets[0].placed == 1
        assert list(world.state.queues()) == []

    def test_a_workload_may_change_its_queue(self) -> None:
        world = fleet(QueueConfig("a"), QueueConfig("b"), nodes=1)
        world.apply(of("a", "w", image(replicas=8)))
        world.apply(of("b", "w", image(replicas=8)))
        assert [(name, waiting) for name, share, waiting in world.state.queues() if share] == [("b", 1)]


class TestSettings:
    def test_amounts_are_as_kubernetes_writes_them(self) -> None:
        queues = {
            "b": {"limit": {"memory": "2Gi", "cpu": "1500m"}},
            "a": {"weight": 2, "guarantee": {"nvidia.com/gpu": 8}},
        }
        config = configuration(SchedulerSettings.model_validate({"scheduler_queues": queues}))
        assert config.queues == (
            QueueConfig("a", weight=2, guarantee=(("nvidia.com/gpu", 8_000),)),
            QueueConfig("b", limit=(("cpu", 1_500), ("memory", 2 * 1024**3))),
        )

    @pytest.mark.parametrize(
        ("queue", "where"),
        [
            ({"weight": 0}, "weight"),
            ({"limit": {"cpu": "many"}}, "limit.cpu"),
            ({"cohort": "x"}, "cohort"),
            ({"limit": {"cpu": "-1"}}, "limit.cpu"),
        ],
    )
    def test_what_makes_no_queue_is_named(self, queue: Json, where: str) -> None:
        with pytest.raises(ValidationError) as caught:
            SchedulerSettings.model_validate({"scheduler_queues": {"a": queue}})
        assert ".".join(map(str, caught.value.errors()[0]["loc"])) == f"scheduler_queues.a.{where}"

    def test_a_guarantee_beyond_the_limit_ends_the_start(self) -> None:
        settings = SchedulerSettings.model_validate(
            {"scheduler_queues": {"a": {"guarantee": {"cpu": "2"}, "limit": {"cpu": "1"}}}}
        )
        with pytest.raises(ValueError, match="queue 'a' has a guarantee of cpu that is more than its limit"):
            configuration(settings)
