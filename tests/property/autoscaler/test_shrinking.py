"""Nodes go, over many looks, and nothing is broken on the way: by plain counting, without the autoscaler's own code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision.nodes.draining import Drains, Grow, Keep, Remove
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import (
    LOCAL_STORAGE,
    Cluster,
    GroupKey,
    Limits,
    Node,
    NodeGroup,
    NodeKey,
    Pod,
    PodSet,
    Seen,
)
from services.autoscaler.decision.nodes.shrinking import Shrinkage, shrink
from services.autoscaler.decision.nodes.stock import Stock
from tests.node_groups import demand_of, group_of, node_of

CLUSTERS = ("one", "other")
BUDGETS = ("b0", "b1")
# What it asks for of cpu, its budgets, and whether it is pinned (0) or goes with its node (1).
Running = tuple[int, tuple[str, ...], int]
kinds = st.tuples(st.sampled_from(CLUSTERS), st.sampled_from([2000, 4000, 8000]), st.sampled_from([0.2, 0.5, 1.0]))
pods = st.tuples(
    st.sampled_from([300, 1000, 1500, 2500]),
    st.sampled_from([(), (), ("b0",), ("b1",), ("b0", "b1")]),
    st.integers(0, 19),
)
nodes = st.tuples(st.integers(0, 2), st.lists(pods, max_size=4), st.integers(0, 9))


@dataclass
class Clusters:
    """What truly is: pods by node, who wants how many of a budget, and what was told of it."""

    groups: dict[GroupKey, NodeGroup]
    nodes: dict[NodeKey, Node]
    wanted: dict[str, int]
    made: int = 0
    # Pods that were made anew, and from when on they are ready.
    starting: dict[str, int] = field(default_factory=dict)
    # What executors were told to remove, and where each pod was expected to go.
    leaving: dict[NodeKey, GroupKey] = field(default_factory=dict)
    targets: dict[str, NodeKey | None] = field(default_factory=dict)
    # Pods that were evicted and have no place, with their cluster.
    homeless: dict[str, tuple[str, Pod]] = field(default_factory=dict)
    now_ms: int = 0

    def seen(self) -> Seen:
        clusters = tuple(map(Cluster, CLUSTERS))
        left = {name: max(0, self.ready(name) - self.wanted[name]) for name in BUDGETS}
        nodes = tuple(replace(node, unschedulable=node.key in self.leaving) for node in self.nodes.values())
        waits = tuple(
            PodSet(name, replace(pod.demand, clusters=(cluster,)), 1) for name, (cluster, pod) in self.homeless.items()
        )
        return Seen(clusters, tuple(self.groups.values()), nodes, waits, budgets=left)

    def ready(self, budget: str) -> int:
        there = (pod for node in self.nodes.values() for pod in node.pods)
        return sum(budget in pod.budgets and self.starting.get(pod.key, 0) <= self.now_ms for pod in there)

    def used(self, node: Node) -> tuple[int, int]:
        asked = [dict(pod.demand.shape.requests) for pod in node.pods]
        return sum(item["cpu"] for item in asked), sum(item["memory"] for item in asked)

    def fits(self, pod: Pod, node: Node) -> bool:
        cpu, memory = self.used(node)
        asked = dict(pod.demand.shape.requests)
        return cpu + asked["cpu"] <= node.allocatable["cpu"] and memory + asked["memory"] <= node.allocatable["memory"]

    def carry_out(self) -> None:
        """As executors do: evict as far as budgets have something left, and delete what is empty."""
        for name in list(self.homeless):
            self.settle(name)
        for key in list(self.leaving):
            for pod in self.nodes[key].pods:
                if not pod.daemon and self.may_go(pod):
                    self.evict(key, pod.key)
            if not [pod for pod in self.nodes[key].pods if not pod.daemon]:
                self.delete(key, self.leaving.pop(key))

    def may_go(self, pod: Pod) -> bool:
        counted = pod.budgets if self.starting.get(pod.key, 0) <= self.now_ms else ()
        return all(self.ready(budget) - 1 >= self.wanted[budget] for budget in counted)

    def evict(self, key: NodeKey, name: str) -> None:
        """Its controller makes it anew where there is room, in its own cluster."""
        node = self.nodes[key]
        (pod,) = [pod for pod in node.pods if pod.key == name]
        assert not pod.pinned
        self.nodes[key] = replace(node, pods=tuple(item for item in node.pods if item.key != name))
        self.homeless[name] = (node.cluster, pod)
        self.starting[name] = self.now_ms + 1_000
        self.settle(name)

    def settle(self, name: str) -> None:
        cluster, pod = self.homeless[name]
        found = [
            item
            for item in self.nodes.values()
            if item.cluster == cluster and item.key not in self.leaving and item.ready and self.fits(pod, item)
        ]
        chosen = next((item for item in found if item.key == self.targets.get(name)), next(iter(found), None))
        if chosen is not None:
            self.nodes[chosen.key] = replace(chosen, pods=(*chosen.pods, pod))
            self.starting[name] = self.now_ms + 3
            del self.homeless[name]

    def grow(self, key: GroupKey) -> None:
        group = self.groups[key]
        assert group.size < group.most
        self.made += 1
        self.groups[key] = replace(group, size=group.size + 1)
        node = node_of(group, f"made-{self.made}")
        self.nodes[node.key] = node

    def delete(self, key: NodeKey, group: GroupKey) -> None:
        del self.nodes[key]
        self.groups[group] = replace(self.groups[group], size=self.groups[group].size - 1)
        assert self.groups[group].size >= self.groups[group].least


def made(found: list[tuple[str, int, float]], there: list[tuple[int, list[Running], int]], least: int) -> Clusters:
    groups = [
        group_of(f"g{number}", cpu, 64, cluster=cluster, price=price, most=8, least=least)
        for number, (cluster, cpu, price) in enumerate(found)
    ]
    built: dict[NodeKey, Node] = {}
    for number, (which, running, luck) in enumerate(there):
        group = groups[which % len(groups)]
        node = node_of(group, f"n{number}", kept="kept" if luck == 0 else "")
        for place, (cpu, budgets, other) in enumerate(running):
            pod = Pod(f"p{number}-{place}", demand_of(cpu), budgets=budgets)
            pod = replace(pod, pinned=LOCAL_STORAGE if other == 0 else "", daemon=other == 1)
            if sum(dict(item.demand.shape.requests)["cpu"] for item in (*node.pods, pod)) <= node.allocatable["cpu"]:
                node = replace(node, pods=(*node.pods, pod))
        built[node.key] = node
    counts = Counter(GroupKey(node.cluster, node.group) for node in built.values())
    sized = {group.key: replace(group, size=counts[group.key]) for group in groups}
    sized = {key: replace(group, least=min(group.least, group.size)) for key, group in sized.items()}
    return Clusters(sized, built, dict.fromkeys(BUDGETS, 0))


def check_plan(world: Clusters, found: Shrinkage, policy: Policy) -> None:
    """Everybody has a place when all that the plan says has happened."""
    taken = {key: list(world.used(node)) for key, node in world.nodes.items()}
    going = {removal.node for removal in found.removals}
    gone: Counter[GroupKey] = Counter()
    by_node = {removal.node: removal for removal in found.removals}
    made: dict[frozenset[NodeKey], list[int]] = {}
    for removal in found.removals:
        node = world.nodes[removal.node]
        together = frozenset((removal.node, *removal.beside))
        assert together <= going
        assert sum(by_node[key].leads for key in together) == 1
        assert not node.kept
        gone[removal.group] += 1
        movable = {pod.key: pod for pod in node.pods if not pod.daemon}
        assert not any(pod.pinned for pod in movable.values())
        assert sorted(move.pod for move in removal.moves) == sorted(movable)
        new = made.setdefault(together, [0, 0])
        for move in removal.moves:
            asked = dict(movable[move.pod].demand.shape.requests)
            assert move.to is not None or removal.replacement is not None
            place = taken[move.to] if move.to is not None else new
            place[0], place[1] = place[0] + asked["cpu"], place[1] + asked["memory"]
            assert move.to is None or (move.to not in going and move.to.cluster == removal.node.cluster)
        if removal.replacement is not None:
            has = world.groups[removal.replacement].template.allocatable
            assert new[0] <= has["cpu"]
            assert new[1] <= has["memory"]
            assert removal.replacement.cluster == removal.node.cluster
            saved = sum(world.groups[by_node[key].group].price for key in together)
            assert world.groups[removal.replacement].price < saved
            assert {by_node[key].replacement for key in together} == {removal.replacement}
        else:
            assert not removal.beside
    for key, (cpu, memory) in taken.items():
        if key not in going:
            assert cpu <= world.nodes[key].allocatable["cpu"]
            assert memory <= world.nodes[key].allocatable["memory"]
    for group, count in gone.items():
        assert world.groups[group].size - count >= world.groups[group].least
    assert len(found.removals) <= policy.most_draining


@given(
    st.lists(kinds, min_size=1, max_size=3),
    st.lists(nodes, min_size=1, max_size=7),
    st.integers(0, 2),
    st.lists(st.integers(0, 3), min_size=2, max_size=2),
    st.sampled_from([Policy(unneeded_ms=2), Policy(unneeded_ms=0, most_draining=2), Policy(limits=Limits(6.0))]),
)
def test_nothing_is_broken_while_nodes_go(
    found: list[tuple[str, int, float]],
    there: list[tuple[int, list[Running], int]],
    least: int,
    spare: list[int],
    policy: Policy,
) -> None:
    world = made(found, there, least)
    world.wanted = {name: max(0, world.ready(name) - left) for name, left in zip(BUDGETS, spare, strict=True)}
    running = Counter(pod.key for node in world.nodes.values() for pod in node.pods if not pod.daemon)
    drains, stock, price = Drains(), Stock(), total(world)
    for now_ms in range(60):
        world.now_ms = now_ms
        seen = world.seen()
        shrinkage = shrink(seen, policy, SchedulerConfig(), stock, now_ms, drains.going)
        if not drains.going:
            check_plan(world, shrinkage, policy)
        for instruction in drains.step(seen, shrinkage, policy, stock, now_ms):
            match instruction:
                case Remove(removal):
                    assert not world.nodes[removal.node].kept
                    world.leaving[removal.node] = removal.group
                    world.targets |= {move.pod: move.to for move in removal.moves}
                case Keep(key, _, _):
                    del world.leaving[key]
                case Grow(group, _):
                    world.grow(group)
        world.carry_out()
        assert len(drains.going) <= policy.most_draining
    # Everybody is there still, and it costs no more.
    assert not world.homeless
    assert Counter(pod.key for node in world.nodes.values() for pod in node.pods if not pod.daemon) == running
    assert not drains.going
    assert total(world) <= price + 1e-9


def total(world: Clusters) -> float:
    return sum(node.price for node in world.nodes.values())
