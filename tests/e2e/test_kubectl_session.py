"""The product's session with the real kubectl, word for word, on a simulated and on a real hub."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from shared.events.v1.status import Phase
from tests.e2e.harness import Fleet
from tests.testbed import RealCluster

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka]

MYCLUSTER = """\
apiVersion: cluster.k8s.io/v1alpha1
kind: Cluster
metadata:
  name: mycluster
spec:
  workloads:
  - name: myworkload
    replicas: 3
    image: nginx
"""


class Shell:
    """A user's shell: a folder with mycluster.yaml, a kubeconfig and kubectl."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self._directory = directory
        path = f"{fleet.kubectl_path.parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {
            **os.environ,
            "PATH": path,
            "KUBECONFIG": str(fleet.local.hub_kubeconfig),
            "KUBECACHEDIR": str(directory / "cache"),
        }
        (directory / "mycluster.yaml").write_text(MYCLUSTER)

    async def run(self, line: str) -> str:
        """What the line prints; it must succeed."""
        process = await asyncio.create_subprocess_shell(
            line,
            cwd=self._directory,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(120):
            out, complaint = await process.communicate()
        assert process.returncode == 0, f"{line}: {complaint.decode()}"
        return out.decode()

    async def table(self, line: str) -> dict[str, str]:
        """The one row of a table, by column."""
        head, *rows = (await self.run(line)).splitlines()
        assert len(rows) == 1, rows
        starts = [match.start() for match in re.finditer(r"\S+", head)]
        cells = [rows[0][start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
        return dict(zip(head.split(), cells, strict=True))


@asynccontextmanager
async def joined(fleet: Fleet, bed: str, name: str) -> AsyncIterator[None]:
    """On real hubs somebody has to bring the cluster; the simulator provisions it by itself."""
    async with AsyncExitStack() as stack:
        if bed == "real":
            cluster = await stack.enter_async_context(RealCluster(name, nodes=3, with_metrics=True))
            member = fleet.local.kubeconfigs / f"{name}.kubeconfig"
            shutil.copy(cluster.kubeconfig, member)
            stack.callback(member.unlink)
        yield


async def test_the_session(fleet: Fleet, bed: str, tmp_path: Path) -> None:
    shell = Shell(fleet, tmp_path)
    assert await shell.run("cat mycluster.yaml") == MYCLUSTER
    assert "mycluster created" in await shell.run("kubectl create -f mycluster.yaml")
    waiting = await shell.table("kubectl get cluster mycluster")
    assert waiting["NAME"] == "mycluster"
    if bed == "real":
        await fleet.until_true(lambda: _waits(shell), "the cluster waits for its agents, saying so")
    async with joined(fleet, bed, "mycluster"):
        await fleet.until_phase("default/mycluster", Phase.RUNNING)

        async def ready() -> bool:
            cluster = await shell.table("kubectl get cluster mycluster")
            work = await shell.table("kubectl get workloads mycluster")
            return cluster["READY"] == "True" and work["READY"] == "3/3" and cluster["CPU"] != ""

        await fleet.until_true(ready, "readiness and use in the columns")
        cluster = await shell.table("kubectl get cluster mycluster")
        assert cluster["NODES"] == "3/3"
        assert cluster["CPU"].endswith("%")
        assert re.fullmatch(r"\d+[sm].*", cluster["AGE"])
        work = await shell.table("kubectl get workloads mycluster")
        assert (work["PHASE"], work["CLUSTERS"]) == ("Running", "mycluster")

        pods = json.loads(await fleet.kubectl("mycluster", "get", "pods", "-o", "json"))["items"]
        assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 3
        assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"nginx"}

        await shell.run("kubectl delete cluster mycluster --timeout=60s")
        await fleet.until_phase("default/mycluster", Phase.DELETED)


async def _waits(shell: Shell) -> bool:
    found = json.loads(await shell.run("kubectl get cluster mycluster -o json"))
    conditions = {item["type"]: item for item in found.get("status", {}).get("conditions", ())}
    joined_condition = conditions.get("Joined", {})
    return joined_condition.get("reason") == "WaitingForAgents" and bool(joined_condition.get("message"))


async def test_clusters_that_join_by_themselves_appear(fleet: Fleet) -> None:
    async def all_there() -> bool:
        found = json.loads(await fleet.hub_kubectl("get", "clusters", "-o", "json"))["items"]
        ready = {
            item["metadata"]["name"]
            for item in found
            if any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))
        }
        return set(fleet.clusters) <= ready

    await fleet.until_true(all_there, "every member is a Ready Cluster on the hub")
