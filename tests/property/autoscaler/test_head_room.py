"""Head-room is there after a plan to grow, and still there after one to shrink: by plain counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision.nodes.growing import grow
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import Cluster, Node, NodeGroup, NodeKey, Pod, PodSet, Seen
from services.autoscaler.decision.nodes.shrinking import Shrinkage, shrink
from services.autoscaler.decision.nodes.spare import head_room_of
from services.autoscaler.decision.nodes.stock import Stock
from shared.events.v1.clusters import HeadRoom
from tests.node_groups import demand_of, group_of, node_of

kinds = st.tuples(st.sampled_from([2000, 4000, 8000]), st.sampled_from([0.2, 0.5, 1.0]))
running = st.lists(st.tuples(st.integers(0, 2), st.lists(st.sampled_from([300, 1000, 1500]), max_size=4)), max_size=6)
wanted = st.builds(
    HeadRoom,
    cpu=st.sampled_from(["0", "500m", "3", "7", "50%"]),
    memory=st.sampled_from(["0", "1Gi", "24Gi", "30%"]),
    pods=st.sampled_from(["0", "3"]),
)


def room(nodes: Iterable[Node], spare: PodSet) -> int:
    """How many such pods there is room for, on all nodes."""
    asked = dict(spare.demand.shape.requests)
    found = 0
    for node in nodes:
        free = Counter(node.allocatable)
        for pod in node.pods:
            free.subtract(dict(pod.demand.shape.requests))
        found += min(free[name] // amount for name, amount in asked.items())
    return found


def after(seen: Seen, shrinkage: Shrinkage, number: int) -> list[Node]:
    """The nodes when all that the plan says has happened."""
    groups = {group.key: group for group in seen.groups}
    nodes = {node.key: node for node in seen.nodes}
    made: dict[frozenset[NodeKey], Node] = {}
    gone = {removal.node: nodes.pop(removal.node) for removal in shrinkage.removals}
    for removal in shrinkage.removals:
        pods = {pod.key: pod for pod in gone[removal.node].pods}
        together = frozenset((removal.node, *removal.beside))
        if removal.replacement is not None and together not in made:
            made[together] = node_of(groups[removal.replacement], f"made-{number}-{len(made)}")
        for move in removal.moves:
            if move.to is None:
                made[together] = replace(made[together], pods=(*made[together].pods, pods[move.pod]))
            else:
                nodes[move.to] = replace(nodes[move.to], pods=(*nodes[move.to].pods, pods[move.pod]))
    return [*nodes.values(), *made.values()]


def fleet(groups: list[NodeGroup], there: list[tuple[int, list[int]]], terms: HeadRoom) -> Seen:
    nodes: list[Node] = []
    for number, (which, cpus) in enumerate(there):
        node = node_of(groups[which % len(groups)], f"n{number}")
        for place, cpu in enumerate(cpus):
            used = sum(dict(pod.demand.shape.requests)["cpu"] for pod in node.pods)
            if used + cpu <= node.allocatable["cpu"]:
                node = replace(node, pods=(*node.pods, Pod(f"p{number}-{place}", demand_of(cpu))))
        nodes.append(node)
    counts = Counter(node.group for node in nodes)
    sized = tuple(replace(group, size=counts[group.name]) for group in groups)
    spare = head_room_of("one", terms, nodes)
    return Seen((Cluster("one"),), sized, tuple(nodes), head_room=(spare,) if spare is not None else ())


@given(st.lists(kinds, min_size=1, max_size=3), running, wanted)
def test_it_is_there_and_stays(
    found: list[tuple[int, float]], there: list[tuple[int, list[int]]], terms: HeadRoom
) -> None:
    groups = [group_of(f"g{number}", cpu, 64, price=price, most=40) for number, (cpu, price) in enumerate(found)]
    seen = fleet(groups, there, terms)
    if not seen.head_room:
        return
    (spare,), policy, config = seen.head_room, Policy(unneeded_ms=0), SchedulerConfig()
    growth = grow(seen, policy, config, Stock(), 0)
    assert growth.head_room == 1.0
    grown = {choice.group: choice.size - choice.before for choice in growth.choices}
    if room(seen.nodes, spare) >= spare.count:
        assert not grown
    new = [
        node_of(group, f"new-{group.name}-{number}")
        for group in seen.groups
        for number in range(grown.get(group.key, 0))
    ]
    sized = tuple(replace(group, size=group.size + grown.get(group.key, 0)) for group in seen.groups)
    larger = replace(seen, nodes=(*seen.nodes, *new), groups=sized)
    assert room(larger.nodes, spare) >= spare.count
    # What has just been made for it is not taken back, and nothing else is missed.
    assert not grow(larger, policy, config, Stock(), 0).choices
    for now_ms in range(4):
        shrinkage = shrink(larger, policy, config, Stock(), now_ms)
        nodes = after(larger, shrinkage, now_ms)
        assert room(nodes, spare) >= spare.count
        counts = Counter(node.group for node in nodes)
        larger = replace(
            larger, nodes=tuple(nodes), groups=tuple(replace(item, size=counts[item.name]) for item in larger.groups)
        )
