"""Agents by what a pod has and nothing else: a mounted token that a kubelet renews, its authority, and two variables.

The tokens are of the chart's service accounts, from TokenRequest of a real kube-apiserver, which notes by which token
each request came. A token ends with the Secret that it is bound to, as one of an hour ends with the hour.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.process import ServiceProcess
from shared.events.v1.status import Phase
from tests.e2e.harness import Fleet, followed, workload
from tests.integration.deploy.accounts import NAMESPACE, noted, token_id, token_of
from tests.integration.deploy.conftest import RELEASE, Deployed
from tests.integration.deploy.pods import ServiceAccountVolume
from tests.integration.deploy.test_permissions import OneCluster
from tests.integration.watcher.support import last_heartbeat, read_all

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.testbed,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

AGENTS = ("watcher", "executor")
SECRET = "tokens-end-with-this"
# Requests all the time, so that the API server sees which token is used.
BUSY = {"FLOTILLA_WATCHER_AUDIT_S": "1", "FLOTILLA_WATCHER_METRICS_S": "1"}


@asynccontextmanager
async def agents(local: LocalFleet, volumes: Mapping[str, ServiceAccountVolume]) -> AsyncIterator[None]:
    """One pair, each with its own account."""
    async with AsyncExitStack() as stack:
        for name, volume in volumes.items():
            own = {f"FLOTILLA_{name.upper()}_CLUSTER": "real", **volume.environment, **BUSY}
            environment = {**local.common_environment(), **own}
            agent = ServiceProcess(name, f"services.{name}", environment, local.directory / "agents", volume.place)
            agent.start()
            stack.push_async_callback(agent.stop)
            local.services[name] = agent
        for name in volumes:
            await local.services[name].wait_ready(60)
        yield


@pytest.fixture
def volumes(deployed: Deployed, tmp_path: Path) -> dict[str, ServiceAccountVolume]:
    """By agent. Skips where no process can have a mount of its own."""
    made = {name: ServiceAccountVolume(tmp_path / name, deployed.cluster, NAMESPACE) for name in AGENTS}
    probe = subprocess.run(
        [*made["watcher"].place.enter, "true"], capture_output=True, text=True, timeout=20, check=False
    )
    if probe.returncode:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"no mount namespaces: {probe.stderr.strip()}")
    return made


async def test_agents_live_by_what_a_pod_has_and_follow_its_tokens(
    deployed: Deployed,
    volumes: dict[str, ServiceAccountVolume],
    kafka_bootstrap: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    del kafka_bootstrap, redis_url

    async def renew(bound_to: str = "") -> dict[str, str]:
        """Gives each agent a new token; their ids."""
        tokens = {n: await token_of(deployed.cluster, NAMESPACE, f"{RELEASE}-{n}", bound_to) for n in AGENTS}
        for name, token in tokens.items():
            volumes[name].write(token)
        return {name: token_id(token) for name, token in tokens.items()}

    async def used(token: str) -> bool:
        return any(entry.token_id == token and not entry.refused for entry in noted(deployed.directory))

    await deployed.cluster.kubectl("create", "secret", "generic", SECRET, "-n", NAMESPACE)
    first = await renew(SECRET)
    options = FleetOptions(tmp_path / "fleet", OneCluster(tmp_path / "none"), services=("scheduler", "status"))
    async with LocalFleet(options) as local, agents(local, volumes), followed(local, tmp_path) as fleet:
        await runs_and_goes(fleet, "by-the-first")
        assert await used(first["watcher"])
        assert await used(first["executor"])

        second = await renew(SECRET)
        await fleet.until_true(lambda: used(second["watcher"]), "the new token is used while the old one is good")

        await deployed.cluster.kubectl("delete", "secret", SECRET, "-n", NAMESPACE)
        await fleet.until_true(lambda: beats(fleet, ready=False), "heartbeats say that no token is good any more")
        third = await renew()
        await fleet.until_true(lambda: beats(fleet, ready=True), "the third token is taken")
        await runs_and_goes(fleet, "by-the-third")
        assert await used(third["executor"])


async def runs_and_goes(fleet: Fleet, name: str) -> None:
    """Watcher and executor both did their work."""
    key = await fleet.apply(workload(name))
    await fleet.until_phase(key, Phase.RUNNING)
    await fleet.delete(key)
    await fleet.until_phase(key, Phase.DELETED)


async def beats(fleet: Fleet, *, ready: bool) -> bool:
    """Whether the last heartbeat says so."""
    beat = last_heartbeat(await read_all(fleet.log), "real")
    return beat is not None and beat.ready is ready
