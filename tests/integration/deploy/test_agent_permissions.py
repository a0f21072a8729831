"""Watcher and executor as service accounts with the charts' rules, on a real kube-apiserver that notes every request.

A fleet of processes runs workloads of every kind. Then the API server's own notes say that each permission was used
and that nothing was refused that the agents asked for; and it refuses both accounts everything else that it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.cli.fleet import FleetOptions, LocalFleet
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.v1.status import Phase
from shared.security.permissions import EXECUTOR, WATCHER, WATCHER_METRICS, Rule, grants
from tests.e2e.harness import Fleet, workload
from tests.integration.deploy.accounts import Noted, noted, token_of, write_token_kubeconfig
from tests.integration.deploy.conftest import RELEASE, Deployed
from tests.integration.deploy.refusals import EVERYBODYS, answers, questions
from tests.testbed.cluster import RealCluster

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.testbed,
    pytest.mark.kafka,
    pytest.mark.timeout(240),
]

ACCOUNTS: dict[str, tuple[Rule, ...]] = {"watcher": (*WATCHER, *WATCHER_METRICS), "executor": EXECUTOR}
POD = {"containers": [{"name": "main", "image": "nginx"}]}


@dataclass(frozen=True)
class OneCluster:
    """A cluster source that starts nothing: each agent is told its own directory."""

    directory: Path

    @property
    def kubeconfigs(self) -> Path:
        return self.directory / "watcher"

    @property
    def hub_kubeconfig(self) -> Path:
        return self.directory / "none"

    def running(self, directory: Path, environment: object) -> AbstractAsyncContextManager[None]:
        del directory, environment
        return nullcontext()


@dataclass(frozen=True)
class Bed:
    cluster: RealCluster
    fleet: Fleet
    directory: Path

    def noted(self) -> list[Noted]:
        return noted(self.directory)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bed(deployed: Deployed, kafka_bootstrap: str, redis_url: str) -> AsyncIterator[Bed]:
    """A fleet of its own broker, whose agents are the service accounts of the chart's release."""
    del kafka_bootstrap, redis_url
    directory, own = deployed.directory, {}
    for name in ACCOUNTS:
        token = await token_of(deployed.cluster, account_of(name))
        write_token_kubeconfig(deployed.cluster, token, directory / name / "real.kubeconfig")
        own[name] = {f"FLOTILLA_{name.upper()}_KUBECONFIG_DIR": str(directory / name)}
    services = ("scheduler", "status", *ACCOUNTS)
    options = FleetOptions(directory / "fleet", OneCluster(directory), services=services, own=own)
    async with LocalFleet(options) as local:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=local.kafka), "permissions")
        fleet, ready = Fleet(local, log, Path()), asyncio.Event()
        following = asyncio.create_task(fleet.follow(ready))
        await asyncio.wait_for(ready.wait(), 30)
        yield Bed(deployed.cluster, fleet, directory)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await log.close()


def account_of(name: str) -> str:
    return f"{RELEASE}-{name}"


def manifest(kind: str, **spec: Any) -> dict[str, Any]:
    """An object of `apps/v1` with pods."""
    labels = {"app": kind.lower()}
    template = {"metadata": {"labels": labels}, "spec": POD}
    body = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "spec": body}


def job() -> dict[str, Any]:
    template = {"spec": {**POD, "restartPolicy": "Never"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}}


def of_manifest(document: dict[str, Any]) -> dict[str, Any]:
    kind = document["kind"].lower()
    return {"namespace": "shop", "name": kind, "podSets": [{"name": "main", "manifest": document}], "placement": {}}


async def test_workloads_of_every_kind_run_and_go_and_each_permission_is_used(bed: Bed) -> None:
    fleet = bed.fleet
    bodies = [
        workload("web", namespace="shop", replicas=2),
        workload("bound", namespace="shop", replicas=2, placement={"binding": "node"}),
        of_manifest(manifest("StatefulSet", serviceName="db")),
        of_manifest(manifest("DaemonSet")),
        of_manifest(manifest("ReplicaSet")),
    ]
    keys = [await fleet.apply(body) for body in bodies]
    for key in keys:
        await fleet.until_phase(key, Phase.RUNNING)
    once = await fleet.apply(of_manifest(job()))
    await fleet.until_phase(once, Phase.SUCCEEDED)
    assert await bed.cluster.kubectl(
        "get", "pods", "-n", "shop", "--field-selector", "status.phase=Running", "-o", "name"
    )
    for key in (*keys, once):
        await fleet.delete(key)
    for key in (*keys, once):
        await fleet.until_phase(key, Phase.DELETED)
    for name, rules in ACCOUNTS.items():
        mine = [entry for entry in bed.noted() if entry.account == account_of(name)]
        used = {grant for entry in mine if not entry.refused for grant in entry.used()}
        assert grants(*rules) - used == set(), f"{name}: granted and not used"
        assert used - grants(*rules) == set(), f"{name}: used and not granted"
        assert [entry for entry in mine if entry.refused] == []


@pytest.mark.parametrize("name", ACCOUNTS)
async def test_everything_else_is_refused(bed: Bed, name: str) -> None:
    granted = grants(*ACCOUNTS[name]) | EVERYBODYS
    asked = [question for question in await questions(bed.cluster) if question.grant not in granted]
    # Above all: what would be worth stealing, and what would give more than was given.
    assert {
        ("", "secrets", "list"),
        ("", "pods/exec", "create"),
        ("", "serviceaccounts/token", "create"),
        ("", "nodes", "patch"),
        ("rbac.authorization.k8s.io", "clusterrolebindings", "create"),
        ("certificates.k8s.io", "certificatesigningrequests", "create"),
    } <= {question.grant for question in asked}
    got = await answers(bed.cluster, await token_of(bed.cluster, account_of(name)), asked)
    assert {question.grant for question, status in got.items() if status != 403} == set()
    assert len(got) > 500
