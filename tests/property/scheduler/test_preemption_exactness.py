"""Who makes room is who a plain re-implementation names: kube-scheduler's rule on every node, and the least of all."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from services.scheduler.decision.table.nodes import stable_order
from tests.scheduling import World, image, workload

CPUS = st.sampled_from([500, 1000, 1500, 2000])
_LOWEST = -(2**31)
# Priority, cpu, whether its pod was seen ready.
lows = st.lists(st.tuples(st.integers(0, 3), CPUS, st.booleans()), min_size=1, max_size=8)


def bound(name: str, cpu: int, priority: int) -> dict[str, object]:
    return workload(name, image("main", 1, f"{cpu}m", "1Mi"), priority=priority, placement={"binding": "node"})


# The third of them has room by what was made for the second: that it needs nobody's is not that it tried in vain.
@example(nodes=[2000, 3000], low=[(1, 1000, False), (0, 2000, False), (2, 1500, False), (2, 1500, False)], wanted=1500)
@given(nodes=st.lists(st.sampled_from([2000, 3000]), min_size=1, max_size=3), low=lows, wanted=CPUS)
def test_the_victims_are_the_least(nodes: list[int], low: list[tuple[int, int, bool]], wanted: int) -> None:
    world = World()
    world.cluster("east")
    for number, cpu in enumerate(nodes):
        world.node("east", f"n{number}", cpu=f"{cpu}m")
    for number, (priority, cpu, _) in enumerate(low):
        world.apply(bound(f"w{number}", cpu, priority))
    while world.pending() or world.state.has_work:
        pass
    told = {n: world.placements[f"default/w{n}"].pod_sets[0].preempted for n in range(len(low))}
    where: dict[int, str] = {}
    for number, (_, cpu, ready) in enumerate(low):
        for share in world.placements[f"default/w{number}"].pod_sets[0].shares:
            where[number] = share.nodes[0]
            world.pod(
                "east", f"w{number}-main-0", node=share.nodes[0], of=f"w{number}/main", cpu=f"{cpu}m", ready=ready
            )
    world.apply(bound("high", wanted, 2))
    before = world.placements["default/high"].pod_sets[0].placed
    world.pending()
    gone = {n for n in where if world.placements[f"default/w{n}"].pod_sets[0].preempted != told[n]}
    expected = None if before else least(nodes, low, where, wanted)
    assert gone == (expected[1] if expected is not None else set())
    if expected is not None:
        assert world.placements["default/high"].pod_sets[0].shares[0].nodes == (expected[0],)


def least(
    nodes: list[int], low: list[tuple[int, int, bool]], where: dict[int, str], wanted: int
) -> tuple[str, set[int]] | None:
    candidates = []
    for number, cpu in enumerate(nodes):
        name = f"n{number}"
        here = [n for n, node in where.items() if node == name]
        kept = sum(low[n][1] for n in here if low[n][0] >= 2)
        less = [n for n in here if low[n][0] < 2]
        if kept + wanted > cpu:
            continue
        victims = set()
        for n in sorted(less, key=lambda n: (-low[n][0], not low[n][2], n)):
            if kept + low[n][1] + wanted <= cpu:
                kept += low[n][1]
            else:
                victims.add(n)
        ranks = [low[n][0] for n in victims]
        total = sum(rank - _LOWEST + 1 for rank in ranks)
        key = (max(ranks, default=_LOWEST), total, len(ranks), stable_order("east", name))
        candidates.append((key, name, victims))
    if not candidates:
        return None
    _, name, victims = min(candidates)
    return name, victims
