"""What waits takes the room of what is less important: who gives way, who never does, and what is said of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from services.scheduler.decision.asked.priorities import PriorityClass
from services.scheduler.decision.config import SchedulerConfig
from shared.events.v1.decisions import Displacement, RequestRejected, WorkloadPlaced
from tests.scheduling import Json, World, counts_of, image, nodes_of, placed, workload

BOUND = {"binding": "node"}


def bound(name: str, cpu: str = "4", replicas: int = 1, priority: int = 0, **more: Any) -> Json:
    own = {key: more.pop(key) for key in ("disruptionBudget",) if key in more}
    return workload(name, image("main", replicas, cpu, **own), priority=priority, placement=BOUND, **more)


def by_cluster(name: str, cpu: str = "4", replicas: int = 1, priority: int = 0, **more: Any) -> Json:
    return workload(name, image("main", replicas, cpu), priority=priority, **more)


def settle(world: World) -> None:
    while world.pending() or world.state.has_work:
        pass
    for outcome in world.placements.values():
        assert WorkloadPlaced.model_validate_json(outcome.to_json()) == outcome


def run(world: World, name: str, *, ready: bool = True, cpu: str = "4") -> None:
    """All pods of a workload that Flotilla bound run where they are placed."""
    for share in world.placements[f"default/{name}"].pod_sets[0].shares:
        for node, ordinal in zip(share.nodes, share.ordinals or range(len(share.nodes)), strict=True):
            world.pod(share.cluster, f"{name}-{ordinal}", node=node, of=f"{name}/main", ready=ready, cpu=cpu)


@pytest.fixture
def one() -> World:
    """One cluster with one node of four cores."""
    world = World()
    world.cluster("east")
    world.node("east", "n0")
    return world


@pytest.fixture
def two(one: World) -> World:
    one.node("east", "n1")
    return one


class TestWhoGivesWay:
    def test_who_could_have_stayed_beside_all_replicas_stays(self, one: World) -> None:
        """One after the other takes the least that makes room; what the last one takes is enough for all."""
        one.apply(bound("large", "3"))
        one.apply(bound("small", "500m", replicas=2))
        run(one, "large", cpu="3")
        run(one, "small", cpu="500m")
        one.apply(bound("high", "500m", replicas=3, priority=10))
        settle(one)
        shares = {name: one.placements[f"default/{name}"].pod_sets[0].placed for name in ("large", "small", "high")}
        assert shares == {"large": 0, "small": 2, "high": 3}
        why = one.placements["default/high"].pod_sets[0].why
        assert why is not None
        assert [by.workload for by in why.displaced] == ["default/large"]
        assert one.state.preemption.victims == 1

    def test_the_less_important_makes_room_and_waits(self, one: World) -> None:
        one.apply(bound("low"))
        run(one, "low")
        one.apply(bound("high", priority=10))
        first, second = one.pending()
        assert isinstance(first, WorkloadPlaced)
        assert isinstance(second, WorkloadPlaced)
        assert (first.workload.name, first.pod_sets[0].shares, first.withdrawn) == ("low", (), ("east",))
        assert (second.workload.name, nodes_of(second)) == ("high", {"east": ("n0",)})
        settle(one)
        low, high = (one.placements[f"default/{name}"].pod_sets[0] for name in ("low", "high"))
        assert low.reason == "Preempted"
        assert low.message.startswith("made room for default/high (priority 10); 0/1 nodes are available")
        [to] = low.preempted
        assert to == Displacement(
            workload="default/high", pod_set="main", priority=10, cluster="east", node="n0", replicas=1
        )
        assert high.why is not None
        [by] = high.why.displaced
        assert by == Displacement(
            workload="default/low", pod_set="main", priority=0, cluster="east", node="n0", replicas=1
        )
        assert (one.state.preemption.count, one.state.preemption.victims) == (1, 1)

    def test_its_room_is_held_from_then_on(self, one: World) -> None:
        one.apply(bound("low"))
        run(one, "low")
        one.apply(bound("high", priority=10))
        settle(one)
        one.apply(bound("other", priority=5))
        settle(one)
        one.no_pod("east", "low-0")
        settle(one)
        assert one.placements["default/high"].pod_sets[0].placed == 1
        assert not one.placements["default/other"].pod_sets[0].placed
        assert not one.placements["default/low"].pod_sets[0].placed

    def test_equal_priorities_never_do(self, one: World) -> None:
        one.apply(bound("first", priority=10))
        run(one, "first")
        one.apply(bound("second", priority=10))
        settle(one)
        assert one.placements["default/first"].pod_sets[0].placed == 1
        assert one.placements["default/second"].pod_sets[0].reason == "Unschedulable"

    def test_nobody_does_while_there_is_room(self, two: World) -> None:
        two.apply(bound("low"))
        two.apply(bound("high", priority=10))
        assert two.pending() == []
        assert two.placements["default/low"].pod_sets[0].placed == 1

    def test_pods_of_others_never_do(self, one: World) -> None:
        one.pod("east", "theirs", node="n0", cpu="4")
        one.apply(bound("high", priority=10))
        assert one.pending() == []

    def test_in_vain_it_is_tried_less_and_less_until_something_happens(
        self, one: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one.pod("east", "theirs", node="n0", cpu="2")
        one.apply(bound("low", "2"))
        run(one, "low", cpu="2")
        one.apply(bound("high", priority=10))
        tried: list[int] = []
        preempt = one.state.preemption._preempt

        def counted(*rest: Any) -> Any:
            tried.append(one.now)
            return preempt(*rest)

        monkeypatch.setattr(one.state.preemption, "_preempt", counted)

        def passes(seconds: int) -> None:
            for _ in range(seconds):
                one.now += 1_000
                one.cluster("east")
                one.pending()

        passes(60)
        pauses = [after - before for before, after in pairwise(tried)]
        assert 4 <= len(tried) <= 8
        assert pauses == sorted(pauses)
        one.no_pod("east", "theirs")
        passes(2)
        assert one.placements["default/high"].pod_sets[0].placed == 1

    def test_where_it_is_not_wanted_nobody_does(self, one: World) -> None:
        one.apply(bound("low"))
        one.apply(bound("high", priority=10, preemptionPolicy="Never"))
        assert one.pending() == []
        assert one.placements["default/high"].pod_sets[0].reason == "Unschedulable"

    def test_never_more_than_needed(self, one: World) -> None:
        for number in range(4):
            one.apply(bound(f"low{number}", cpu="1"))
            run(one, f"low{number}", cpu="1")
        one.apply(bound("high", cpu="2", priority=10))
        settle(one)
        waiting = [name for name, item in one.placements.items() if not item.pod_sets[0].placed]
        # Of equals the younger ones.
        assert waiting == ["default/low2", "default/low3"]

    def test_the_least_important_first(self, one: World) -> None:
        for name, priority in (("a", 3), ("b", 1), ("c", 2)):
            one.apply(bound(name, cpu="1", priority=priority))
        one.apply(bound("high", cpu="2", priority=10))
        settle(one)
        assert [name for name, item in one.placements.items() if not item.pod_sets[0].placed] == ["default/b"]

    def test_the_node_with_the_least_important_victims(self, two: World) -> None:
        two.apply(bound("mid", cpu="4", priority=5))
        two.apply(bound("low", cpu="2", replicas=2, priority=1))
        two.apply(bound("high", priority=10))
        settle(two)
        assert two.placements["default/mid"].pod_sets[0].placed == 1
        assert two.placements["default/low"].pod_sets[0].placed == 0

    def test_what_made_room_goes_elsewhere_if_it_can(self, two: World) -> None:
        two.apply(bound("big", cpu="3"))
        two.apply(bound("low", cpu="1500m"))
        settle(two)
        two.apply(bound("high", cpu="4", priority=10))
        settle(two)
        for name in ("high", "low"):
            assert two.placements[f"default/{name}"].pod_sets[0].placed == 1 or name == "low"
        assert two.placements["default/high"].pod_sets[0].placed == 1

    def test_room_that_is_about_to_be_free_is_enough(self, one: World) -> None:
        """What is left of the room that one made is for the next, also while its pod is still there."""
        one.apply(bound("low", cpu="3"))
        one.apply(bound("also", cpu="1"))
        run(one, "low", cpu="3")
        run(one, "also", cpu="1")
        one.apply(bound("high", cpu="1500m", priority=10))
        settle(one)
        assert not one.placements["default/low"].pod_sets[0].placed
        one.apply(bound("higher", cpu="1500m", priority=10))
        settle(one)
        assert one.placements["default/higher"].pod_sets[0].placed == 1
        assert one.placements["default/also"].pod_sets[0].placed == 1

    def test_many_at_once_are_one_decision_for_each(self, two: World) -> None:
        two.apply(bound("low", cpu="1", replicas=8))
        two.apply(bound("high", cpu="2", replicas=3, priority=10))
        decisions = two.pending()
        assert len(decisions) == 2
        settle(two)
        assert two.placements["default/high"].pod_sets[0].placed == 3
        assert two.placements["default/low"].pod_sets[0].placed == 2


class TestByCluster:
    def test_one_of_a_cluster_gives_way(self, one: World) -> None:
        one.apply(by_cluster("low", cpu="2", replicas=2))
        for number in range(2):
            one.pod("east", f"low-{number}", node="n0", of="low/main", cpu="2", ready=True)
        one.apply(by_cluster("high", cpu="2", priority=10))
        settle(one)
        assert counts_of(one.placements["default/low"]) == {"east": 1}
        assert counts_of(one.placements["default/high"]) == {"east": 1}

    def test_wherever_the_controller_deletes_a_pod_there_is_room(self, two: World) -> None:
        two.apply(by_cluster("low", replicas=2))
        for number in range(2):
            two.pod("east", f"low-{number}", node=f"n{number}", of="low/main", cpu="4")
        two.apply(by_cluster("high", priority=10))
        settle(two)
        assert counts_of(two.placements["default/low"]) == {"east": 1}
        assert counts_of(two.placements["default/high"]) == {"east": 1}

    def test_where_that_is_not_so_nobody_gives_way(self, two: World) -> None:
        """Nobody knows which of four pods on two nodes go: two of them might leave two halves."""
        two.apply(by_cluster("low", cpu="2", replicas=4))
        for number in range(4):
            two.pod("east", f"low-{number}", node=f"n{number % 2}", of="low/main", cpu="2")
        two.apply(by_cluster("high", cpu="4", priority=10))
        assert two.pending() == []

    def test_what_flotilla_binds_takes_no_room_of_what_it_does_not(self, one: World) -> None:
        one.apply(by_cluster("low"))
        one.pod("east", "low-0", node="n0", of="low/main", cpu="4")
        one.apply(bound("high", priority=10))
        assert one.pending() == []

    def test_a_job_gives_way_as_a_whole(self, two: World) -> None:
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"parallelism": 3, "template": template}}
        two.apply(workload("job", {"name": "main", "manifest": job}))
        two.apply(by_cluster("high", cpu="4", priority=10))
        settle(two)
        assert counts_of(two.placements["default/job"]) == {}
        assert two.placements["default/job"].pod_sets[0].reason == "Preempted"
        assert counts_of(two.placements["default/high"]) == {"east": 1}


class TestBudgets:
    def test_a_budget_is_kept(self, two: World) -> None:
        two.apply(bound("low", replicas=2, disruptionBudget={"minAvailable": 1}))
        run(two, "low")
        two.apply(bound("high", replicas=2, priority=10))
        settle(two)
        assert two.placements["default/low"].pod_sets[0].placed == 1
        assert two.placements["default/high"].pod_sets[0].placed == 1

    @pytest.mark.parametrize("budget", [{"minAvailable": "100%"}, {"maxUnavailable": 0}, {"minAvailable": 2}])
    def test_what_allows_nothing_keeps_all(self, two: World, budget: Json) -> None:
        two.apply(bound("low", replicas=2, disruptionBudget=budget))
        run(two, "low")
        two.apply(bound("high", priority=10))
        assert two.pending() == []

    def test_what_is_not_ready_goes_only_while_enough_is(self, two: World) -> None:
        two.apply(bound("low", replicas=2, disruptionBudget={"minAvailable": 1}))
        run(two, "low", ready=False)
        two.apply(bound("high", priority=10))
        assert two.pending() == []

    def test_another_node_is_taken_where_a_budget_would_be_broken(self, two: World) -> None:
        two.apply(bound("guarded", priority=1, disruptionBudget={"minAvailable": 1}))
        two.apply(bound("free", priority=5))
        run(two, "guarded")
        run(two, "free")
        two.apply(bound("high", priority=10))
        settle(two)
        assert two.placements["default/guarded"].pod_sets[0].placed == 1
        assert two.placements["default/free"].pod_sets[0].placed == 0

    @pytest.mark.parametrize("budget", [{}, {"minAvailable": 1, "maxUnavailable": 1}, {"minAvailable": "101%"}])
    def test_one_that_makes_no_sense_is_refused(self, budget: Json) -> None:
        with pytest.raises(ValueError, match="disruptionBudget"):
            World().apply(bound("low", disruptionBudget=budget))


class TestClasses:
    @pytest.fixture
    def world(self) -> World:
        classes = {
            "gold": PriorityClass(1000),
            "batch": PriorityClass(-5, default=True),
            "patient": PriorityClass(500, preemption_policy="Never"),
        }
        world = World(SchedulerConfig(priority_classes=classes))
        world.cluster("east")
        world.node("east", "n0")
        return world

    def test_a_class_has_a_value(self, world: World) -> None:
        assert placed(world.apply(bound("a", priorityClass="gold"))).rank == 1000
        assert placed(world.apply(bound("b"))).rank == -5
        assert placed(world.apply(bound("c", priority=7))).rank == 7
        patient = placed(world.apply(bound("d", priorityClass="patient")))
        assert (patient.rank, patient.preempts) == (500, False)

    def test_it_counts_as_much_as_a_number(self, world: World) -> None:
        world.apply(bound("low"))
        world.apply(bound("high", priorityClass="gold"))
        settle(world)
        assert world.placements["default/high"].pod_sets[0].placed == 1
        world.apply(bound("waits", priorityClass="patient"))
        assert world.pending() == []

    @pytest.mark.parametrize(
        ("more", "field", "reason"),
        [
            ({"priorityClass": "silver"}, "workload.priorityClass", "NotFound"),
            ({"priorityClass": "gold", "priority": 7}, "workload.priority", "Contradiction"),
        ],
    )
    def test_what_contradicts_is_refused(self, world: World, more: Json, field: str, reason: str) -> None:
        [refused] = world.apply(bound("a", **more))
        assert isinstance(refused, RequestRejected)
        assert (refused.errors[0].field, refused.errors[0].reason) == (field, reason)

    @pytest.mark.parametrize(
        ("named", "more", "refused"),
        [
            ("gold", {"priorityClass": "gold"}, False),
            ("gold", {"priority": 1000}, False),
            ("theirs", {"priority": 3}, False),
            ("gold", {"priority": 3}, True),
            ("gold", {}, True),
            ("theirs", {"priorityClass": "gold"}, True),
        ],
    )
    def test_a_template_says_nothing_else(self, world: World, named: str, more: Json, refused: bool) -> None:
        spec = {"priorityClassName": named, "containers": [{"name": "c", "image": "i"}]}
        document = workload("a", {"name": "main", "template": {"spec": spec}}, placement=BOUND, **more)
        [decision] = world.apply(document)
        assert isinstance(decision, RequestRejected) == refused
        if isinstance(decision, RequestRejected):
            assert decision.errors[0].field == "workload.podSets.0.template.spec.priorityClassName"


def test_who_folds_the_journal_comes_to_the_same(two: World) -> None:
    standby = World()
    standby.cluster("east")
    for name in ("n0", "n1"):
        standby.node("east", name)
    two.apply(bound("low", cpu="2", replicas=4))
    for share in two.placements["default/low"].pod_sets[0].shares:
        for node, ordinal in zip(share.nodes, share.ordinals, strict=True):
            for world in (two, standby):
                world.pod("east", f"low-{ordinal}", node=node, of="low/main", cpu="2")
    two.apply(bound("high", cpu="3", priority=10))
    settle(two)
    for decision in two.journal:
        standby.state.apply(decision)
    assert standby.state.hash() == two.state.hash()
