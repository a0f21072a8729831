"""What chaos tests rely on: components are killed, frozen and restarted, and nothing is ever left behind."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testbed import RealCluster, commands, hub_cluster
from tests.testbed.fixtures import MakeCluster
from tests.testbed.layout import Layout
from tests.testbed.process import REPOSITORY, Component, ComponentError, Port

pytestmark = pytest.mark.testbed


async def _until(done: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while not done() and time.monotonic() < deadline:  # noqa: ASYNC110  processes end without telling asyncio
        await asyncio.sleep(0.05)
    return done()


async def _unhealthy(cluster: RealCluster, within: float) -> bool:
    """The API server may call itself ready for a moment after etcd is gone."""
    deadline = time.monotonic() + within
    while healthy := await cluster.api.healthy(cluster.api.server + "/readyz"):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    return not healthy


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_killed_components_come_back_with_their_data(start_cluster: MakeCluster) -> None:
    cluster = await start_cluster(RealCluster("phoenix", nodes=1))
    await cluster.kubectl("create", "deployment", "before", "--image=nginx")

    for component in ("kube-apiserver", "etcd"):
        cluster.kill(component)
        assert await _unhealthy(cluster, within=15)
        await cluster.restart(component)
        await cluster.components["kube-apiserver"].wait_ready(30)
    for component in ("kube-controller-manager", "kube-scheduler", "kwok"):
        before = cluster.components[component].pid
        cluster.kill(component)
        await cluster.restart(component)
        assert cluster.components[component].pid not in (None, before)

    await cluster.kubectl("create", "deployment", "after", "--image=nginx")
    for deployment in ("before", "after"):
        await cluster.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=45s")


async def test_frozen_scheduler_leaves_pods_pending_until_it_thaws(start_cluster: MakeCluster) -> None:
    cluster = await start_cluster(RealCluster("frozen", nodes=1))

    cluster.pause("kube-scheduler")
    await cluster.kubectl("run", "pod", "--image=nginx")
    await asyncio.sleep(1)
    frozen = await cluster.kubectl("get", "pod", "pod", "-o", "jsonpath={.status.phase}")
    cluster.resume("kube-scheduler")
    await cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/pod", "--timeout=30s")

    assert frozen == "Pending"


async def test_failed_node_becomes_not_ready_and_recovers(start_cluster: MakeCluster) -> None:
    cluster = await start_cluster(RealCluster("nodes", nodes=2, node_grace_s=5))
    lost, kept = "nodes-node-0", "nodes-node-1"

    await cluster.fail_nodes([lost])
    await cluster.wait_nodes([lost], ready=False, within=40)
    await cluster.wait_nodes([kept], ready=True, within=30)
    taints = await cluster.kubectl("get", "node", lost, "-o", "jsonpath={.spec.taints[*].key}")
    await cluster.recover_nodes([lost])
    await cluster.wait_nodes([lost], ready=True, within=40)

    assert "node.kubernetes.io/unreachable" in taints.split()


async def test_stop_leaves_no_process_and_no_data(start_cluster: MakeCluster) -> None:
    cluster = await start_cluster(RealCluster("brief", with_metrics=True))
    data = cluster.layout.data
    pids = [component.pid for component in cluster.components.values()]
    cluster.pause("kwok")  # also a component that does not react

    await cluster.stop()

    assert len(pids) == 6
    assert not [pid for pid in pids if pid is None or _exists(pid)]
    assert not data.exists()
    with pytest.raises(RuntimeError, match="not running"):
        _ = cluster.kubeconfig


async def test_processes_die_with_a_killed_parent(testbed_binaries: object) -> None:
    program = """
import asyncio, time
from tests.testbed import hub_cluster

async def main():
    async with hub_cluster() as hub:
        print(*(component.pid for component in hub.components.values()), hub.layout.data, flush=True)
        await asyncio.sleep(100)

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    *pids, data = (await asyncio.wait_for(parent.stdout.readline(), 60)).decode().split()
    running = [_exists(int(pid)) for pid in pids]
    parent.kill()
    await parent.wait()

    assert running == [True, True]
    assert await _until(lambda: not any(_exists(int(pid)) for pid in pids), within=30)
    shutil.rmtree(data)  # nobody was left to do it


async def test_failed_start_says_why_and_leaves_nothing(
    testbed_binaries: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = commands.command, []

    def broken(component: str, layout: Layout) -> list[str]:
        seen.append(layout.data)
        return [*real(component, layout), *(["--no-such-flag"] if component == "kube-apiserver" else [])]

    monkeypatch.setattr(commands, "command", broken)
    cluster = hub_cluster("broken")

    with pytest.raises(ComponentError, match=r"(?s)kube-apiserver ended \(1\).*unknown flag: --no-such-flag"):
        await cluster.start()
    assert cluster.components == {}
    assert not seen[0].exists()
    assert not _processes_with(str(seen[0]))


def _processes_with(text: str) -> list[int]:
    """Pids of the processes whose command line has the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the two calls
    return found


async def test_component_that_is_not_ready_in_time_is_named(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    component = Component("sleeper", ["/bin/sh", "-c", "echo still asleep; sleep 60"], tmp_path / "log", never)
    try:
        with pytest.raises(ComponentError, match=r"(?s)sleeper was not ready within 1 s.*still asleep"):
            await component.start(1)
    finally:
        component.kill()
    assert not component.running


async def test_term_is_followed_by_kill(tmp_path: Path) -> None:
    started = tmp_path / "started"

    async def ready() -> bool:
        return started.exists()

    command = ["/bin/sh", "-c", f"trap '' TERM; touch {started}; while :; do sleep 0.1; done"]
    component = Component("stubborn", command, tmp_path / "log", ready)
    await component.start(10)
    pid = component.pid
    await component.stop(grace=0.5)
    assert pid is not None
    assert not _exists(pid)


def test_held_port_is_given_to_nobody_else() -> None:
    held = Port()
    try:
        others = [Port() for _ in range(200)]
        assert held.number not in [other.number for other in others]
        for other in others:
            other.release()
    finally:
        held.release()
