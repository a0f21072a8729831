"""A surge from 1 to 1,000 replicas and back over ten simulated clusters, from what pods use to pods that run.

Everything goes through the broker: watchers measure, the autoscaler says how many, the scheduler where, executors make
the clusters have them. In the first the nodes are there from the start, just as many as need all ten. In the second
their groups grow and shrink as well: a small size of `tests.bench.surge`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.local import SERVICES
from shared.events.v1.status import Phase
from tests.bench.surge import surge, up_and_down
from tests.e2e.harness import Fleet, Json, followed

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(600)]

CLUSTERS = 10
REPLICAS = 1000
# A node takes 110 pods: nine clusters would not be enough.
NODES = 1
STEP_S = 30
LASTS_STEPS = 4
CALM, BUSY = "20", "2000"
_WITHIN_S = 200.0
_ENVIRONMENT = {
    "FLOTILLA_WATCHER_METRICS_S": "2",
    # Pods of the simulator need no time to warm up, so what they use counts from the first sample on.
    "FLOTILLA_AUTOSCALER_CPU_INITIALIZATION_S": "0",
    "FLOTILLA_AUTOSCALER_INITIAL_READINESS_S": "0",
}


@pytest_asyncio.fixture
async def fleet(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """One with a broker of its own; `kafka_bootstrap` and `redis_url` say whether the machine can run one."""
    del kafka_bootstrap, redis_url
    clusters = [
        {"name": f"sim-{n}", "nodeGroups": [{"name": "pool", "count": NODES, "cpu": "32", "memory": "128Gi"}]}
        for n in range(CLUSTERS)
    ]
    specification = tmp_path / "clusters.yaml"
    specification.write_text(yaml.safe_dump({"clusters": [*clusters, {"name": "hub", "controllers": False}]}))
    source = SimulatedClusters(tmp_path / "clusters", specification)
    options = FleetOptions(tmp_path, source, services=(*SERVICES, "autoscaler"), environment=_ENVIRONMENT)
    async with LocalFleet(options) as local, followed(local, Path("kubectl")) as running:
        yield running


def surging(begins_in_steps: int, lasts_steps: int) -> Json:
    """Its pods use little, then for some steps of the clock far too much, then little again."""
    steps = 40
    at = int(time.time() / STEP_S) + begins_in_steps
    busy = {(at + number) % steps for number in range(lasts_steps)}
    load = ",".join(BUSY if step in busy else CALM for step in range(steps))
    annotations = {"simulator.flotilla.dev/load": load, "simulator.flotilla.dev/load-seconds": str(STEP_S)}
    container = {"name": "main", "image": "nginx", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}
    at_once = {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": REPLICAS, "periodSeconds": 5}],
    }
    target = {"type": "Utilization", "averageUtilization": 70}
    return {
        "namespace": "e2e",
        "name": "surge",
        "podSets": [{"name": "main", "replicas": 1, "template": template}],
        "scaling": {
            "minReplicas": 1,
            "maxReplicas": REPLICAS,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {"scaleUp": at_once, "scaleDown": at_once},
        },
    }


async def test_from_one_to_a_thousand_and_back(fleet: Fleet) -> None:
    surge = surging(begins_in_steps=2, lasts_steps=LASTS_STEPS)
    begins = (int(time.time() / STEP_S) + 2) * STEP_S
    key = await fleet.apply(surge)
    await fleet.until(key, lambda status: status.phase is Phase.RUNNING and status.ready == 1, within=STEP_S)
    assert time.time() < begins

    status = await fleet.until(key, lambda status: status.ready == REPLICAS, within=_WITHIN_S)
    grown_s = time.time() - begins
    assert status.desired == REPLICAS
    ready = {cluster.cluster: cluster.counts.ready for cluster in status.clusters}
    assert len(ready) == CLUSTERS
    assert sum(ready.values()) == REPLICAS
    assert max(ready.values()) <= 110 * NODES

    ends = begins + LASTS_STEPS * STEP_S
    await fleet.until(
        key,
        lambda status: status.desired == 1 and status.ready == 1 and status.phase is Phase.RUNNING,
        within=_WITHIN_S,
    )
    assert time.time() > ends
    print(f"1 → {REPLICAS} ready {grown_s:.1f} s after pods were busy, back at 1 {time.time() - ends:.1f} s after")


async def test_node_groups_grow_and_shrink_with_it(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    """That the groups are at their least sizes again, and one replica is ready, is waited for."""
    del kafka_bootstrap, redis_url
    replicas, room_of_the_least = 120, 3 * 8
    async with surge(tmp_path, clusters=3, most=replicas, say=print) as fleet:
        figures = await up_and_down(fleet, print)
    print(figures)
    assert figures["nodes"] > 3
    assert figures["groups_grown"] > 0
    assert figures["orders_up"] > 0
    assert figures["above_most"] == []
    assert figures["overcommitted"] == []
    # No node more than one that is not full: the pods that the least nodes have no room for go onto new ones.
    assert figures["cost_ratio"] < 1 + 1 / ((replicas - room_of_the_least) / 32)
