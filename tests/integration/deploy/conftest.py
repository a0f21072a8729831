"""One real cluster for all of this folder, with the agents' chart released in it by Helm itself.

Its pods are Running for kwok's sake, and do nothing; the agents of `test_permissions` are processes beside it
that have the tokens of the chart's service accounts.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.deploy.accounts import NAMESPACE, audit_flags
from tests.integration.deploy.charts import AGENT
from tests.testbed.cluster import RealCluster
from tests.testbed.fixtures import needed
from tests.testbed.helm_cli import helm, run_helm

RELEASE = "flotilla-agent"
PLAIN = AGENT / "ci" / "plain-values.yaml"
# What is needed where a server streams no lists is used where one does not; else both agents would only watch.
WITHOUT_STREAMED_LISTS = "--feature-gates=WatchList=false"


@dataclass(frozen=True)
class Deployed:
    """`directory` has the API server's notes, and Helm's home."""

    cluster: RealCluster
    directory: Path

    async def helm(self, *arguments: str) -> str:
        return await run_helm(*arguments, home=self.directory / "helm", kubeconfig=self.cluster.kubeconfig)

    async def restricted_namespace(self, name: str) -> None:
        """A namespace in which the API server takes no pod that is not as Pod Security's `restricted` wants it."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        await self.cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(namespace))


@pytest.fixture(scope="session")
def helm_binary() -> Path:
    """Helm as the test bed builds it."""
    return needed(helm)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def deployed(
    testbed_binaries: Mapping[str, Path], helm_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployed]:
    del testbed_binaries, helm_binary
    directory = tmp_path_factory.mktemp("deployed")
    flags = {"kube-apiserver": (*audit_flags(directory), WITHOUT_STREAMED_LISTS)}
    async with RealCluster("real", nodes=3, with_metrics=True, flags=flags) as cluster:
        bed = Deployed(cluster, directory)
        await bed.restricted_namespace(NAMESPACE)
        await bed.helm("install", RELEASE, str(AGENT), "-n", NAMESPACE, "-f", str(PLAIN), "--wait", "--timeout", "180s")
        yield bed
