"""Across queues: who takes back what, from whom, and that it ends. A plain re-implementation names the victims."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from services.scheduler.decision.config import QueueConfig, SchedulerConfig
from services.scheduler.decision.table.nodes import stable_order
from shared.events.v1.decisions import Decision, WorkloadForgotten, WorkloadPlaced
from tests.scheduling import World, image, workload

Json = dict[str, Any]
Amounts = tuple[int, int]
GI = 1024**3
_LOWEST = -(2**31)
QUEUES = (
    QueueConfig("a", weight=2.0, guarantee=(("cpu", 4_000),)),
    QueueConfig("b", guarantee=(("cpu", 3_000), ("memory", 4 * GI)), limit=(("cpu", 7_000),)),
    QueueConfig("c", weight=0.5),
)
GUARANTEES: dict[str, dict[str, int]] = {item.name: dict(item.guarantee) for item in QUEUES}
WORKLOADS = tuple(f"w{number}" for number in range(7))


@dataclass(frozen=True)
class Pod:
    """A replica that has a place. Of equals the younger gives way first."""

    workload: str
    queue: str
    rank: int
    asked_at: int
    ordinal: int
    node: str
    amounts: Amounts
    position: int = field(compare=False)

    @property
    def importance(self) -> tuple[int, int, str, int]:
        return -self.rank, self.asked_at, self.workload, self.position


Usage = dict[str, Counter[str]]


def named(amounts: Amounts) -> dict[str, int]:
    return dict(zip(("cpu", "memory"), amounts, strict=True))


def is_entitled(used: Usage, queue: str, amounts: Amounts) -> bool:
    asked = {name: amount for name, amount in named(amounts).items() if name in GUARANTEES[queue]}
    return bool(asked) and all(used[queue][name] + asked[name] <= GUARANTEES[queue][name] for name in asked)


def is_borrowed(used: Usage, pod: Pod) -> bool:
    asked = [name for name in named(pod.amounts) if name in GUARANTEES[pod.queue]]
    return not asked or any(used[pod.queue][name] > GUARANTEES[pod.queue][name] for name in asked)


class Reclaiming(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(SchedulerConfig(queues=QUEUES))
        self.nodes: dict[str, Amounts] = {}
        self.before: dict[str, WorkloadPlaced] = {}

    @initialize(sizes=st.lists(st.tuples(st.integers(2, 6), st.integers(4, 9)), min_size=1, max_size=3))
    def fleet(self, sizes: list[Amounts]) -> None:
        self.world.cluster("east")
        for number, (cpu, memory) in enumerate(sizes):
            self.world.node("east", f"n{number}", cpu=str(cpu), memory=f"{memory}Gi")
            self.nodes[f"n{number}"] = cpu * 1_000, memory * GI

    @rule(
        name=st.sampled_from(WORKLOADS),
        queue=st.sampled_from("aabbc"),
        priority=st.integers(0, 2),
        replicas=st.integers(0, 5),
        cpu=st.sampled_from([1, 1, 2, 3]),
        memory=st.integers(1, 3),
        settled=st.booleans(),
    )
    def request(
        self, name: str, queue: str, priority: int, replicas: int, cpu: int, memory: int, *, settled: bool
    ) -> None:
        pod_set = image("main", replicas, str(cpu), f"{memory}Gi")
        self.world.apply(workload(name, pod_set, queue=queue, priority=priority, placement={"binding": "node"}))
        if settled:
            self.settle()

    @rule(name=st.sampled_from(WORKLOADS))
    def delete(self, name: str) -> None:
        if f"default/{name}" in self.world.placements:
            self.world.delete(name)
            self.world.withdrawn("east", name)
            self.settle()

    @rule()
    def settle(self) -> None:
        """Until nothing comes of another try, though what was tried in vain may be tried again."""
        calls, changed = 0, True
        while changed:
            changed = False
            self.world.now += 60_000
            self.world.cluster("east")
            while True:
                calls += 1
                assert calls < 400, "queues take from each other in turn"
                self.before = dict(self.world.placements)
                decisions = self.world.pending()
                self.check_reclaim(decisions)
                changed = changed or bool(decisions)
                if not decisions and not self.world.state.has_work:
                    break
        self.check_guarantees()

    def check_reclaim(self, decisions: list[Decision]) -> None:
        """Of a call that took something back: from whom it should have, and that it cannot be taken back in turn."""
        gone = [item for item in decisions if isinstance(item, WorkloadPlaced) and self.gave_back(item)]
        if not gone:
            return
        first = decisions.index(gone[0])
        last = decisions[-1]
        assert isinstance(last, WorkloadPlaced)
        for item in decisions[:first]:
            if isinstance(item, WorkloadPlaced):
                self.before[str(item.workload.key)] = item
            elif isinstance(item, WorkloadForgotten):
                del self.before[item.key]
        taker = str(last.workload.key)
        queue, amounts = last.workload.queue or "", amounts_of(last)
        former, after = pods_of(self.before), pods_of(self.world.placements)
        gave_way = set(former) - set(after)
        # More of it may have taken the room of what is less important in its own queue.
        victims = {pod for pod in gave_way if pod.queue != queue}
        count = len([pod for pod in after if pod.workload == taker]) - len(
            [pod for pod in former if pod.workload == taker]
        )
        used = usage(after)
        takers = [pod for pod in after if pod.workload == taker]
        for pod in victims:
            # Replicas are whole: where a large one went as well, a small one may be within the guarantee again.
            entitled = is_entitled(used, pod.queue, pod.amounts)
            assert not (entitled and any(is_borrowed(used, item) for item in takers)), "it is taken back in turn"
        if victims == gave_way:
            asked = [name for name in GUARANTEES[queue] if name in named(amounts)]
            assert all(used[queue][name] <= GUARANTEES[queue][name] for name in asked)
        if count == 1:
            assert victims == self.least(former, queue, amounts)

    def gave_back(self, placed: WorkloadPlaced) -> bool:
        former = self.before.get(str(placed.workload.key))
        told = [item.preempted for item in placed.pod_sets]
        before = [item.preempted for item in former.pod_sets] if former is not None else []
        return told != before and any(item and item[-1].queue for item in told)

    def least(self, pods: list[Pod], queue: str, amounts: Amounts) -> set[Pod]:
        """The victims on the node where they are least: of the queue with the largest share that has any, or of all."""
        used, total = usage(pods), [sum(size[at] for size in self.nodes.values()) for at in (0, 1)]

        def share(name: str) -> float:
            weight = next(item.weight for item in QUEUES if item.name == name)
            count = sum(pod.queue == name for pod in pods)
            parts = used[name]["cpu"] / total[0], used[name]["memory"] / total[1], count / (110 * len(self.nodes))
            return max(parts) / weight

        others = sorted((name for name in GUARANTEES if name != queue), key=lambda name: (-share(name), name))
        for among in [*((name,) for name in others), tuple(others)]:
            found = [self.on(node, pods, among, amounts) for node in self.nodes]
            possible = [item for item in found if item is not None]
            if possible:
                return min(possible, key=lambda item: item[0])[1]
        return set()

    def on(
        self, node: str, pods: list[Pod], queues: tuple[str, ...], amounts: Amounts
    ) -> tuple[tuple[int, int, int, float], set[Pod]] | None:
        used, lent = usage(pods), []
        here = [pod for pod in pods if pod.node == node]
        for pod in sorted(here, key=lambda pod: pod.importance, reverse=True):
            if pod.queue in queues and is_borrowed(used, pod):
                lent.append(pod)
                used[pod.queue].subtract(named(pod.amounts))
        stay = [pod for pod in here if pod not in lent]
        if not self.fits(node, stay, amounts):
            return None
        victims: set[Pod] = set()
        for pod in reversed(lent):
            if self.fits(node, [*stay, pod], amounts):
                stay.append(pod)
            else:
                victims.add(pod)
        ranks = [pod.rank for pod in victims]
        total = sum(rank - _LOWEST + 1 for rank in ranks)
        return (max(ranks, default=_LOWEST - 1), total, len(ranks), stable_order("east", node)), victims

    def fits(self, node: str, pods: list[Pod], amounts: Amounts) -> bool:
        return all(
            sum(pod.amounts[at] for pod in pods) + amounts[at] <= size for at, size in enumerate(self.nodes[node])
        )

    def check_guarantees(self) -> None:
        """Nothing waits that is guaranteed to its queue, and that what others borrowed has room for."""
        pods = pods_of(self.world.placements)
        used = usage(pods)
        for placed in self.world.placements.values():
            queue = placed.workload.queue or ""
            if not placed.pod_sets or placed.pod_sets[0].placed >= placed.pod_sets[0].desired:
                continue
            amounts = amounts_of(placed)
            others = tuple(name for name in GUARANTEES if name != queue)
            if is_entitled(used, queue, amounts) and placed.pod_sets[0].reason != "QueueLimit":
                assert all(self.on(node, pods, others, amounts) is None for node in self.nodes), placed.workload.name


def amounts_of(placed: WorkloadPlaced) -> Amounts:
    resources = placed.workload.pod_sets[0].resources
    assert resources is not None
    cpu, memory = (str(resources.requests[name]) for name in ("cpu", "memory"))
    return int(cpu) * 1_000, int(memory.removesuffix("Gi")) * GI


def pods_of(placements: dict[str, WorkloadPlaced]) -> list[Pod]:
    return [
        Pod(
            key, placed.workload.queue or "", placed.rank, placed.request.published_at, ordinal, node, amounts, position
        )
        for key, placed in placements.items()
        if placed.pod_sets
        for amounts in (amounts_of(placed),)
        for share in placed.pod_sets[0].shares
        for position, (ordinal, node) in enumerate(zip(share.ordinals, share.nodes, strict=True))
    ]


def usage(pods: list[Pod]) -> Usage:
    used: Usage = {name: Counter() for name in GUARANTEES}
    for pod in pods:
        used[pod.queue].update(named(pod.amounts))
    return used


TestReclaiming = Reclaiming.TestCase
TestReclaiming.settings = settings(stateful_step_count=25)
