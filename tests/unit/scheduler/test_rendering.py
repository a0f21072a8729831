"""What each cluster is told to run."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from services.scheduler.decision.asked.rendering import render_commands
from shared.events.v1.commands import CommandIssued
from tests.scheduling import World, image, placed, workload

IDENTITY = {
    "flotilla.dev/workload": "shop",
    "flotilla.dev/workload-namespace": "default",
    "flotilla.dev/pod-set": "web",
}
LABELS = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/managed-by": "flotilla", "tier": "front", **IDENTITY}


def commands(world: World, document: dict[str, Any]) -> dict[str, CommandIssued]:
    rendered = render_commands(placed(world.apply(document)), epoch=3, generation=17)
    return {command.cluster: command for command in rendered}


def manifest_of(command: CommandIssued) -> dict[str, Any]:
    (item,) = command.objects
    return item.manifest


def test_an_image_becomes_a_deployment_of_the_clusters_replicas(world: World) -> None:
    pod_set = {**image(replicas=3), "env": [{"name": "A", "value": "b"}], "ports": [{"containerPort": 80}]}
    rendered = commands(world, workload("shop", pod_set, labels={"tier": "front"}))
    assert sorted(manifest_of(command)["spec"]["replicas"] for command in rendered.values()) == [1, 2]
    command = rendered["east"]
    assert (command.subject, command.namespace, command.epoch, command.generation, command.action) == (
        "workload/default/shop",
        "default",
        3,
        17,
        "run",
    )
    manifest = manifest_of(command)
    assert manifest["metadata"] == {"name": "shop-web", "labels": LABELS}
    assert manifest["spec"]["selector"] == {"matchLabels": IDENTITY}
    assert manifest["spec"]["template"]["metadata"]["labels"] == LABELS
    assert manifest["spec"]["template"]["spec"]["containers"] == [
        {
            "name": "web",
            "image": "nginx",
            "env": [{"name": "A", "value": "b"}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        }
    ]


def test_bound_pods_have_names_and_nodes(world: World) -> None:
    rendered = commands(world, workload("shop", image(replicas=3), placement={"binding": "node"}))
    bindings = {
        binding.name: (cluster, binding.node) for cluster, c in rendered.items() for binding in c.pods[0].bindings
    }
    assert sorted(bindings) == ["shop-web-0", "shop-web-1", "shop-web-2"]
    assert all(node.startswith(cluster) for cluster, node in bindings.values())
    group = rendered["east"].pods[0]
    assert "name" not in group.manifest["metadata"]
    assert group.manifest["kind"] == "Pod"
    assert group.manifest["spec"]["schedulerName"] == "flotilla"
    assert group.manifest["metadata"]["labels"].items() >= IDENTITY.items()
    assert rendered["east"].objects == ()


def test_a_manifest_stays_as_it_is_but_for_replicas_labels_and_terms(world: World) -> None:
    template = {
        "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
        "spec": {"priorityClassName": "high", "containers": [{"name": "c", "image": "i"}], "nodeSelector": {"x": "y"}},
    }
    manifest: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "labels": {"app": "web"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "serviceName": "db", "template": template, "replicas": 2},
    }
    for number in range(3):
        world.node("east", f"east-{number}", labels={"x": "y", "disk": "ssd"})
    terms = {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists"}]}
    rendered = commands(world, workload("shop", {"name": "web", "manifest": manifest}, placement=terms))
    result = manifest_of(rendered["east"])
    assert result["metadata"]["name"] == "db"
    assert result["metadata"]["labels"].items() >= {**IDENTITY, "app": "web"}.items()
    assert result["spec"]["serviceName"] == "db"
    assert result["spec"]["selector"] == manifest["spec"]["selector"]
    assert result["spec"]["replicas"] == 2
    pod = result["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= {**IDENTITY, "app": "web"}.items()
    assert pod["metadata"]["annotations"] == {"a": "b"}
    assert pod["spec"]["nodeSelector"] == {"x": "y", "disk": "ssd"}
    assert pod["spec"]["tolerations"] == [{"key": "k", "operator": "Exists"}]
    assert pod["spec"]["priorityClassName"] == "high"
    assert manifest["metadata"]["labels"] == {"app": "web"}, "what the user gave is not touched"


def test_a_custom_resource_gets_labels_and_a_name_only(world: World) -> None:
    manifest: dict[str, Any] = {
        "apiVersion": "example.org/v1",
        "kind": "Queue",
        "spec": {"template": {"spec": {}}, "replicas": 4},
    }
    (command,) = commands(world, workload("shop", {"name": "web", "manifest": manifest})).values()
    result = manifest_of(command)
    assert result["spec"] == manifest["spec"]
    assert result["metadata"]["name"] == "shop-web"
    assert result["metadata"]["labels"].items() >= IDENTITY.items()
    assert "namespace" not in result["metadata"]


def test_clusters_that_are_left_are_told_to_withdraw(world: World) -> None:
    world.apply(workload("shop", placement={"clusters": ["east"]}))
    rendered = commands(world, workload("shop", placement={"clusters": ["west"]}))
    assert {cluster: command.action for cluster, command in rendered.items()} == {"west": "run", "east": "withdraw"}
    assert (rendered["east"].objects, rendered["east"].pods) == ((), ())
    deleted = render_commands(placed(world.delete("shop")), 1, 2)
    assert [command.action for command in deleted] == ["withdraw", "withdraw"]


def test_the_digest_is_of_content_alone(world: World) -> None:
    decision = placed(world.apply(workload("shop", image(replicas=2))))
    one = {command.cluster: command for command in render_commands(decision, 1, 5)}
    two = {command.cluster: command for command in render_commands(decision, 2, 9)}
    assert one["east"].digest == two["east"].digest == one["west"].digest
    document = orjson.loads(one["east"].to_json())
    canonical = orjson.dumps(
        {name: document[name] for name in ("action", "objects", "pods")}, option=orjson.OPT_SORT_KEYS
    )
    assert one["east"].digest == hashlib.sha256(canonical).hexdigest()
    other = placed(world.apply(workload("shop", {**image(replicas=2), "image": "nginx:2"})))
    assert render_commands(other, 1, 6)[0].digest != one["east"].digest


def test_the_part_of_a_shared_gpu_travels_with_the_pod() -> None:
    world = World()
    world.cluster("east")
    world.node("east", "gpu", **{"nvidia.com_gpu": "1"})
    pod_set = image(resources={"requests": {"nvidia.com/gpu": "1"}})
    rendered = commands(world, workload("shop", pod_set, annotations={"flotilla.dev/gpu-milli": "300", "note": "x"}))
    template = manifest_of(rendered["east"])["spec"]["template"]
    assert template["metadata"]["annotations"] == {"flotilla.dev/gpu-milli": "300"}
