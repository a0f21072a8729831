"""The same tests on both beds: a simulated cluster, and a real kube-apiserver with its controllers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup, Timing
from shared.adapters.kubernetes import KubernetesApi
from shared.runtime.clusters import OneCluster
from tests.integration.executor.support import NAMESPACES, NODES
from tests.testbed.cluster import RealCluster

_namespaces = itertools.count(1)

CLUSTER = "east"


@dataclass(frozen=True)
class Bed:
    """One cluster with three nodes. `namespace` is the test's own."""

    kubeconfig: Path
    api: KubernetesApi
    nodes: tuple[str, ...]
    namespace: str
    simulator: Simulator | None = None

    @property
    def source(self) -> OneCluster:
        return OneCluster(CLUSTER, self.kubeconfig)

    @property
    def subject(self) -> str:
        return f"workload/{self.namespace}/web"


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.testbed)])
def real(request: pytest.FixtureRequest) -> RealCluster | None:
    """The session's real cluster, or None for a simulated one."""
    if request.param == "simulated":
        return None
    cluster: RealCluster = request.getfixturevalue("real_cluster")
    return cluster


@asynccontextmanager
async def _simulated(directory: Path) -> AsyncIterator[Bed]:
    timing = Timing(pod_start=0.2, pod_start_jitter=0.1, pod_stop=0.1)
    async with Simulator(kubeconfig_dir=directory) as simulator:
        await simulator.add_cluster(ClusterSpec(name=CLUSTER, node_groups=(NodeGroup(count=3),), timing=timing))
        async with _bed(directory / f"{CLUSTER}.kubeconfig", simulator) as bed:
            yield bed


@asynccontextmanager
async def _bed(kubeconfig: Path, simulator: Simulator | None = None) -> AsyncIterator[Bed]:
    api = await KubernetesApi.from_kubeconfig(kubeconfig)
    try:
        nodes = tuple(sorted(node["metadata"]["name"] for node in await api.list(NODES)))[:3]
        bed = Bed(kubeconfig, api, nodes, f"executor-{next(_namespaces)}", simulator)
        yield bed
        await api.delete(NAMESPACES, "", bed.namespace)
    finally:
        await api.close()


@pytest_asyncio.fixture
async def simulated(tmp_path: Path) -> AsyncIterator[Bed]:
    async with _simulated(tmp_path) as bed:
        yield bed


@pytest_asyncio.fixture
async def bed(real: RealCluster | None, tmp_path: Path) -> AsyncIterator[Bed]:
    async with _simulated(tmp_path) if real is None else _bed(real.kubeconfig) as bed:
        yield bed
