"""The service as a process: settings from the environment, a clean end on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from services.simulator.spec import load_specs
from tests.contract.kubernetes.client import Kube

_ROOT = Path(__file__).parents[3]
_CLUSTERS = """
clusters:
- name: alpha
  region: eu-1
  nodeGroups:
  - {name: small, count: 2, cpu: "4", memory: 8Gi, pricePerHour: 0.2, taints: [{key: a, value: b}]}
  load: {kind: sine, period: 60}
- name: hub
  controllers: false
  nodeGroups: []
"""


def test_specifications_are_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "clusters.yaml"
    file.write_text(_CLUSTERS)
    alpha, hub = load_specs(file)
    assert (alpha.region, alpha.node_groups[0].price_per_hour, alpha.load.kind) == ("eu-1", 0.2, "sine")
    assert (hub.controllers, hub.node_groups) == (False, ())


async def test_sigterm_ends_it_and_takes_the_kubeconfigs_away(tmp_path: Path) -> None:
    (tmp_path / "clusters.yaml").write_text(_CLUSTERS)
    configs = tmp_path / "configs"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.simulator",
        cwd=_ROOT,
        env={
            **os.environ,
            "FLOTILLA_SIMULATOR_KUBECONFIG_DIR": str(configs),
            "FLOTILLA_SIMULATOR_CLUSTERS": str(tmp_path / "clusters.yaml"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            while not (configs / "alpha.kubeconfig").exists():
                assert process.returncode is None
                await asyncio.sleep(0.05)
        async with Kube(configs / "alpha.kubeconfig") as client:
            assert len((await client.get("/api/v1/nodes")).ok()["items"]) == 2
            async with client.watch("/api/v1/nodes", timeoutSeconds=60):
                process.send_signal(signal.SIGTERM)
                out, _ = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, out.decode()
        assert b"Traceback" not in out
        assert not list(configs.rglob("*.kubeconfig"))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
