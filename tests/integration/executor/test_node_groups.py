"""What the executor does with orders for node groups, on the simulator and on a real kube-apiserver: kwok's nodes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.executor.decision.node_groups import GIVEN_UP_ANNOTATION, REMOVAL_ANNOTATION
from shared.adapters.kubernetes import KubernetesApi
from shared.events.v1.commands import CommandIssued, NodeGroupOrder
from shared.events.v1.results import CommandReported, NodeGroupReport
from shared.model.identities import NODE_GROUP_LABEL, Resource
from shared.ports.cluster_api import Object, Selection
from shared.runtime.clusters import OneCluster
from shared.security.permissions import EXECUTOR, EXECUTOR_KWOK, EXECUTOR_NODE_GROUPS, Rule
from tests.integration.deploy.accounts import token_of, write_token_kubeconfig
from tests.integration.executor.conftest import CLUSTER, Bed
from tests.integration.executor.support import DEPLOYMENTS, NAMESPACES, NODES, PODS, Running, until
from tests.testbed.cluster import RealCluster
from tests.testbed.nodes import is_ready

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets")
RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(RBAC, "v1", "clusterroles")
DAEMON_SETS = Resource("apps", "v1", "daemonsets")
QUICK: dict[str, Any] = {"executor_node_group_s": 0.5, "executor_node_group_busy_s": 0.1}
TEMPLATE = {
    "allocatable": {"cpu": 4, "memory": "16Gi", "pods": 110},
    "taints": [{"key": "group", "value": "own", "effect": "NoSchedule"}],
}
TOLERATIONS = [{"key": "group", "operator": "Exists"}]
_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def group(bed: Bed) -> AsyncIterator[str]:
    """A group of the test's own, whose nodes go with it; and its namespace."""
    await bed.api.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": bed.namespace}})
    name = f"group-{next(_numbers)}"
    yield name
    for node in await nodes_of(bed, name):
        await bed.api.delete(NODES, "", node["metadata"]["name"])


def order(
    group: str, generation: int, size: int, *remove: str, epoch: int = 1, provider: dict[str, str] | None = None
) -> CommandIssued:
    facts = {
        "group": group,
        "provider": provider or {"kind": "kwok"},
        "template": TEMPLATE,
        "size": size,
        "remove": remove,
    }
    return CommandIssued(
        cluster=CLUSTER,
        subject=f"nodegroup/{group}",
        namespace="",
        epoch=epoch,
        generation=generation,
        digest=f"digest-{generation}",
        action="run",
        node_group=NodeGroupOrder.model_validate(facts),
    )


def told(report: CommandReported) -> NodeGroupReport:
    assert report.node_group is not None
    return report.node_group


async def reported(executor: Running, group: str, generation: int, **wanted: Any) -> CommandReported:
    """The newest report, once it says this of the group and for this order."""
    subject = f"nodegroup/{group}"

    async def said() -> bool:
        last = executor.reports(subject)[-1:]
        return any(r.generation == generation and _fits(r, wanted) for r in last)

    await until(said, f"{generation}: {wanted}", state=lambda: executor.reports(subject)[-3:])
    return executor.reports(subject)[-1]


def _fits(report: CommandReported, wanted: dict[str, Any]) -> bool:
    group = told(report)
    return all(getattr(report if name == "outcome" else group, name) == value for name, value in wanted.items())


async def nodes_of(bed: Bed, group: str) -> list[Object]:
    found = await bed.api.list(NODES, Selection(labels=f"{NODE_GROUP_LABEL}={group}"))
    return sorted(found, key=lambda node: str(node["metadata"]["name"]))


async def grown(bed: Bed, executor: Running, group: str, size: int) -> list[str]:
    executor.issue(order(group, 1, size))
    await reported(executor, group, 1, outcome="applied", size=size, ready=size)

    async def schedulable() -> bool:
        return all(is_ready(found) for found in await nodes_of(bed, group))

    await until(schedulable, "the cluster's controllers have seen that the nodes are ready")
    return [str(node["metadata"]["name"]) for node in await nodes_of(bed, group)]


def pod_spec(node: str = "", **more: Any) -> dict[str, Any]:
    selector = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    return {"containers": [{"name": "main", "image": "nginx"}], "tolerations": TOLERATIONS, **selector, **more}


def workload(kind: str, name: str, spec: dict[str, Any], annotations: dict[str, str] | None = None) -> Object:
    template = {"metadata": {"labels": {"app": name}, "annotations": annotations or {}}, "spec": spec}
    more = {"replicas": 2} if kind == "Deployment" else {}
    selector = {"matchLabels": {"app": name}}
    body = {"selector": selector, "template": template, **more}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": body}


def budget(least: int) -> Object:
    spec = {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec}


async def running_on(bed: Bed, node: str) -> set[str]:
    found = await bed.api.list(PODS, Selection(bed.namespace, fields=f"spec.nodeName={node}"))
    ready = (pod for pod in found if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions(pod)))
    return {pod["metadata"]["name"] for pod in ready if "deletionTimestamp" not in pod["metadata"]}


def conditions(pod: Object) -> list[dict[str, str]]:
    return list(pod.get("status", {}).get("conditions") or ())


async def web_on(bed: Bed, node: str, annotations: dict[str, str] | None = None) -> set[str]:
    """Two replicas that want this node and find no other; a budget that lets none of them go."""
    preferred = [{"weight": 100, "preference": {"matchExpressions": [_hostname(node)]}}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    await bed.api.create(
        DEPLOYMENTS, bed.namespace, workload("Deployment", "web", pod_spec(affinity=affinity), annotations)
    )
    await bed.api.create(BUDGETS, bed.namespace, budget(2))

    async def ready() -> bool:
        found = await bed.api.get(BUDGETS, bed.namespace, "web")
        counted = found.get("status", {}).get("currentHealthy", 0) == 2
        return counted and len(await running_on(bed, node)) == 2

    await until(ready, "two pods on the node, and counted by their budget")
    return await running_on(bed, node)


def _hostname(node: str) -> dict[str, Any]:
    return {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}


async def node(bed: Bed, name: str) -> Object:
    return await bed.api.get(NODES, "", name)


async def test_a_group_has_the_nodes_that_are_ordered(bed: Bed, group: str) -> None:
    async with Running(bed.source, CLUSTER, **QUICK) as executor:
        names = await grown(bed, executor, group, 2)
        assert len(names) == 2
        found = await node(bed, names[0])
        assert found["status"]["allocatable"]["cpu"] == "4"
        assert {"key": "group", "value": "own", "effect": "NoSchedule"} in found["spec"]["taints"]
        executor.issue(order(group, 2, 3))
        await reported(executor, group, 2, outcome="applied", size=3, ready=3)
        # One that somebody deletes is made again.
        await bed.api.delete(NODES, "", names[0])

        async def back() -> bool:
            found = {item["metadata"]["name"] for item in await nodes_of(bed, group)}
            return len(found) == 3 and names[0] not in found

        await until(back, "three nodes again")


async def test_a_node_goes_when_the_budget_of_its_pods_lets_them_go(bed: Bed, group: str) -> None:
    async with Running(bed.source, CLUSTER, **QUICK) as executor:
        leaving, staying = await grown(bed, executor, group, 2)
        pods = await web_on(bed, leaving)
        daemon = workload("DaemonSet", "agent", pod_spec(nodeSelector={NODE_GROUP_LABEL: group}))
        await bed.api.create(DAEMON_SETS, bed.namespace, daemon)

        async def daemons() -> bool:
            return len(await running_on(bed, leaving)) == 3

        await until(daemons, "the daemon's pod")
        executor.issue(order(group, 2, 1, leaving))
        report = await reported(executor, group, 2, reason="DisruptionBudget", removing=(leaving,))
        assert "disruption budget" in told(report).message
        assert report.outcome == "applied"
        assert (await node(bed, leaving))["spec"]["unschedulable"] is True
        assert pods <= await running_on(bed, leaving), "nothing was taken that the budget keeps"

        await bed.api.merge_patch(BUDGETS, bed.namespace, "web", budget(1))
        await reported(executor, group, 2, outcome="applied", size=1, ready=1, removing=(), reason="")
        assert [item["metadata"]["name"] for item in await nodes_of(bed, group)] == [staying]
        assert not pods & await running_on(bed, staying), "they were evicted, and made anew"


async def test_who_must_not_be_evicted_keeps_the_node_until_the_order_is_taken_back(bed: Bed, group: str) -> None:
    async with Running(bed.source, CLUSTER, **QUICK) as executor:
        leaving, _ = await grown(bed, executor, group, 2)
        pods = await web_on(bed, leaving, {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"})
        await bed.api.delete(BUDGETS, bed.namespace, "web")
        executor.issue(order(group, 2, 1, leaving))
        report = await reported(executor, group, 2, outcome="failed", removing=(leaving,))
        assert [(item.name, item.reason) for item in report.failures] == [(leaving, "Blocked")]
        assert "safe-to-evict" in report.message

        executor.issue(order(group, 3, 2))
        await reported(executor, group, 3, outcome="applied", size=2, ready=2, removing=())

        async def as_before() -> bool:
            found = await node(bed, leaving)
            marks = found["metadata"].get("annotations") or {}
            return not found["spec"].get("unschedulable") and REMOVAL_ANNOTATION not in marks

        await until(as_before, "the node takes pods again")
        assert await running_on(bed, leaving) == pods


async def test_a_node_that_does_not_become_empty_in_time_stays(bed: Bed, group: str) -> None:
    async with Running(bed.source, CLUSTER, **QUICK, executor_drain_s=1.0) as executor:
        leaving, _ = await grown(bed, executor, group, 2)
        await web_on(bed, leaving)
        executor.issue(order(group, 2, 1, leaving))
        report = await reported(executor, group, 2, outcome="failed", size=2, ready=2, removing=())
        assert [item.reason for item in report.failures] == ["DrainDeadlineExceeded"]
        found = await node(bed, leaving)
        assert not found["spec"].get("unschedulable")
        assert found["metadata"]["annotations"][GIVEN_UP_ANNOTATION] == "1/2"
    async with Running(bed.source, CLUSTER, executor.log, **QUICK) as patient:
        # The same order is not tried again, by no process; another one is.
        await bed.api.delete(BUDGETS, bed.namespace, "web")
        await reported(patient, group, 2, outcome="failed", size=2, ready=2, removing=())
        patient.issue(order(group, 3, 1, leaving))
        await reported(patient, group, 3, outcome="applied", size=1, ready=1, removing=())


async def test_a_restart_goes_on_where_the_node_is(bed: Bed, group: str) -> None:
    executor = Running(bed.source, CLUSTER, **QUICK)
    await executor.__aenter__()
    leaving, staying = await grown(bed, executor, group, 2)
    await web_on(bed, leaving)
    executor.issue(order(group, 2, 1, leaving))
    await reported(executor, group, 2, reason="DisruptionBudget", removing=(leaving,))
    since = (await node(bed, leaving))["metadata"]["annotations"][REMOVAL_ANNOTATION]
    await executor.crash()
    before = len(executor.reports(f"nodegroup/{group}"))
    async with Running(bed.source, CLUSTER, executor.log, **QUICK) as successor:

        async def told_anew() -> bool:
            reports = successor.reports(f"nodegroup/{group}")[before:]
            return any(told(report).reason == "DisruptionBudget" for report in reports)

        await until(told_anew, "the successor waits for the budget as well")
        assert (await node(bed, leaving))["metadata"]["annotations"][REMOVAL_ANNOTATION] == since
        await bed.api.delete(BUDGETS, bed.namespace, "web")
        await reported(successor, group, 2, outcome="applied", size=1, ready=1, removing=())
        assert [item["metadata"]["name"] for item in await nodes_of(bed, group)] == [staying]


async def test_a_node_that_was_cordoned_before_is_so_when_it_stays(bed: Bed, group: str) -> None:
    async with Running(bed.source, CLUSTER, **QUICK) as executor:
        leaving, _ = await grown(bed, executor, group, 2)
        await web_on(bed, leaving)
        await bed.api.merge_patch(NODES, "", leaving, {"spec": {"unschedulable": True}})
        executor.issue(order(group, 2, 1, leaving))
        await reported(executor, group, 2, reason="DisruptionBudget", removing=(leaving,))
        executor.put(f"nodegroup/{group}", None)

        async def unmarked() -> bool:
            return REMOVAL_ANNOTATION not in ((await node(bed, leaving))["metadata"].get("annotations") or {})

        await until(unmarked, "its subject is forgotten, so the node stays")
        assert (await node(bed, leaving))["spec"]["unschedulable"] is True


async def test_an_older_order_is_refused(bed: Bed, group: str) -> None:
    async with Running(bed.source, CLUSTER, **QUICK) as executor:
        executor.issue(order(group, 5, 1, epoch=2))
        await reported(executor, group, 5, outcome="applied", size=1, ready=1)
        executor.issue(order(group, 9, 3, epoch=1))
        report = await executor.until_reported(f"nodegroup/{group}", "refused", 9)
        assert report.applied_generation == 5
        executor.issue(order(group, 6, 1, epoch=2))
        await reported(executor, group, 6, outcome="applied", size=1, ready=1)
        assert len(await nodes_of(bed, group)) == 1


@pytest.mark.testbed
async def test_what_an_executor_with_node_groups_may_do_is_enough(real_cluster: RealCluster, tmp_path: Path) -> None:
    """With the chart's rules for node groups of kwok a node goes, pods and all; without them the report says why."""
    path = tmp_path / "limited.kubeconfig"
    api = await KubernetesApi.from_kubeconfig(real_cluster.kubeconfig)
    name = f"limited-{next(_numbers)}"
    bed = Bed(real_cluster.kubeconfig, api, (), name)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": name}]
    binding = {"kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": subjects}
    await api.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await api.create(Resource("", "v1", "serviceaccounts"), name, account)
    await api.create(ROLES, "", role_of(name, EXECUTOR))
    await api.create(Resource(RBAC, "v1", "clusterrolebindings"), "", {"apiVersion": f"{RBAC}/v1", **binding})
    write_token_kubeconfig(real_cluster, await token_of(real_cluster, name, name), path)
    try:
        async with Running(OneCluster(CLUSTER, path), CLUSTER, **QUICK) as executor:
            executor.issue(order(name, 1, 1))
            report = await reported(executor, name, 1, outcome="failed", reason="Forbidden")
            assert "nodes" in report.message
            more = (*EXECUTOR, *EXECUTOR_NODE_GROUPS, *EXECUTOR_KWOK)
            await api.merge_patch(ROLES, "", name, {"rules": role_of(name, more)["rules"]})
            leaving, staying = await grown(bed, executor, name, 2)
            await web_on(bed, leaving)
            await api.merge_patch(BUDGETS, name, "web", budget(1))
            executor.issue(order(name, 2, 1, leaving))
            await reported(executor, name, 2, outcome="applied", size=1, ready=1, removing=())
            assert [item["metadata"]["name"] for item in await nodes_of(bed, name)] == [staying]
    finally:
        for item in await nodes_of(bed, name):
            await api.delete(NODES, "", item["metadata"]["name"])
        await api.delete(NAMESPACES, "", name)
        await api.delete(Resource(RBAC, "v1", "clusterrolebindings"), "", name)
        await api.delete(ROLES, "", name)
        await api.close()


def role_of(name: str, rules: tuple[Rule, ...]) -> Object:
    manifests = [rule.manifest() for rule in rules]
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": manifests}
