"""What has to start together starts when what ran before it has ended, whatever comes meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.config import QueueConfig, SchedulerConfig
from tests.scheduling import World, image, workload

QUEUES = [(), (QueueConfig("a"),), (QueueConfig("a", guarantee=(("cpu", 3_000),)), QueueConfig("b"))]
CPUS = st.sampled_from(["500m", "1", "2", "3"])


@given(
    queues=st.sampled_from(QUEUES),
    nodes=st.lists(st.integers(3, 6), min_size=1, max_size=4),
    gang=st.tuples(st.integers(2, 6), CPUS),
    there=st.lists(CPUS, min_size=1, max_size=12),
    come=st.lists(st.tuples(CPUS, st.integers(0, 2)), min_size=12, max_size=12),
    data=st.data(),
)
def test_a_gang_is_not_passed_for_ever(
    queues: tuple[QueueConfig, ...],
    nodes: list[int],
    gang: tuple[int, str],
    there: list[str],
    come: list[tuple[str, int]],
    data: st.DataObject,
) -> None:
    """All that ran, or was older, ends in any order; each time others come that are younger."""
    world = World(SchedulerConfig(queues=queues))
    world.cluster("east")
    for number, cores in enumerate(nodes):
        world.node("east", f"n{number}", cpu=str(cores))
    for number, cpu in enumerate(there):
        world.apply(workload(f"w{number}", image(cpu=cpu, memory="1Mi"), placement={"binding": "node"}))
    settle(world)
    replicas, cpu = gang
    size = {"500m": 500, "1": 1_000, "2": 2_000, "3": 3_000}[cpu]
    world.apply(workload("gang", image(replicas=replicas, cpu=cpu, memory="1Mi"), placement={"gang": {}}))
    world.now += 61_000
    world.cluster("east")
    settle(world)
    for number in data.draw(st.permutations(range(len(there)))):
        younger, priority = come[number]
        world.apply(workload(f"c{number}", image(cpu=younger, memory="1Mi"), priority=-priority))
        world.delete(f"w{number}")
        world.withdrawn("east", f"w{number}")
        settle(world)
    fits = sum(cores * 1_000 // size for cores in nodes) >= replicas
    assert world.placements["default/gang"].pod_sets[0].placed == (replicas if fits else 0)


def settle(world: World) -> None:
    calls = 0
    while world.pending() or world.state.has_work:
        calls += 1
        assert calls < 300, "work without end"
