"""Requests that are well-formed and still refused, each with the field and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from shared.events.v1.decisions import RequestRejected
from shared.events.v1.workloads import FieldError, Workload
from shared.model.pods import HostPort
from tests.scheduling import World, image, workload

Json = dict[str, Any]
GPU = "nvidia.com/gpu"


def plan(document: Json) -> tuple[tuple[PodSetPlan, ...], tuple[FieldError, ...]]:
    return plan_workload(Workload.model_validate(document), GPU)


def errors_of(document: Json) -> list[tuple[str, str]]:
    _, errors = plan(document)
    return [(error.field, error.reason) for error in errors]


def container(**more: Any) -> Json:
    return {"name": "main", "image": "nginx", **more}


def template(*containers: Json, **spec: Any) -> Json:
    return {"spec": {"containers": list(containers) or [container()], **spec}}


def templated(value: Json, **more: Any) -> Json:
    return workload("shop", {"name": "web", "template": value}, **more)


def deployment(name: str = "web", replicas: int | None = None, labels: Json | None = None, **more: Any) -> Json:
    labels = {"app": "web"} if labels is None else labels
    spec: Json = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": labels}, **template()},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {**spec, **more}}


def of_kind(kind: str, api_version: str = "apps/v1", **spec: Any) -> Json:
    return {"apiVersion": api_version, "kind": kind, "spec": spec}


def manifested(manifest: Json, *, replicas: int | None = None, **more: Any) -> Json:
    pod_set: Json = {"name": "web", "manifest": manifest}
    return workload("shop", pod_set if replicas is None else {**pod_set, "replicas": replicas}, **more)


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def spread(**more: Any) -> Json:
    return {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", **more}


TEMPLATE = "workload.podSets.0.template"
MANIFEST = "workload.podSets.0.manifest"


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"metadata": {}}, f"{TEMPLATE}.spec", "Required"),
        ({"spec": {}}, f"{TEMPLATE}.spec.containers", "Required"),
        ({"spec": {"containers": []}}, f"{TEMPLATE}.spec.containers", "Invalid"),
        (
            template(container(resources={"requests": {"cpu": "one"}})),
            f"{TEMPLATE}.spec.containers.0.resources.requests.cpu",
            "Invalid",
        ),
        (
            template(container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
            f"{TEMPLATE}.spec.containers.0.resources",
            "Invalid",
        ),
        (template(container(resources={"requests": {GPU: "0.5"}})), f"{TEMPLATE}.spec.containers.0", "Invalid"),
        (template(container(), container()), f"{TEMPLATE}.spec", "Invalid"),
        (template({"name": "main"}), f"{TEMPLATE}.spec.containers.0.image", "Required"),
        (
            template(container(ports=[{"containerPort": 80, "hostPort": 70000}])),
            f"{TEMPLATE}.spec.containers.0.ports.0.hostPort",
            "Invalid",
        ),
        (template(tolerations=[{"operator": "Equal"}]), f"{TEMPLATE}.spec.tolerations.0", "Invalid"),
        (template(nodeSelector={"disk": "a b"}), f"{TEMPLATE}.spec.nodeSelector.disk", "Invalid"),
        (
            template(
                affinity={
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]
                        }
                    }
                }
            ),
            (
                f"{TEMPLATE}.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
                ".nodeSelectorTerms.0.matchExpressions.0"
            ),
            "Invalid",
        ),
        (template(restartPolicy="Never"), f"{TEMPLATE}.spec.restartPolicy", "Contradiction"),
        (template(nodeName="n1"), f"{TEMPLATE}.spec.nodeName", "Contradiction"),
        (
            {"metadata": {"labels": {"app": "a b"}}, **template()},
            f"{TEMPLATE}.metadata.labels",
            "Invalid",
        ),
        (
            {"metadata": {"annotations": {"flotilla.dev/gpu-milli": "500"}}, **template()},
            f"{TEMPLATE}.metadata.annotations",
            "Contradiction",
        ),
        (
            {"metadata": {"annotations": {"flotilla.dev/gpu-milli": "1500"}}, **template()},
            f"{TEMPLATE}.metadata.annotations",
            "Invalid",
        ),
    ],
)
def test_a_template_is_checked_by_the_rules_of_kubernetes(value: Json, field: str, reason: str) -> None:
    assert errors_of(templated(value)) == [(field, reason)]


@pytest.mark.parametrize(
    ("document", "field", "reason"),
    [
        (manifested({"kind": "Deployment"}), f"{MANIFEST}.apiVersion", "Required"), (manifested({"apiVersion":
        "v1"}), f"{MANIFEST}.kind", "Required"), (manifested({**deployment(), "metadata": {"namespace": "other"}}),
        f"{MANIFEST}.metadata.namespace", "Contradiction"), (manifested({**deployment(), "metadata": {"name":
        "A"}}), f"{MANIFEST}.metadata.name", "Invalid"), (manifested({**deployment(), "metadata": {"name": "a" *
        254}}), f"{MANIFEST}.metadata.name", "Invalid"), (manifested({**deployment(), "metadata": []}),
        f"{MANIFEST}.metadata", "Invalid"), (manifested(deployment(labels={"app": "other"})),
        f"{MANIFEST}.spec.selector", "Contradiction"), (manifested(deployment(selector=None)),
        f"{MANIFEST}.spec.selector", "Required"), (manifested(deployment(selector={})), f"{MANIFEST}.spec.selector",
        "Invalid"), (manifested(deployment(replicas=3), replicas=4), "workload.podSets.0.replicas",
        "Contradiction"), (manifested(deployment(replicas=-1)), f"{MANIFEST}.spec.replicas", "Invalid"),
        (manifested({"apiVersion": "apps/v1", "kind": "Deployment"}), f"{MANIFEST}.spec.template", "Required"), (
            manifested(of_kind("Job", "batch/v1", template=template(restartPolicy="Never")), replicas=2),
            "workload.podSets.0.replicas",
            "Contradiction",
        ), (manifested(of_kind("Job", "batch/v1", template=template())),
        f"{MANIFEST}.spec.template.spec.restartPolicy", "Contradiction"), (manifested({"apiVersion": "v1", "kind":
        "ConfigMap"}, replicas=2), "workload.podSets.0.replicas", "Contradiction"), (manifested(deployment(),
        placement={"binding": "node"}), f"{MANIFEST}.kind", "Contradiction"), (
            templated(template(nodeSelector={"disk": "ssd"}), placement={"nodeSelector": {"disk": "hdd"}}),
            f"{TEMPLATE}.spec.nodeSelector",
            "Contradiction",
        ),
        (
            templated(template(affinity={"podAntiAffinity": {REQUIRED: [{"topologyKey": ""}]}})),
            f"{TEMPLATE}.spec.affinity.podAntiAffinity.{REQUIRED}.0.topologyKey",
            "Invalid",
        ),
        (
            templated(template(topologySpreadConstraints=[spread(), spread()])),
            f"{TEMPLATE}.spec",
            "Invalid",
        ),
        (
            templated(template(topologySpreadConstraints=[spread(maxSkew=0)])),
            f"{TEMPLATE}.spec.topologySpreadConstraints.0.maxSkew",
            "Invalid",
        ),
        (
            templated(template(topologySpreadConstraints=[spread(minDomains=2)])),
            f"{TEMPLATE}.spec.topologySpreadConstraints.0",
            "Invalid",
        ),
        (
            workload("shop", {"name": "a", "manifest": deployment("x")}, {"name": "b", "manifest": deployment("x")}),
            "workload.podSets.1.manifest.metadata.name",
            "Contradiction",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_named(document: Json, field: str, reason: str) -> None:
    assert errors_of(document) == [(field, reason)]


@pytest.mark.parametrize(
    ("document", "division", "desired"),
    [
        (workload("shop", image(replicas=None)), Division.DIVIDED, 1),
        (manifested(deployment(replicas=3)), Division.DIVIDED, 3),
        (manifested(deployment(), replicas=4), Division.DIVIDED, 4),
        (manifested(deployment(replicas=4), replicas=4), Division.DIVIDED, 4),
        (manifested({**deployment(), "kind": "DaemonSet"}), Division.EVERYWHERE, 1),
        (
            manifested(of_kind("Job", "batch/v1", parallelism=5, template=template(restartPolicy="Never"))),
            Division.TOGETHER,
            5,
        ),
        (
            manifested(
                of_kind("Job", "batch/v1", parallelism=5, completions=2, template=template(restartPolicy="Never"))
            ),
            Division.TOGETHER,
            2,
        ),
        (manifested({"apiVersion": "v1", "kind": "Pod", **template()}), Division.TOGETHER, 1),
        (manifested({"apiVersion": "example.org/v1", "kind": "Queue", "spec": 7}), Division.TOGETHER, 1),
        (workload("shop", image(replicas=2), placement={"binding": "node"}), Division.NODES, 2),
        (
            manifested({"apiVersion": "v1", "kind": "Pod", **template()}, replicas=3, placement={"binding": "node"}),
            Division.NODES,
            3,
        ),
    ],
)
def test_what_is_placed(document: Json, division: Division, desired: int) -> None:
    plans, errors = plan(document)
    assert not errors
    assert (plans[0].division, plans[0].desired) == (division, desired)


def test_a_shape_has_the_effective_request_of_kubernetes() -> None:
    sidecar = container(name="proxy", restartPolicy="Always", resources={"requests": {"cpu": "200m"}})
    setup = container(name="setup", resources={"requests": {"cpu": "3", "memory": "1Gi"}})
    main = container(resources={"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}})
    plans, errors = plan(
        templated(template(main, initContainers=[sidecar, setup], overhead={"cpu": "50m", "memory": "64Mi"}))
    )
    assert not errors
    # setup runs beside the proxy: 3 + 0.2, more than main and proxy together; and the overhead on top.
    assert dict(plans[0].demand.shape.requests) == {"cpu": 3250, "memory": 2 * 1024**3 + 64 * 1024**2, "pods": 1}


def test_terms_are_part_of_the_shape() -> None:
    plans, errors = plan(
        templated(
            template(container(ports=[{"containerPort": 80, "hostPort": 8080}]), nodeSelector={"disk": "ssd"}),
            placement={"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
        )
    )
    assert not errors
    shape = plans[0].demand.shape
    assert shape.node_selector == (("disk", "ssd"), ("zone", "a"))
    assert [item.key for item in shape.tolerations] == ["gpu"]
    assert shape.host_ports == (HostPort("TCP", 8080, "0.0.0.0"),)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [(nested(200), "deeper"), (10**30, "64 bits"), (-(10**30), "64 bits"), (float("nan"), "finite")],
)
def test_what_could_not_be_read_again_is_refused(value: Any, problem: str) -> None:
    custom = {"apiVersion": "example.org/v1", "kind": "Queue", "spec": {"a": [1, {"b": value}]}}
    _, (error,) = plan(manifested(custom))
    assert (error.field[: len(MANIFEST) + 11], error.reason) == (f"{MANIFEST}.spec.a.1.b", "Invalid")
    assert problem in error.message


def test_null_is_the_same_as_absent() -> None:
    null = container(resources={"limits": {"cpu": "1"}}, ports=None, restartPolicy=None)
    assert errors_of(templated(template(null, nodeSelector=None, tolerations=None, affinity=None))) == []


def test_more_replicas_than_one_record_can_name() -> None:
    pod_sets = [image(f"set{index}", replicas=30_000) for index in range(2)]
    assert errors_of(workload("shop", *pod_sets)) == [("workload.podSets", "TooLarge")]


class TestOperations:
    def rejected(self, decisions: list[Any]) -> tuple[str, str]:
        (decision,) = decisions
        assert isinstance(decision, RequestRejected)
        return decision.errors[0].field, decision.errors[0].reason

    def test_create_of_what_is_there(self, world: World) -> None:
        world.apply(workload("shop", image(replicas=1)), "create")
        assert world.apply(workload("shop", image(replicas=1)), "create") == []
        before = world.state.hash()
        assert self.rejected(world.apply(workload("shop", image(replicas=2)), "create")) == (
            "workload.name",
            "AlreadyExists",
        )
        assert world.state.hash() == before

    def test_a_request_that_comes_twice_counts_once(self, world: World) -> None:
        assert world.apply(workload("shop"), "create", "one")
        assert world.apply(workload("shop"), "create", "one") == []

    def test_change_and_delete_of_what_is_not_there(self, world: World) -> None:
        assert self.rejected(world.apply(workload("shop"), "change")) == ("workload.name", "NotFound")
        assert self.rejected(world.delete("shop")) == ("workload.name", "NotFound")

    def test_a_malformed_one_is_refused_with_all_its_errors(self, world: World) -> None:
        errors = (FieldError(field="workload", reason="Required", message="missing"),)
        (decision,) = world.state.reject("requests/0-1", world.ref(), errors)
        assert isinstance(decision, RequestRejected)
        assert decision.errors == errors
