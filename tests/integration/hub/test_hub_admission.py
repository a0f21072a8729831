"""What API servers refuse, by the rules of the definitions and by `/admit`, is what the models refuse.

The simulator calls no webhooks: what the definitions let through there, the bridge is the first to check.
"""

from __future__ import annotations

from typing import Any

import pytest

from services.hub.decision.resources import CLUSTERS, WORKLOADS
from services.hub.decision.views import Refusal, cluster_view, workload_view
from services.hub.install import install_crds
from shared.adapters.clock import SystemClock
from shared.events.registry import decode
from shared.events.topics import AUDIT
from shared.events.v1.audit import ActionAudited
from tests.integration.hub.conftest import RunHub
from tests.integration.hub.support import Fleet, HubCluster, manifest, until
from tests.testbed import KubectlError

APP: dict[str, Any] = {"name": "app", "image": "nginx"}
LONG = "w" * 60


def pod_set(**changes: Any) -> dict[str, Any]:
    return {"podSets": [APP | changes]}


def placed(**placement: Any) -> dict[str, Any]:
    return {"podSets": [APP], "placement": placement}


GOOD_WORKLOADS: dict[str, dict[str, Any]] = {
    "image": pod_set(command=["sh"], args=["-c"], env=[{"name": "A", "value": "b"}], ports=[{"containerPort": 80}]),
    "quantities": pod_set(resources={"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 1}}),
    "a request as large as its limit": pod_set(
        resources={"requests": {"memory": "1024Mi"}, "limits": {"memory": "1Gi"}}
    ),
    "template": {"podSets": [{"name": "app", "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}]},
    "manifest": {
        "podSets": [{"name": "app", "manifest": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}}]
    },
    "nobody": pod_set(replicas=0),
    "two pod sets": {"podSets": [APP, {"name": "db", "image": "postgres"}], "priority": -5},
    "terms": placed(
        binding="node",
        clusters=["west"],
        clusterSelector={"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
        nodeSelector={"zone": "1"},
        tolerations=[{"operator": "Exists"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}],
    ),
}
BAD_WORKLOADS: dict[str, dict[str, Any]] = {
    "no pod sets": {"podSets": []},
    "nothing that runs": {"podSets": [{"name": "app"}]},
    "two things that run": pod_set(template={"spec": {}}),
    "a command without an image": {"podSets": [{"name": "app", "template": {"spec": {}}, "command": ["sh"]}]},
    "resources without an image": {"podSets": [{"name": "app", "template": {"spec": {}}, "resources": {}}]},
    "a name twice": {"podSets": [APP, APP]},
    "a name that is none": pod_set(name="Not_A_Name"),
    "fewer than none": pod_set(replicas=-1),
    "too many": pod_set(replicas=1_000_000),
    "no quantity": pod_set(resources={"requests": {"cpu": "lots"}}),
    "more than the limit": pod_set(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
    "no such port": pod_set(ports=[{"containerPort": 0}]),
    "no such protocol": pod_set(ports=[{"containerPort": 1, "protocol": "ICMP"}]),
    "an unknown binding": placed(binding="everything"),
    "a toleration of everything by mistake": placed(tolerations=[{"value": "x"}]),
    "a toleration with a value for Exists": placed(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
    "seconds without NoExecute": placed(tolerations=[{"key": "a", "tolerationSeconds": 5}]),
    "In without values": placed(clusterSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
    "Exists with values": placed(
        clusterSelector={"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}
    ),
    "priority beyond bounds": pod_set() | {"priority": 2_000_000_000},
}


def node_group(**changes: Any) -> dict[str, Any]:
    allocatable = {"cpu": 4, "memory": "16Gi", "pods": 110}
    group = {"name": "small", "maxSize": 3, "template": {"allocatable": allocatable}, "provider": {"kind": "kwok"}}
    return {"nodeGroups": [group | changes]}


def provided(kind: str, **fields: str) -> dict[str, Any]:
    return node_group(provider={"kind": kind, **fields})


def made(**changes: Any) -> dict[str, Any]:
    workers = [{"name": "small", "class": "default-worker", "replicas": 2, "failureDomain": "a"}]
    fields = {"namespace": "fleet", "class": {"name": "quick-start"}, "version": "v1.36.3", "workers": workers}
    return {"provision": {"provider": "clusterApi", **fields, **changes}}


GOOD_CLUSTERS: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "all said": {
        "labels": {"a": "b"},
        "taints": [{"key": "a", "effect": "NoSchedule"}],
        "unschedulable": True,
        "pricePerHour": 0.25,
        "watchedResources": ["v1/secrets", "example.org/v1/ships"],
        "workloads": [APP],
    },
    "a node group": node_group(minSize=3, price=0.25),
    "nodes of Cluster API": provided("clusterApi", resource="machinepools", namespace="fleet", name="small"),
    "nodes of an Auto Scaling group": provided("awsAutoScalingGroup", region="eu-west-1", name="small"),
    "nodes of EKS": provided("awsEksNodeGroup", region="eu-west-1", cluster="west", name="small"),
    "nodes of a webhook": provided("webhook", url="https://nodes.example.org/v1", secret="nodes"),
    "made by Cluster API": made(management="berlin", controlPlaneReplicas=3, podCidrs=["10.0.0.0/8", "fd00::/48"]),
    "with variables of any kind": made(variables=[{"name": str(n), "value": v} for n, v in enumerate((1, "a", [{}]))]),
    "made by the simulator": {"provision": {"provider": "simulator", "nodes": [{"name": "a", "count": 0, "cpu": 4}]}},
}
BAD_CLUSTERS: dict[str, dict[str, Any]] = {
    "a negative price": {"pricePerHour": -1},
    "no resource": {"watchedResources": ["pods"]},
    "no such effect": {"taints": [{"key": "a", "effect": "Never"}]},
    "a workload that is none": {"workloads": [{"name": "a"}]},
    "a workload twice": {"workloads": [APP, APP]},
    "a node group twice": {"nodeGroups": node_group()["nodeGroups"] * 2},
    "fewer nodes at most than at least": node_group(minSize=4),
    "a node that pods do not fit": node_group(template={"allocatable": {"cpu": 4, "memory": "16Gi"}}),
    "no such provider": provided("magic"),
    "a provider without its fields": provided("clusterApi", namespace="fleet", name="small"),
    "a provider with another's fields": provided("kwok", region="eu-west-1"),
    "no URL": provided("webhook", url="nodes.example.org", secret="nodes"),
    "made by nobody": {"provision": {"provider": "magic"}},
    "made of no class": {"provision": {"provider": "clusterApi", "namespace": "fleet", "version": "v1.36.3"}},
    "a version that is none": made(version="1.36"),
    "a management cluster by its address": made(management="https://berlin"),
    "workers twice": made(workers=[{"name": "a", "class": "b"}] * 2),
    "workers of no class": made(workers=[{"name": "a"}]),
    "a variable without a value": made(variables=[{"name": "a"}]),
    "nodes of another provider": made(nodes=[]),
    "a simulated class": {"provision": {"provider": "simulator", "class": {"name": "a"}}},
}


async def accepted(hub_objects: HubCluster, kind: str, name: str, spec: dict[str, Any]) -> str:
    """Empty if the API server would take it, or what it says."""
    try:
        await hub_objects.kubectl("create", "--dry-run=server", "-f", "-", stdin=manifest(kind, name, spec))
    except KubectlError as error:
        return str(error)
    return ""


async def test_the_definitions_say_what_the_models_say(hub_objects: HubCluster) -> None:
    await install_crds(hub_objects.api, SystemClock())
    meta = {"name": "x", "namespace": "default"}
    for title, spec in (GOOD_WORKLOADS | BAD_WORKLOADS).items():
        refused = isinstance(workload_view({"metadata": meta, "spec": spec}).wish, Refusal)
        assert refused is (title in BAD_WORKLOADS), title
        said = await accepted(hub_objects, "Workload", "x", spec)
        assert bool(said) is refused, f"{title}: {said}"
    for title, spec in (GOOD_CLUSTERS | BAD_CLUSTERS).items():
        refused = isinstance(cluster_view({"metadata": {"name": "x"}, "spec": spec}).declared, Refusal)
        assert refused is (title in BAD_CLUSTERS), title
        said = await accepted(hub_objects, "Cluster", "x", spec)
        assert bool(said) is refused, f"{title}: {said}"


async def test_names_must_leave_room_for_those_of_objects(hub_objects: HubCluster) -> None:
    await install_crds(hub_objects.api, SystemClock())
    assert "must have at most 63 characters" in await accepted(hub_objects, "Workload", LONG, pod_set())
    assert "must have at most 63 characters" in await accepted(hub_objects, "Cluster", LONG, {"workloads": [APP]})
    assert "without dots" in await accepted(hub_objects, "Workload", "a.b", pod_set())
    assert not await accepted(hub_objects, "Cluster", LONG, {})


@pytest.mark.kafka
@pytest.mark.testbed
@pytest.mark.parametrize("hub_kubeconfig", ["real"], indirect=True)
async def test_a_real_api_server_asks_the_hub(hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub) -> None:
    async with run_hub(hub_webhook=True):
        # The definitions let a label pass that the webhook's models refuse as well as they do.
        spec = placed(nodeSelector={"not a key": "x"})
        said = await until(lambda: accepted(hub_objects, "Workload", "x", spec), "the webhook to be asked")
        assert 'The Workload "x" is invalid' in said
        assert "name part must consist of" in said
        with pytest.raises(KubectlError, match="not a key"):
            await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "x", spec))

        async def audited() -> list[ActionAudited]:
            return [decode(ActionAudited, record.value) for record in await fleet.records(AUDIT)]

        (action,) = await until(audited, "the refusal to be audited")
        assert (action.actor, action.verb, action.allowed, action.name) == ("admin", "create", False, "default/x")
    # Without a hub objects are stored all the same, and checked when one is back.
    await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "x", spec))
    async with run_hub(hub_webhook=True):

        async def told() -> bool:
            return await hub_objects.condition(WORKLOADS, "x", "Synced", "default") == ("False", "Invalid")

        await until(told, "the user to be told")
    assert fleet.requests == []
    assert await hub_objects.find(CLUSTERS, "x") is None
