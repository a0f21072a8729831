"""One fleet for each test bed and session: simulated clusters, and real ones where they are built."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.cli.demo.command import CLUSTERS
from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import ClusterSource, RealClusters, SimulatedClusters
from shared.security.permissions import KUBECONFIGS
from tests.e2e.harness import Fleet, followed

BEDS = ["simulated", pytest.param("real", marks=pytest.mark.testbed)]


@pytest.fixture(scope="session", params=BEDS)
def bed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def kubectl(testbed_binaries: dict[str, Path]) -> Path:
    """The pinned kubectl; both beds are driven with it."""
    return testbed_binaries["kubectl"]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fleet(
    bed: str, kubectl: Path, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fleet]:
    """A fleet of its own broker: `kafka_bootstrap` and `redis_url` are asked for so that missing parts are noticed."""
    del kafka_bootstrap, redis_url
    directory = tmp_path_factory.mktemp(f"fleet-{bed}")
    clusters: ClusterSource = (
        RealClusters(directory / "clusters", clusters=3, nodes=3)
        if bed == "real"
        else SimulatedClusters(directory / "clusters", CLUSTERS)
    )
    environment = {
        "FLOTILLA_SCHEDULER_MOVE_AFTER_S": "3",
        "FLOTILLA_WATCHER_HEARTBEAT_S": "2",
        "FLOTILLA_WATCHER_METRICS_S": "3",
        "FLOTILLA_HUB_PROVISION_BUSY_S": "1",
    }
    # Kubeconfigs of what is made go into the agents' directory, or on the real bed by a Secret that they mount there.
    own = {"hub": {"FLOTILLA_HUB_KUBECONFIG_SECRET": KUBECONFIGS}} if bed == "real" else {}
    options = FleetOptions(directory, clusters, schedulers=2, environment=environment, own=own)
    async with LocalFleet(options) as local, followed(local, kubectl) as running:
        yield running
