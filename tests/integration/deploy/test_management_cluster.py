"""Node groups of Cluster API whose objects are in another cluster than their nodes.

The management cluster is a real kube-apiserver that notes every request. The account of the kubeconfig with which the
executor asks it has the permissions that `permissions.py` names, uses each, and may do nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from shared.adapters.kubernetes import KubernetesApi
from shared.model.identities import NODE_GROUP_LABEL, Resource
from shared.ports.cluster_api import Selection
from shared.runtime.clusters import OneCluster
from shared.security.permissions import EXECUTOR_CLUSTER_API, grants
from tests.contract.node_groups.cluster_api import NAMESPACE as MACHINES_NAMESPACE
from tests.contract.node_groups.cluster_api import Machinery, install, uninstall
from tests.integration.deploy.accounts import NAMESPACE, noted, token_of, write_token_kubeconfig
from tests.integration.deploy.conftest import Deployed
from tests.integration.deploy.refusals import EVERYBODYS, answers, questions
from tests.integration.executor.support import NODES, Running
from tests.integration.executor.test_node_groups import QUICK, RBAC, ROLES, order, reported, role_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.testbed]

WORKLOAD_CLUSTER = "east"
ACCOUNT = "cluster-api"
ACCOUNTS = Resource("", "v1", "serviceaccounts")
BINDINGS = Resource(RBAC, "v1", "clusterrolebindings")


@pytest_asyncio.fixture(loop_scope="session")
async def management(deployed: Deployed) -> AsyncIterator[KubernetesApi]:
    """As its administrator, with Cluster API's resources and the account."""
    api = await KubernetesApi.from_kubeconfig(deployed.cluster.kubeconfig)
    await install(api)
    await api.create(ACCOUNTS, NAMESPACE, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
    await api.create(ROLES, "", role_of(ACCOUNT, EXECUTOR_CLUSTER_API))
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }
    await api.create(BINDINGS, "", binding)
    yield api
    await api.delete(BINDINGS, "", ACCOUNT)
    await api.delete(ROLES, "", ACCOUNT)
    await api.delete(ACCOUNTS, NAMESPACE, ACCOUNT)
    await uninstall(api)
    await api.close()


async def nodes_of(workload: KubernetesApi, group: str) -> list[str]:
    found = await workload.list(NODES, Selection(labels=f"{NODE_GROUP_LABEL}={group}"))
    return sorted(str(node["metadata"]["name"]) for node in found)


async def test_groups_of_a_management_cluster_with_no_more_than_it_takes(
    deployed: Deployed, management: KubernetesApi, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "management.kubeconfig"
    token = await token_of(deployed.cluster, NAMESPACE, ACCOUNT)
    write_token_kubeconfig(deployed.cluster, token, kubeconfig)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(kubeconfig_dir=tmp_path / "workload"))
        await simulator.add_cluster(ClusterSpec(name=WORKLOAD_CLUSTER))
        path = tmp_path / "workload" / f"{WORKLOAD_CLUSTER}.kubeconfig"
        workload = await KubernetesApi.from_kubeconfig(path)
        stack.push_async_callback(workload.close)
        plurals = ("machinedeployments", "machinepools")
        for plural in plurals:
            machinery = Machinery(management, plural, plural, plural, workload=workload)
            await stack.enter_async_context(machinery.running())
        executor = await stack.enter_async_context(
            Running(
                OneCluster(WORKLOAD_CLUSTER, path), WORKLOAD_CLUSTER, **QUICK, executor_management_kubeconfig=kubeconfig
            )
        )
        for plural in plurals:
            where = {
                "kind": "clusterApi",
                "resource": plural,
                "namespace": MACHINES_NAMESPACE,
                "name": plural,
            }
            executor.issue(order(plural, 1, 2, provider=where))
            await reported(executor, plural, 1, outcome="applied", size=2, ready=2)
            staying, leaving = await nodes_of(workload, plural)
            executor.issue(order(plural, 2, 1, leaving, provider=where))
            await reported(executor, plural, 2, outcome="applied", size=1, ready=1, removing=())
            assert await nodes_of(workload, plural) == [staying]
    mine = [entry for entry in noted(deployed.directory) if entry.account == ACCOUNT]
    granted = grants(*EXECUTOR_CLUSTER_API)
    assert [entry for entry in mine if entry.refused] == []
    assert {grant for entry in mine for grant in entry.used()} == granted
    asked = [item for item in await questions(deployed.cluster) if item.grant not in granted | EVERYBODYS]
    assert {("", "secrets", "list"), ("", "nodes", "list"), ("cluster.x-k8s.io", "machines", "delete")} <= {
        item.grant for item in asked
    }
    got = await answers(deployed.cluster, token, asked)
    assert {item.grant for item, status in got.items() if status != 403} == set()
    assert len(got) > 500
