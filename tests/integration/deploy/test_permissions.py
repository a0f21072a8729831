"""Watcher, executor and hub as service accounts of the charts, on a real kube-apiserver that notes every request.

A fleet of processes runs workloads of every kind. Then the API server's own notes say that each permission was used
and that nothing was refused that they asked for; and it refuses all three accounts everything else that it knows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.cli.fleet import FleetOptions, LocalFleet
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.events.v1.status import Phase
from shared.security.permissions import (
    EXECUTOR,
    HUB,
    HUB_CLUSTER_API,
    HUB_KUBECONFIGS,
    HUB_LEASE,
    HUB_PROVISION,
    KUBECONFIGS,
    WATCHER,
    WATCHER_METRICS,
    Rule,
    grants,
)
from tests.contract.provisioning.topologies import Topologies, installed
from tests.e2e.harness import Fleet, workload
from tests.integration.deploy.accounts import HUB_NAMESPACE, NAMESPACE, noted, token_of, write_token_kubeconfig
from tests.integration.deploy.charts import CONTROL_PLANE
from tests.integration.deploy.conftest import RELEASE, Deployed
from tests.integration.deploy.refusals import EVERYBODYS, Question, answers, questions
from tests.testbed.cluster import RealCluster

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.testbed,
    pytest.mark.kafka,
]


@dataclass(frozen=True, slots=True)
class Account:
    """A service account of a release: its rules everywhere, and those in its own namespace and in MADE."""

    namespace: str
    name: str
    rules: tuple[Rule, ...]
    in_some: tuple[Rule, ...] = ()


ACCOUNTS = {
    "watcher": Account(NAMESPACE, f"{RELEASE}-watcher", (*WATCHER, *WATCHER_METRICS)),
    "executor": Account(NAMESPACE, f"{RELEASE}-executor", EXECUTOR),
    "hub": Account(
        HUB_NAMESPACE, "flotilla-hub", (*HUB, *HUB_PROVISION), (*HUB_LEASE, *HUB_KUBECONFIGS, *HUB_CLUSTER_API)
    ),
}
# Agents of what the hub makes run beside it, by kubeconfigs that their pods mount: at this API server they are nobody.
HOSTED = {f"hosted-{name}": Account(HUB_NAMESPACE, f"flotilla-{name}", ()) for name in ("watcher", "executor")}
# Where Cluster API's objects are.
MADE = "made-clusters"
# Of the control plane's release the hub is all that has an account with rights.
HUB_ALONE = "scheduler.enabled=false,status.enabled=false,autoscaler.enabled=false,topics.mode=none"
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

    def check_that_all_was_used(self, account: Account) -> None:
        """And no more, by what the API server noted up to now."""
        mine = [entry for entry in noted(self.directory) if entry.account == account.name]
        used = {grant for entry in mine if not entry.refused for grant in entry.used()}
        granted = grants(*account.rules, *account.in_some)
        assert granted - used == set(), f"{account.name}: granted and not used"
        assert used - granted == set(), f"{account.name}: used and not granted"
        assert [entry for entry in mine if entry.refused] == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bed(deployed: Deployed, kafka_bootstrap: str, redis_url: str) -> AsyncIterator[Bed]:
    """A fleet of its own broker, whose agents are the service accounts of the chart's release."""
    del kafka_bootstrap, redis_url
    directory = deployed.directory
    await deployed.restricted_namespace(HUB_NAMESPACE)
    release = ("flotilla", "-n", HUB_NAMESPACE)
    await deployed.restricted_namespace(MADE)
    making = f"hub.provision.enabled=true,hub.provision.namespaces={{{MADE}}}"
    values = ("-f", str(CONTROL_PLANE / "ci" / "plain-values.yaml"), "--set", f"{HUB_ALONE},{making}")
    await deployed.helm("install", *release, str(CONTROL_PLANE), *values, "--wait", "--timeout", "180s")
    for name, account in ACCOUNTS.items():
        token = await token_of(deployed.cluster, account.namespace, account.name)
        write_token_kubeconfig(deployed.cluster, token, directory / name / "real.kubeconfig")
    own = {name: {f"FLOTILLA_{name.upper()}_KUBECONFIG_DIR": str(directory / name)} for name in ("watcher", "executor")}
    own["hub"] = {
        "FLOTILLA_HUB_KUBECONFIG": str(directory / "hub" / "real.kubeconfig"),
        "FLOTILLA_HUB_LEASE_NAMESPACE": HUB_NAMESPACE,
        "FLOTILLA_HUB_INSTALL_CRDS": "false",
        "FLOTILLA_HUB_ADMIT_PORT": "-1",
        "FLOTILLA_HUB_WEBHOOK": "false",
        # As the chart sets it. Nobody mounts it here: what is made runs nothing.
        "FLOTILLA_HUB_KUBECONFIG_SECRET": KUBECONFIGS,
        "FLOTILLA_HUB_PROVISION_BUSY_S": "0.5",
    }
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
    await deployed.helm("uninstall", *release, "--wait", "--timeout", "180s")


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
    for name in ("watcher", "executor"):
        bed.check_that_all_was_used(ACCOUNTS[name])


CLUSTER = {"apiVersion": "cluster.k8s.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "mine"}}


async def made_and_ended(bed: Bed) -> None:
    """A Cluster that Cluster API makes, in the same API server."""
    kubectl = bed.cluster.kubectl
    provision = {"provider": "clusterApi", "namespace": MADE, "class": {"name": "any"}, "version": "v1.36.3"}
    made = {**CLUSTER, "metadata": {"name": "made"}, "spec": {"provision": provision}}
    api = await KubernetesApi.from_kubeconfig(bed.cluster.kubeconfig)
    async with installed(api, "v1beta2"), Topologies(api, namespace=MADE).running() as topologies:
        topologies.kubeconfigs["made"] = bed.cluster.kubeconfig.read_bytes()
        await kubectl("create", "-f", "-", stdin=json.dumps(made))
        await kubectl("wait", "--for=condition=Provisioned", "cluster.cluster.k8s.io/made", "--timeout=60s")
        assert await keys(bed) == {"made.kubeconfig"}
        await kubectl("delete", "cluster.cluster.k8s.io", "made", "--timeout=60s", within=90.0)
        assert await topologies.find("made") is None
        assert await keys(bed) == set()
    await api.close()


async def keys(bed: Bed) -> set[str]:
    """Of the Secret that the hub keeps, and that stays when it is empty."""
    found = await bed.cluster.kubectl("get", "secret", KUBECONFIGS, "-n", HUB_NAMESPACE, "-o", "json")
    return set(json.loads(found).get("data") or {})


async def test_the_hub_uses_each_permission(bed: Bed) -> None:
    """Objects of users come, change and go; what is on the topic is shown, also in a namespace that is not there."""
    fleet, kubectl = bed.fleet, bed.cluster.kubectl

    async def shows(*what: str) -> bool:
        return bool(await kubectl("get", *what, "--ignore-not-found", "-o", "name"))

    async def image() -> bool:
        path = "jsonpath={.spec.podSets[0].image}"
        return await kubectl("get", "workloads.cluster.k8s.io", "mine", "--ignore-not-found", "-o", path) == "nginx:2"

    async def clean(what: Callable[[], Awaitable[bool]]) -> bool:
        return not await what()

    spec = {"workloads": [{"name": "main", "replicas": 1, "image": "nginx"}]}
    await kubectl("create", "-f", "-", stdin=json.dumps({**CLUSTER, "spec": spec}))
    await fleet.until_true(lambda: shows("workloads.cluster.k8s.io", "mine"), "the Cluster's Workload")
    spec["workloads"][0]["image"] = "nginx:2"
    await kubectl("patch", "cluster.cluster.k8s.io", "mine", "--type=merge", "-p", json.dumps({"spec": spec}))
    await fleet.until_true(image, "the Workload's new image")
    nowhere = {"nodeSelector": {"example.com/there-is": "no-such-node"}}
    await fleet.apply(workload("stuck", namespace="waiting", placement=nowhere))
    await fleet.until_true(lambda: shows("workloads.cluster.k8s.io", "stuck", "-n", "waiting"), "the topic's Workload")
    await kubectl("delete", "cluster.cluster.k8s.io", "mine", "--timeout=60s", within=90.0)
    assert not await shows("workloads.cluster.k8s.io", "mine")
    await fleet.until_true(lambda: shows("cluster.cluster.k8s.io", "real"), "the cluster that joined by itself")
    await made_and_ended(bed)
    (bed.directory / "watcher" / "real.kubeconfig").unlink()
    await fleet.until_true(
        lambda: clean(lambda: shows("cluster.cluster.k8s.io", "real")), "the cluster that left is gone", within=60.0
    )
    bed.check_that_all_was_used(ACCOUNTS["hub"])


async def test_of_secrets_beside_it_the_hub_has_the_one_that_it_keeps(bed: Bed) -> None:
    """In its own namespace too, where the keys to broker and Redis are; and of that one no more than it needs."""
    secrets = f"/api/v1/namespaces/{HUB_NAMESPACE}/secrets"
    asked = [
        Question(("", "secrets", f"{method} {what}"), method, path)
        for what, path in (
            ("all", secrets),
            ("its own", f"{secrets}/{KUBECONFIGS}"),
            ("other", f"{secrets}/kafka-hub"),
        )
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if (what, method) not in {("all", "PUT"), ("all", "PATCH"), ("its own", "POST"), ("other", "POST")}
    ]
    account = ACCOUNTS["hub"]
    got = await answers(bed.cluster, await token_of(bed.cluster, account.namespace, account.name), asked)
    allowed = {question.grant[2] for question, status in got.items() if status != 403}
    assert allowed == {"GET its own", "PATCH its own"}


@pytest.mark.parametrize("name", [*ACCOUNTS, *HOSTED])
async def test_everything_else_is_refused(bed: Bed, name: str) -> None:
    account = (ACCOUNTS | HOSTED)[name]
    granted = grants(*account.rules) | EVERYBODYS
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
    got = await answers(bed.cluster, await token_of(bed.cluster, account.namespace, account.name), asked)
    assert {question.grant for question, status in got.items() if status != 403} == set()
    assert len(got) > 500
