"""The two servers of the suite, and a namespace of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup, Timing
from tests.contract.kubernetes.client import Kube
from tests.testbed.kubectl import run_kubectl

_FAST = Timing(pod_start=0.1, pod_start_jitter=0.05, pod_stop=0.1, job_run=0.2, orphan_grace=0.5)
_NODES = NodeGroup(count=3, cpu="4", memory="16Gi")
_numbers = count(1)

Kubectl = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def simulated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """The kubeconfig of a simulated cluster with three nodes."""
    folder = tmp_path_factory.mktemp("simulator")
    async with Simulator(kubeconfig_dir=folder) as simulator:
        await simulator.add_cluster(ClusterSpec(name="contract", node_groups=(_NODES,), timing=_FAST))
        yield folder / "contract.kubeconfig"


@pytest.fixture(scope="session", params=["simulator", pytest.param("real", marks=pytest.mark.testbed)])
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """Of a cluster with three nodes that runs pods; the tests do not know which."""
    if request.param == "simulator":
        simulated: Path = request.getfixturevalue("simulated")
        return simulated
    path: Path = request.getfixturevalue("real_cluster").kubeconfig
    return path


@pytest_asyncio.fixture(loop_scope="session")
async def kube(kubeconfig: Path) -> AsyncIterator[Kube]:
    """A client with a namespace of its own."""
    name = f"contract-{next(_numbers)}"
    async with Kube(kubeconfig, name) as client:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        (await client.post("/api/v1/namespaces", space)).ok()
        await client.until(client.path("serviceaccounts", "default"), lambda body: body.get("kind") == "ServiceAccount")
        yield client
        (await client.delete(f"/api/v1/namespaces/{name}")).ok()


@pytest.fixture
def kubectl(kube: Kube, testbed_binaries: Mapping[str, Path], tmp_path: Path) -> Kubectl:
    """The real kubectl, in the namespace of the test."""

    async def run(*arguments: str, stdin: str | None = None) -> str:
        return await run_kubectl(kube.kubeconfig, "-n", kube.namespace, *arguments, stdin=stdin, cache=tmp_path)

    return run
