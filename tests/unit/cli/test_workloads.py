"""What `flotilla get` shows of a workload."""

from __future__ import annotations

from services.cli.workloads import row_of
from shared.events.v1.status import WorkloadStatus
from tests.unit.status.world import World


def published(world: World) -> WorkloadStatus:
    return WorkloadStatus.model_validate_json(world.status().to_json())


def test_a_workload_on_a_silent_cluster_is_not_shown_as_healthy() -> None:
    world = World()
    world.run({"a": 1, "b": 1})
    assert row_of(published(world)) == ("Running", "2/2", "a, b", "2 of 2 replicas ready")

    world.wait(10_000)
    world.beat("b")
    world.wait(6_000)
    world.end()

    phase, ready, clusters, message = row_of(published(world))
    assert (phase, ready, clusters) == ("Degraded", "1/2", "a (silent), b")
    assert message == "no heartbeat of a: the state there is unknown"
