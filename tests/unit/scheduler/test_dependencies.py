"""What pods need goes where the pods go."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.asked.dependencies import followed
from services.scheduler.decision.asked.rendering import render_commands
from shared.events.v1.decisions import RequestRejected, WorkloadPlaced
from shared.events.v1.workloads import Workload
from tests.scheduling import World, counts_of, image, placed, workload

Json = dict[str, Any]


def pods(name: str = "web", replicas: int = 2, **spec: Any) -> Json:
    containers = [{"name": "c", "image": "i", **spec.pop("container", {})}]
    return {"name": name, "replicas": replicas, "template": {"spec": {"containers": containers, **spec}}}


def thing(kind: str, name: str = "", api_version: str = "v1", pod_set: str = "", **more: Any) -> Json:
    manifest: Json = {"apiVersion": api_version, "kind": kind, **more}
    if name:
        manifest["metadata"] = {"name": name}
    return {"name": pod_set or kind.lower(), "manifest": manifest}


def stateful(name: str = "db", **spec: Any) -> Json:
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet"}
    return {"name": name, "manifest": {**manifest, "spec": {"selector": {"matchLabels": {"app": "db"}}, **spec,
                                                            "template": template}}}  # fmt: skip


def follows(*pod_sets: Json) -> dict[str, tuple[str, ...]]:
    return followed(Workload.model_validate(workload("shop", *pod_sets)))


RBAC = "rbac.authorization.k8s.io/v1"
BY_VOLUME: dict[str, Any] = {"volumes": [{"name": "v", "configMap": {"name": "conf"}}]}


@pytest.mark.parametrize(
    ("spec", "needed"),
    [
        (BY_VOLUME, thing("ConfigMap", "conf")),
        ({"volumes": [{"name": "v", "secret": {"secretName": "key"}}]}, thing("Secret", "key")),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "conf"}}]}}]},
            thing("ConfigMap", "conf"),
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "key"}}]}}]},
            thing("Secret", "key"),
        ),
        ({"container": {"envFrom": [{"configMapRef": {"name": "conf"}}]}}, thing("ConfigMap", "conf")),
        ({"container": {"envFrom": [{"secretRef": {"name": "key"}}]}}, thing("Secret", "key")),
        (
            {"container": {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "k"}}}]}},
            thing("ConfigMap", "conf"),
        ),
        (
            {"container": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}},
            thing("Secret", "key"),
        ),
        (
            {"initContainers": [{"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "key"}}]}]},
            thing("Secret", "key"),
        ),
        ({"imagePullSecrets": [{"name": "key"}]}, thing("Secret", "key")),
        ({"serviceAccountName": "robot"}, thing("ServiceAccount", "robot")),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]},
            thing("PersistentVolumeClaim", "data"),
        ),
        ({"priorityClassName": "gold"}, thing("PriorityClass", "gold", "scheduling.k8s.io/v1")),
        # Without a name of its own an object has that of the workload and the pod set.
        ({"serviceAccountName": "shop-robot"}, thing("ServiceAccount", pod_set="robot")),
    ],
)
def test_what_pods_need_by_name(spec: Json, needed: Json) -> None:
    assert follows(pods(**spec), needed) == {needed["name"]: ("web",)}
    other = pods("web", container={}, serviceAccountName="another")
    assert follows(other, needed) == {}


def test_what_is_about_pods() -> None:
    selected = {"app.kubernetes.io/name": "shop"}
    about = [
        thing("Service", spec={"selector": selected}),
        thing("PodDisruptionBudget", "", "policy/v1", spec={"selector": {"matchLabels": {**selected}}}),
        thing("NetworkPolicy", "", "networking.k8s.io/v1", spec={"podSelector": {}}),
        thing(
            "HorizontalPodAutoscaler",
            "",
            "autoscaling/v2",
            spec={"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-web"}},
        ),
    ]
    assert follows(image(), *about) == {item["name"]: ("web",) for item in about}
    elsewhere = [
        thing("Service", spec={"selector": {"app": "other"}}, pod_set="other"),
        thing("Service", spec={"selector": {}}, pod_set="all"),
        thing("Service", spec={"selector": 7}, pod_set="odd"),
        # Of another group, that has nothing to do with pods.
        thing("Service", "", "serving.knative.dev/v1", spec={"selector": selected}, pod_set="knative"),
    ]
    assert follows(image(), *elsewhere) == {}


def test_over_several_steps() -> None:
    found = follows(
        stateful(serviceName="db", volumeClaimTemplates=[{"spec": {"storageClassName": "fast"}}]),
        pods("api", serviceAccountName="robot"),
        thing("Service", "db"),
        thing("StorageClass", "fast", "storage.k8s.io/v1"),
        thing("ServiceAccount", "robot", imagePullSecrets=[{"name": "pull"}]),
        thing("Secret", "pull"),
        thing("RoleBinding", "", RBAC, subjects=[{"kind": "ServiceAccount", "name": "robot"}],
              roleRef={"kind": "Role", "name": "reader"}),
        thing("Role", "reader", RBAC),
        thing("Ingress", "", "networking.k8s.io/v1", spec={"defaultBackend": {"service": {"name": "db"}}}),
        thing("ConfigMap", "alone"),
    )  # fmt: skip
    api, database = ("api",), ("db",)
    assert found == {
        "service": database,
        "storageclass": database,
        "ingress": database,
        "serviceaccount": api,
        "secret": api,
        "rolebinding": api,
        "role": api,
    }


def clusters_of(decision: WorkloadPlaced) -> dict[str, dict[str, int]]:
    return {item.name: counts_of(decision, index) for index, item in enumerate(decision.pod_sets)}


def test_a_copy_is_wherever_the_pods_are_and_leaves_with_them(world: World) -> None:
    conf, alone = thing("ConfigMap", "conf"), thing("ConfigMap", "alone", pod_set="alone")
    decision = placed(world.apply(workload("shop", pods(replicas=4, **BY_VOLUME), conf, alone)))
    assert clusters_of(decision)["configmap"] == {"east": 1, "west": 1}
    assert sum(clusters_of(decision)["alone"].values()) == 1
    assert (decision.pod_sets[1].desired, decision.pod_sets[1].follows) == (2, ("web",))
    for command in render_commands(decision, 1, 1):
        kinds = [item.manifest["kind"] for item in command.objects if item.pod_set != "alone"]
        assert kinds == ["ConfigMap", "Deployment"]
    east = {"placement": {"clusters": ["east"]}}
    moved = placed(world.apply(workload("shop", pods(replicas=4, **BY_VOLUME), conf, **east)))
    assert clusters_of(moved) == {"web": {"east": 4}, "configmap": {"east": 1}}
    assert moved.withdrawn == ("west",)
    none = placed(world.apply(workload("shop", pods(replicas=0, **BY_VOLUME), conf, **east)))
    assert clusters_of(none) == {"web": {}, "configmap": {}}
    assert (none.pod_sets[1].desired, none.pod_sets[1].reason) == (0, "")


def test_a_copy_follows_when_replicas_find_room_later(world: World) -> None:
    conf = thing("ConfigMap", "conf")
    big = {"resources": {"requests": {"cpu": "8"}}}
    decision = placed(world.apply(workload("shop", conf, pods(replicas=1, container=big, **BY_VOLUME))))
    assert clusters_of(decision) == {"configmap": {}, "web": {}}
    world.node("west", "large", cpu="16")
    assert clusters_of(placed(world.pending())) == {"configmap": {"west": 1}, "web": {"west": 1}}
    standby = World()
    for made in world.journal:
        standby.state.apply(made)
    assert [record.placed for record in standby.state._workloads] == [
        record.placed for record in world.state._workloads
    ]


def test_a_copy_goes_when_its_cluster_leaves_the_fleet(world: World) -> None:
    world.apply(workload("shop", pods(replicas=4, **BY_VOLUME), thing("ConfigMap", "conf")))
    world.leaves("east")
    assert clusters_of(placed(world.pending())) == {"web": {"west": 4}, "configmap": {"west": 1}}


def test_a_reference_that_is_new_makes_it_travel_and_one_that_ends_does_not(world: World) -> None:
    conf = thing("ConfigMap", "conf")
    first = placed(world.apply(workload("shop", pods(replicas=4), conf)))
    assert sum(clusters_of(first)["configmap"].values()) == 1
    second = placed(world.apply(workload("shop", pods(replicas=4, **BY_VOLUME), conf)))
    assert clusters_of(second)["configmap"] == {"east": 1, "west": 1}
    third = placed(world.apply(workload("shop", pods(replicas=4), conf)))
    assert sum(clusters_of(third)["configmap"].values()) == 1


def test_a_copy_that_its_overrides_keep_out_says_so(world: World) -> None:
    patches = [
        {"name": "a", "podSets": ["configmap"], "patches": [{"op": "remove", "path": "/data/x"}]},
        {
            "name": "b",
            "clusters": ["east"],
            "podSets": ["configmap"],
            "patches": [{"op": "replace", "path": "/data/x", "value": "2"}],
        },
    ]
    conf = thing("ConfigMap", "conf", data={"x": "1"})
    document = workload("shop", pods(replicas=4, **BY_VOLUME), conf, placement={"overrides": patches})
    outcome = placed(world.apply(document)).pod_sets[1]
    assert (outcome.desired, outcome.placed, outcome.reason) == (2, 1, "OverridesConflict")


def test_what_bound_pods_need_travels_with_them(world: World) -> None:
    document = workload(
        "shop", pods(replicas=4, **BY_VOLUME), thing("ConfigMap", "conf"), placement={"binding": "node"}
    )
    decision = placed(world.apply(document))
    assert clusters_of(decision) == {"web": {"east": 2, "west": 2}, "configmap": {"east": 1, "west": 1}}
    for command in render_commands(decision, 1, 1):
        assert [item.manifest["kind"] for item in command.objects] == ["ConfigMap"]
        assert [len(group.bindings) for group in command.pods] == [2]


def test_two_objects_of_one_name_are_refused_with_bound_pods_too(world: World) -> None:
    same = [thing("ConfigMap", "conf", pod_set=name) for name in ("a", "b")]
    (rejected,) = world.apply(workload("shop", *same, placement={"binding": "node"}))
    assert isinstance(rejected, RequestRejected)
    assert rejected.errors[0].field == "workload.podSets.1.manifest.metadata.name"
