"""The charts by Helm itself: linted and rendered with each values file, refused with wrong values, and released.

That on a real cluster which enforces Pod Security's `restricted`: installed, upgraded, rolled back, taken away.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.security.permissions import (
    EXECUTOR,
    HUB,
    HUB_KUBECONFIGS,
    KUBECONFIGS,
    WATCHER,
    WATCHER_METRICS,
    Rule,
    grants,
)
from tests.integration.deploy.accounts import HUB_NAMESPACE, NAMESPACE
from tests.integration.deploy.charts import AGENT, CONTROL_PLANE, VALUES, Json, chart_of, documents, label_of, pods_of
from tests.integration.deploy.conftest import RELEASE, Deployed
from tests.testbed.helm_cli import HelmError, run_helm
from tests.testbed.kubectl import KubectlError
from tests.unit.deploy.test_environment import unknown_settings

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.testbed]

STRIMZI = "kafka.strimzi.io"
RECOMMENDED = {
    f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "version", "managed-by")
} | {"helm.sh/chart"}


async def render(values: Path, home: Path, *more: str) -> list[Json]:
    arguments = ("-f", str(values), "-n", "fleet", "--api-versions", f"{STRIMZI}/v1", *more)
    return documents(await run_helm("template", "fleet", str(chart_of(values)), *arguments, home=home))


@pytest.mark.parametrize("values", VALUES, ids=label_of)
async def test_every_values_file_is_linted_and_rendered_and_accepted(
    values: Path, deployed: Deployed, tmp_path: Path
) -> None:
    """Strictly: the real API server knows each field, and admits each pod template under `restricted`."""
    await run_helm("lint", "--strict", str(chart_of(values)), "-f", str(values), home=tmp_path)
    objects = await render(values, tmp_path)
    for item in objects:
        assert item["metadata"]["labels"].keys() >= RECOMMENDED, item["metadata"]["name"]
        assert item["metadata"].get("namespace") or item["kind"].startswith(("Cluster", "CustomResource"))
    for pod in pods_of(objects):
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"requests", "limits"} <= container["resources"].keys()
        assert not unknown_settings(container["args"][0], [item["name"] for item in container["env"]])
    known = [item for item in objects if STRIMZI not in item["apiVersion"]]
    assert known
    namespaces = {item["metadata"]["namespace"] for item in known if "namespace" in item["metadata"]}
    assert namespaces == {"fleet"}
    here = [_moved(item, NAMESPACE) for item in known]
    text = yaml.safe_dump_all([{**pod_of(item), "metadata": item["metadata"]} for item in here if has_pod(item)])
    pods = yaml.safe_dump_all(here) + "\n---\n" + text
    accepted = await deployed.cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=pods
    )
    assert len(accepted.splitlines()) == len(here) + sum(map(has_pod, here))


def _moved(item: Json, namespace: str) -> Json:
    metadata = {**item["metadata"]}
    if "namespace" in metadata:
        metadata["namespace"] = namespace
    return {**item, "metadata": metadata}


def has_pod(item: Json) -> bool:
    return item["kind"] in {"Deployment", "Job"}


def pod_of(item: Json) -> Json:
    """What the controller would make of it: Pod Security refuses pods, and only warns of what makes them."""
    spec = {key: value for key, value in item["spec"]["template"]["spec"].items() if key != "serviceAccountName"}
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec}


PLAIN_AGENT = {"cluster": "east", "kafka": {"bootstrap": "kafka:9092"}}
PLAIN = {"kafka": {"bootstrap": "kafka:9092"}, "redis": {"url": "redis://redis"}}
WRONG: list[tuple[Path, Json, str]] = [
    (AGENT, {"kafka": {"bootstrap": "kafka:9092"}}, "/cluster"),
    (AGENT, {**PLAIN_AGENT, "cluster": "East_1"}, "/cluster"),
    (AGENT, {**PLAIN_AGENT, "kafka": {"bootstrap": "kafka"}}, "/kafka/bootstrap"),
    (AGENT, {**PLAIN_AGENT, "executor": {"replicas": 2}}, "executor"),
    (AGENT, {**PLAIN_AGENT, "executor": {"extraKinds": [{"group": "", "resources": ["*"]}]}}, "extraKinds"),
    (AGENT, {**PLAIN_AGENT, "env": {"PATH": "/"}}, "PATH"),
    (CONTROL_PLANE, {"kafka": {"bootstrap": "kafka:9092"}}, "redis"),
    (CONTROL_PLANE, {**PLAIN, "topics": {"mode": "strimzi"}}, "topics"),
    (CONTROL_PLANE, {**PLAIN, "hub": {"webhook": {"enabled": True}}}, "webhook"),
    (CONTROL_PLANE, {**PLAIN, "terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
    (CONTROL_PLANE, {**PLAIN, "schedular": {}}, "schedular"),
    (CONTROL_PLANE, {**PLAIN, "hub": {"provision": {"kubeconfigsClaim": "a"}}}, "kubeconfigsClaim"),
    (CONTROL_PLANE, {**PLAIN, "hosted": {"executor": {"replicas": 2}}}, "executor"),
]


@pytest.mark.parametrize(("chart", "values", "named"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
async def test_wrong_values_are_refused_by_name(
    chart: Path, values: Json, named: str, helm_binary: Path, tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(HelmError, match=re.escape(named)):
        await run_helm("template", "fleet", str(chart), "-f", str(file), home=tmp_path)


async def test_a_role_at_aws_is_the_executors_alone(helm_binary: Path, tmp_path: Path) -> None:
    objects = await render(AGENT / "ci" / "secure-values.yaml", tmp_path)
    accounts = {item["metadata"]["name"]: item["metadata"] for item in objects if item["kind"] == "ServiceAccount"}
    assert accounts.keys() == {"agents-executor", "agents-watcher"}
    assert "eks.amazonaws.com/role-arn" in accounts["agents-executor"]["annotations"]
    assert "annotations" not in accounts["agents-watcher"]


async def test_redis_is_reached_with_an_account_and_a_certificate_by_those_who_need_it(
    helm_binary: Path, tmp_path: Path
) -> None:
    """The settings are tried on a real Redis in `tests/integration/test_secure_connections.py`."""
    wanted = {"URL", "USERNAME", "PASSWORD", "CA", "CERTIFICATE", "KEY"}
    for item in await render(CONTROL_PLANE / "ci" / "secure-values.yaml", tmp_path):
        if item["kind"] != "Deployment":
            continue
        pod = item["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        redis = [entry for entry in container["env"] if entry["name"].startswith("FLOTILLA_REDIS_")]
        given = {entry["name"].removeprefix("FLOTILLA_REDIS_"): entry for entry in redis}
        assert given.keys() == (wanted if container["name"] in {"status", "hub"} else set())
        mounted = {mount["mountPath"] for mount in container.get("volumeMounts", ())}
        files = given.keys() & {"CA", "CERTIFICATE", "KEY"}
        assert {str(Path(given[name]["value"]).parent) for name in files} <= mounted


async def test_every_topic_and_principal_becomes_a_resource_of_strimzi(helm_binary: Path, tmp_path: Path) -> None:
    objects = await render(CONTROL_PLANE / "ci" / "strimzi-values.yaml", tmp_path)
    topics = yaml.safe_load((CONTROL_PLANE / "files" / "topics.yaml").read_text())["topics"]
    made = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "KafkaTopic"}
    assert made.keys() == {topic["name"] for topic in topics if "<" not in topic["name"]}
    users = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "KafkaUser"}
    assert {"scheduler", "status", "hub", "watcher", "executor-east", "executor-west"} <= users.keys()
    assert "hosted-executor" not in users, "there is none here, and it could read the commands of all"
    acls = users["executor-east"]["authorization"]["acls"]
    assert [acl["resource"]["name"] for acl in acls if "Read" in acl["operations"]] == ["fleet.commands.east"]
    assert "fleet.results" in [acl["resource"]["name"] for acl in acls if "Write" in acl["operations"]]


PROVISION = CONTROL_PLANE / "ci" / "provision-values.yaml"
MOUNTED = {"secretName": KUBECONFIGS, "defaultMode": 0o440, "optional": True}


def of_kind(objects: list[Json], kind: str) -> dict[str, Json]:
    return {item["metadata"]["name"].removeprefix("fleet-flotilla-"): item for item in objects if item["kind"] == kind}


def environment(deployment: Json) -> dict[str, str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


async def test_agents_of_clusters_that_are_made_run_beside_the_hub_that_makes_them(
    helm_binary: Path, tmp_path: Path
) -> None:
    objects = await render(PROVISION, tmp_path)
    deployments, policies = of_kind(objects, "Deployment"), of_kind(objects, "NetworkPolicy")
    for agent in ("watcher", "executor"):
        pod = deployments[agent]["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        # It may come later than they do.
        assert volumes["kubeconfigs"]["secret"] == MOUNTED
        # Certificates and keys are put into files there, as Python's TLS takes nothing else.
        assert volumes["tmp"]["emptyDir"]["medium"] == "Memory"
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert environment(deployments[agent])[f"FLOTILLA_{agent.upper()}_KUBECONFIG_DIR"] == mounts["kubeconfigs"]
        assert (container["image"], container["args"]) == ("flotilla-agent:0.1.0", [f"services.{agent}"])
        assert pod["automountServiceAccountToken"] is False
        out = [port["port"] for rule in policies[agent]["spec"]["egress"] for port in rule["ports"]]
        assert {53, 9092, 443, 6443} <= set(out)
        assert 6379 not in out
    assert deployments["executor"]["spec"]["replicas"] == 1
    assert deployments["executor"]["spec"]["strategy"] == {"type": "Recreate"}
    assert {"hub", "watcher"} <= of_kind(objects, "PodDisruptionBudget").keys()
    assert environment(deployments["hub"])["FLOTILLA_HUB_KUBECONFIG_SECRET"] == KUBECONFIGS
    rules = of_kind(objects, "Role")["hub"]["rules"]
    assert [rule for rule in rules if "secrets" in rule["resources"]] == [rule.manifest() for rule in HUB_KUBECONFIGS]


@pytest.mark.parametrize("off", ["hosted.enabled=false", "hub.provision.enabled=false", "hub.enabled=false"])
async def test_without_them_the_hub_keeps_no_kubeconfig(helm_binary: Path, tmp_path: Path, off: str) -> None:
    objects = await render(PROVISION, tmp_path, "--set", off)
    assert {"watcher", "executor"}.isdisjoint(of_kind(objects, "Deployment"))
    assert KUBECONFIGS not in yaml.safe_dump_all(objects)


async def test_who_reads_kubeconfigs_of_management_clusters_may_write_their_certificates(
    helm_binary: Path, tmp_path: Path
) -> None:
    objects = await render(CONTROL_PLANE / "ci" / "secure-values.yaml", tmp_path)
    pod = of_kind(objects, "Deployment")["hub"]["spec"]["template"]["spec"]
    assert {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}} in pod["volumes"]


async def test_only_the_executor_of_hosted_agents_has_the_key_to_cluster_api(helm_binary: Path, tmp_path: Path) -> None:
    deployments = of_kind(await render(CONTROL_PLANE / "ci" / "secure-values.yaml", tmp_path), "Deployment")
    mounted = {
        name: {
            volume["secret"]["secretName"]
            for volume in item["spec"]["template"]["spec"]["volumes"]
            if "secret" in volume
        }
        for name, item in deployments.items()
    }
    assert {name for name, secrets in mounted.items() if "management-of-node-groups" in secrets} == {"executor"}
    variables = environment(deployments["executor"])
    assert variables["FLOTILLA_EXECUTOR_MANAGEMENT_KUBECONFIG"] == "/flotilla/management/kubeconfig"


async def role(deployed: Deployed, name: str) -> frozenset[tuple[str, str, str]]:
    rules = json.loads(await deployed.cluster.kubectl("get", "clusterrole", name, "-o", "json"))["rules"]
    return grants(*(Rule(r["apiGroups"][0], tuple(r["resources"]), tuple(r["verbs"])) for r in rules))


async def images(deployed: Deployed, namespace: str) -> set[str]:
    found = await deployed.cluster.kubectl("get", "deployments", "-n", namespace, "-o", "json")
    specs = [item["spec"]["template"]["spec"] for item in json.loads(found)["items"]]
    return {spec["containers"][0]["image"] for spec in specs}


async def running(deployed: Deployed, namespace: str) -> list[str]:
    """Components of the pods that are Running."""
    selected = ("-n", namespace, "--field-selector", "status.phase=Running", "-o", "json")
    items = json.loads(await deployed.cluster.kubectl("get", "pods", *selected))["items"]
    return sorted(item["metadata"]["labels"]["app.kubernetes.io/component"] for item in items)


async def test_the_agents_release_runs_under_restricted_with_no_more_than_it_needs(deployed: Deployed) -> None:
    assert await running(deployed, NAMESPACE) == ["executor", "watcher"]
    assert await role(deployed, f"{NAMESPACE}:{RELEASE}-watcher") == grants(*WATCHER, *WATCHER_METRICS)
    assert await role(deployed, f"{NAMESPACE}:{RELEASE}-executor") == grants(*EXECUTOR)
    pod: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": NAMESPACE}}
    pod["spec"] = {"containers": [{"name": "main", "image": "nginx"}]}
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        await deployed.cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))


async def test_the_control_plane_is_installed_upgraded_rolled_back_and_taken_away(deployed: Deployed) -> None:
    namespace = HUB_NAMESPACE
    await deployed.restricted_namespace(namespace)
    values = str(CONTROL_PLANE / "ci" / "plain-values.yaml")
    chart: tuple[str, ...] = (str(CONTROL_PLANE), "-n", namespace, "-f", values, "--wait", "--timeout", "180s")
    said = await deployed.helm("install", "flotilla", *chart)
    assert "whoever reaches it can command the whole fleet" in said
    assert await running(deployed, namespace) == [
        "autoscaler",
        "hub",
        "hub",
        "scheduler",
        "scheduler",
        "status",
        "status",
    ]
    assert await role(deployed, f"{namespace}:flotilla-hub") == grants(*HUB)
    assert await images(deployed, namespace) == {"flotilla-control-plane:0.1.0"}
    assert "clusters.cluster.k8s.io" in await deployed.cluster.kubectl("get", "crds", "-o", "name")

    await deployed.helm("upgrade", "flotilla", *chart, "--set", "image.tag=next", "--set", "status.replicas=1")
    assert await images(deployed, namespace) == {"flotilla-control-plane:next"}
    budgets = await deployed.cluster.kubectl("get", "pdb", "-n", namespace, "-o", "name")
    assert {line.rpartition("-")[2] for line in budgets.splitlines()} == {"hub", "scheduler"}

    await deployed.helm("rollback", "flotilla", "1", "-n", namespace, "--wait", "--timeout", "180s")
    assert await images(deployed, namespace) == {"flotilla-control-plane:0.1.0"}
    revisions: list[dict[str, Any]] = json.loads(
        await deployed.helm("history", "flotilla", "-n", namespace, "-o", "json")
    )
    assert [revision["status"] for revision in revisions] == ["superseded", "superseded", "deployed"]

    await deployed.helm("uninstall", "flotilla", "-n", namespace, "--wait", "--timeout", "180s")
    left = "deployments,services,pdb,networkpolicies,roles,rolebindings,jobs"
    assert await deployed.cluster.kubectl("get", left, "-n", namespace, "-o", "name") == ""
    assert "clusters.cluster.k8s.io" in await deployed.cluster.kubectl("get", "crds", "-o", "name")
