"""Which pods with GPUs the fleet runs, and when costs follow."""

from __future__ import annotations

import numpy as np
import pytest

from services.scheduler.decision.config import GPU_POLICY, SchedulerConfig
from services.scheduler.decision.scoring.kernel import expected_leftover
from services.scheduler.decision.scoring.mix import DemandMix
from tests.scheduling import World, image, workload

GPU = "nvidia.com/gpu"


def gpus(count: int, cpu: str = "1", replicas: int = 1) -> dict[str, object]:
    return image(resources={"requests": {GPU: str(count), "cpu": cpu}}, replicas=replicas)


def classes(mix: DemandMix) -> dict[tuple[int, ...], float]:
    return {tuple(kind): part for kind, part in zip(mix.classes.tolist(), mix.frequency.tolist(), strict=True)}


class TestMix:
    def test_counts_desired_replicas_by_cpu_and_gpus(self, world: World) -> None:
        world.apply(workload("a", gpus(1, replicas=3)))
        world.apply(workload("b", gpus(2, cpu="4", replicas=3)))
        world.apply(workload("c"))
        assert classes(world.state.fleet.mix) == {(1000, 1, 1000): 0.5, (4000, 2, 1000): 0.5}

    def test_shared_gpus_are_a_class_of_their_own(self, world: World) -> None:
        world.apply(workload("a", gpus(1), annotations={"flotilla.dev/gpu-milli": "300"}))
        assert classes(world.state.fleet.mix) == {(1000, 1, 300): 1.0}

    def test_a_snapshot_is_taken_when_the_pods_have_doubled_or_halved(self, world: World) -> None:
        mix = world.state.fleet.mix
        world.apply(workload("a", gpus(1, replicas=4)))
        version = mix.version
        world.apply(workload("b", gpus(2, replicas=3)))
        assert (mix.version, len(mix.frequency)) == (version, 1)
        world.apply(workload("b", gpus(2, replicas=4)))
        assert (mix.version, len(mix.frequency)) == (version + 1, 2)
        world.delete("b")
        assert classes(mix) == {(1000, 1, 1000): 1.0}
        world.delete("a")
        assert classes(mix) == {}


class TestLeftover:
    def test_what_comes_decides_what_is_lost(self) -> None:
        mix, frequency = np.array([[1000, 1, 400]]), np.array([1.0])
        leftover = expected_leftover(mix, frequency)
        assert leftover[0] == 0
        # Nothing fits.
        assert leftover[399] == pytest.approx(399)
        # Ten to one a pod comes, and leaves nothing, or 200.
        assert leftover[400] == pytest.approx(400 / 11)
        assert leftover[600] == pytest.approx((10 * 200 + 600) / 11)
        # Two fit, and 200 are lost in any case.
        assert leftover[1000] == pytest.approx(leftover[800] + 200)

    def test_without_pods_all_of_it_is_lost(self) -> None:
        assert expected_leftover(np.zeros((0, 3), np.int64), np.zeros(0)) == pytest.approx(np.arange(1001))


class TestPolicy:
    def world(self, **nodes: str) -> World:
        world = World(SchedulerConfig(weights=GPU_POLICY))
        world.cluster("east")
        for name, cpu in nodes.items():
            world.node("east", name, cpu=cpu, memory="512Gi", **{"nvidia.com_gpu": "8"})
        return world

    def where(self, world: World, document: dict[str, object]) -> set[str]:
        (decision,) = world.apply(document)
        return {node for share in decision.pod_sets[0].shares for node in share.nodes}  # type: ignore[union-attr]

    def test_cpu_that_gpus_need_is_left(self) -> None:
        world = self.world(scarce="64", ample="128")
        world.apply(workload("first", gpus(8, cpu="64")))
        world.delete("first")
        for number in range(2):
            world.apply(workload(f"p{number}", gpus(1, cpu="8")))
        # Eight of them need all 64 cores of the one node; what needs no GPU goes to the other.
        assert self.where(world, workload("plain", image(cpu="16"))) == {"ample"}

    def test_a_profile_follows_the_mix(self) -> None:
        world = self.world(scarce="64", ample="128")
        # Without pods that need GPUs the fuller node is the better one.
        assert self.where(world, workload("early", image(cpu="16"))) == {"scarce"}
        record = world.state._workloads.get("default/early")
        assert record is not None
        profile = world.state.fleet.profiles.get(record.plans[0].demand)
        world.delete("early")
        assert profile.has_room(), "and has seen that the node is free again"
        whole = workload("whole", gpus(8, cpu="64"), placement={"clusters": ["nowhere"]})
        assert self.where(world, whole) == set()
        assert self.where(world, workload("late", image(cpu="16"))) == {"ample"}
