"""Queues are fair within one pod, their limits hold, what is counted is what there is, and nobody starves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.scheduler.decision.config import QueueConfig, SchedulerConfig
from shared.events.v1.decisions import Decision, WorkloadPlaced
from tests.scheduling import World, image, workload

Json = dict[str, Any]
NAMES = ("a", "b", "c")
GI = 1024**3


@dataclass(frozen=True)
class Pods:
    """All that one queue asks for: replicas of one shape."""

    cpu: int
    memory: int
    replicas: int


pods = st.builds(Pods, cpu=st.integers(1, 4), memory=st.integers(1, 8), replicas=st.integers(0, 31))
weights = st.sampled_from([0.5, 1.0, 1.0, 2.0, 3.0])
guarantees = st.one_of(st.just(()), st.builds(lambda cpu: (("cpu", cpu * 1000),), st.integers(1, 12)))
limits = st.one_of(st.just(()), st.just(()), st.builds(lambda cpu: (("cpu", cpu * 1000),), st.integers(12, 20)))
configs = st.builds(QueueConfig, name=st.just(""), weight=weights, guarantee=guarantees, limit=limits)


def progressive_filling(queues: list[QueueConfig], asked: dict[str, Pods], cpu: int, memory: int) -> dict[str, int]:
    """One replica at a time for the queue that has least, on one node, as the paper says; and what we add to that."""
    given_to = dict.fromkeys(asked, 0)
    free_cpu, free_memory = cpu, memory

    def may_have(queue: QueueConfig, amounts: tuple[tuple[str, int], ...]) -> bool:
        most = dict(amounts).get("cpu")
        return most is None or (given_to[queue.name] + 1) * asked[queue.name].cpu * 1000 <= most

    while True:
        waiting = [
            queue
            for queue in queues
            if given_to[queue.name] < asked[queue.name].replicas
            and asked[queue.name].cpu <= free_cpu
            and asked[queue.name].memory <= free_memory
            and may_have(queue, queue.limit)
        ]
        if not waiting:
            return given_to

        def rank(queue: QueueConfig) -> tuple[bool, float, str]:
            has, of = given_to[queue.name], asked[queue.name]
            share = max(has * of.cpu / cpu, has * of.memory / memory, has / 110) / queue.weight
            return not (queue.guarantee and may_have(queue, queue.guarantee)), share, queue.name

        following = min(waiting, key=rank)
        given_to[following.name] += 1
        free_cpu -= asked[following.name].cpu
        free_memory -= asked[following.name].memory


@given(st.lists(configs, min_size=3, max_size=3), st.lists(pods, min_size=3, max_size=3), st.data())
def test_the_room_of_a_node_is_shared_as_by_progressive_filling(
    found: list[QueueConfig], wanted: list[Pods], data: st.DataObject
) -> None:
    queues = [
        QueueConfig(name, item.weight, item.guarantee, item.limit) for name, item in zip(NAMES, found, strict=True)
    ]
    asked = dict(zip(NAMES, wanted, strict=True))
    world = World(SchedulerConfig(queues=tuple(queues), placements_per_call=data.draw(st.sampled_from([3, 2_000]))))
    world.cluster("east")
    for name in data.draw(st.permutations(NAMES)):
        item = asked[name]
        pod_set = image(replicas=item.replicas, cpu=str(item.cpu), memory=f"{item.memory}Gi")
        world.apply(workload(name, pod_set, queue=name, placement={"binding": "node"}))
    cpu, memory = data.draw(st.integers(4, 40)), data.draw(st.integers(8, 80))
    world.node("east", "n", cpu=str(cpu), memory=f"{memory}Gi")
    settle(world)
    assert {name: world.placements[f"default/{name}"].pod_sets[0].placed for name in NAMES} == progressive_filling(
        queues, asked, cpu, memory
    )


@given(st.lists(weights, min_size=3, max_size=3), st.data())
def test_queues_that_want_more_than_there_is_end_within_one_pod(found: list[float], data: st.DataObject) -> None:
    """Alike pods, in workloads of any size, on any nodes, in whatever order they were asked for."""
    world = World(
        SchedulerConfig(queues=tuple(QueueConfig(name, weight) for name, weight in zip(NAMES, found, strict=True)))
    )
    world.cluster("east")
    requests = [(name, number) for name in NAMES for number in range(12)]
    for name, number in data.draw(st.permutations(requests)):
        pod_set = image(replicas=data.draw(st.integers(3, 9)))
        world.apply(workload(f"{name}{number}", pod_set, queue=name, placement={"binding": "node"}))
    for number in range(data.draw(st.integers(1, 6))):
        world.node("east", f"n{number}", cpu=str(data.draw(st.integers(1, 6))))
        settle(world)
    used = Counter[str]()
    for placed in world.placements.values():
        used[placed.workload.queue or ""] += placed.pod_sets[0].placed
    for one, weight in zip(NAMES, found, strict=True):
        for other, its_weight in zip(NAMES, found, strict=True):
            assert (used[one] - 1) / weight <= used[other] / its_weight + 1e-9


@given(st.data())
def test_who_fits_is_tried_after_boundedly_many_others(data: st.DataObject) -> None:
    """Whatever waits before it, in its own queue and in others: each of them has one try."""
    world = World(SchedulerConfig(queues=tuple(QueueConfig(name) for name in NAMES), placements_per_call=5))
    world.cluster("east")
    world.node("east", "n0", cpu="1")
    others = data.draw(st.integers(0, 15))
    for number in range(others):
        document = image(replicas=data.draw(st.integers(1, 3)), cpu=data.draw(st.sampled_from(["2", "3"])))
        binding = {"binding": "node", "gang": {}} if data.draw(st.booleans()) else {"binding": "node"}
        queue = data.draw(st.sampled_from(NAMES))
        world.apply(workload(f"w{number}", document, queue=queue, priority=9, placement=binding))
    small = workload("small", image(cpu="1", memory="2Gi"), queue="c", placement={"binding": "node"})
    world.node("east", "n0", cpu="500m")
    world.apply(small)
    settle(world)
    assert world.placements["default/small"].pod_sets[0].reason
    tried: list[str] = []
    again = world.state.settling.redecide

    def redecide(key: str, *rest: Any, **more: Any) -> list[Decision]:
        tried.append(key)
        return again(key, *rest, **more)

    world.state.settling.redecide = redecide  # type: ignore[method-assign]
    world.node("east", "n0", cpu="1")
    settle(world)
    assert world.placements["default/small"].pod_sets[0].placed == 1
    assert len(tried) <= 2 * (others + 1)


def settle(world: World) -> None:
    calls = 0
    while world.pending() or world.state.has_work:
        calls += 1
        assert calls < 500, "work without end"


WORKLOADS = tuple(f"w{number}" for number in range(6))
QUEUES = (
    QueueConfig("a", weight=2.0, guarantee=(("cpu", 4_000),), limit=(("cpu", 7_000),)),
    QueueConfig("b", limit=(("cpu", 6_000), ("memory", 9 * GI))),
)


class Queueing(RuleBasedStateMachine):
    """Limits hold at every moment, and what is counted for a queue is what its workloads have."""

    def __init__(self) -> None:
        super().__init__()
        config = SchedulerConfig(queues=QUEUES, placements_per_call=4)
        self.world, self.standby = World(config), World(config)
        self.folded = 0

    @initialize()
    def clusters(self) -> None:
        for world in (self.world, self.standby):
            world.cluster("east")
            world.cluster("west")

    @rule(cluster=st.sampled_from(["east", "west"]), number=st.integers(0, 2), cpu=st.integers(1, 6))
    def node(self, cluster: str, number: int, cpu: int) -> None:
        for world in (self.world, self.standby):
            world.node(cluster, f"n{number}", cpu=str(cpu))

    @rule(cluster=st.sampled_from(["east", "west"]), number=st.integers(0, 2))
    def node_goes(self, cluster: str, number: int) -> None:
        for world in (self.world, self.standby):
            world.no_node(cluster, f"n{number}")

    @rule(cluster=st.sampled_from(["east", "west"]))
    def leaves(self, cluster: str) -> None:
        for world in (self.world, self.standby):
            world.leaves(cluster)

    @rule(cluster=st.sampled_from(["east", "west"]))
    def heartbeat(self, cluster: str) -> None:
        for world in (self.world, self.standby):
            world.cluster(cluster)

    @rule(
        name=st.sampled_from(WORKLOADS),
        queue=st.sampled_from(["a", "a", "b", "b", None]),
        priority=st.integers(0, 2),
        sets=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=2),
        terms=st.sampled_from(
            [
                *[{"binding": "node"}] * 3,
                {},
                {"binding": "node", "gang": {}},
                {"binding": "node", "gang": {"scope": "workload"}},
                {"division": "duplicated"},
            ]
        ),
    )
    def request(
        self, name: str, queue: str | None, priority: int, sets: Iterable[tuple[int, int, int]], terms: Json
    ) -> None:
        pod_sets = [
            image(f"s{number}", replicas=replicas, cpu=str(cpu), memory=f"{memory}Gi")
            for number, (replicas, cpu, memory) in enumerate(sets)
        ]
        more = {"queue": queue} if queue is not None else {}
        self.world.apply(workload(name, *pod_sets, priority=priority, placement=terms, **more))

    @rule()
    def time_passes(self) -> None:
        """So much that room is kept for what has to start together."""
        for world in (self.world, self.standby):
            world.now += 61_000
            world.cluster("east")
            world.cluster("west")

    @rule(name=st.sampled_from(WORKLOADS), cluster=st.sampled_from(["east", "west"]))
    def delete(self, name: str, cluster: str) -> None:
        self.world.delete(name)
        self.world.withdrawn(cluster, name)

    @rule()
    def pending(self) -> None:
        decisions = self.world.pending()
        keys = [str(item.workload.key) for item in decisions if isinstance(item, WorkloadPlaced)]
        assert len(self.world.journal) >= len(keys)

    @rule()
    def settled(self) -> None:
        settle(self.world)
        assert self.world.pending() == []
        assert not any(item.reason == "Placing" for placed in self.placed() for item in placed.pod_sets)

    @precondition(lambda self: self.folded < len(self.world.journal))
    @rule()
    def standby_catches_up(self) -> None:
        for offset, decision in enumerate(self.world.journal[self.folded :], self.folded):
            self.standby.state.apply(decision)
            self.standby.state.note_generation(decision, offset)
        self.folded = len(self.world.journal)
        assert self.standby.state.hash() == self.world.state.hash()
        assert list(self.standby.state.queues()) == list(self.world.state.queues())

    @invariant()
    def limits_hold(self) -> None:
        used: dict[str, Counter[str]] = {"a": Counter(), "b": Counter(), "default": Counter()}
        for placed in self.placed():
            for pod_set, item in zip(placed.workload.pod_sets, placed.pod_sets, strict=True):
                assert pod_set.resources is not None
                asked = pod_set.resources.requests
                total = used[placed.workload.queue or "default"]
                total["cpu"] += int(asked["cpu"]) * 1000 * item.placed
                total["memory"] += int(asked["memory"].removesuffix("Gi")) * GI * item.placed
                total["pods"] += item.placed
        for queue in QUEUES:
            assert all(used[queue.name][name] <= most for name, most in queue.limit)
        queues = self.world.state._workloads.queues
        assert queues is not None
        assert {name: +counted for name, counted in queues._used.items()} == {
            name: +item for name, item in used.items()
        }

    def placed(self) -> list[WorkloadPlaced]:
        return [placed for placed in self.world.placements.values() if not placed.deleting]


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(stateful_step_count=30)
