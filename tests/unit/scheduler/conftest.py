from __future__ import annotations

import pytest

from tests.scheduling import World


@pytest.fixture
def world() -> World:
    """Two clusters, `east` and `west`, of three nodes each with 4 cores and 16 GiB."""
    world = World()
    for cluster in ("east", "west"):
        world.cluster(cluster, {"region": cluster})
        for number in range(3):
            world.node(cluster, f"{cluster}-{number}", labels={"kubernetes.io/hostname": f"{cluster}-{number}"})
    return world
