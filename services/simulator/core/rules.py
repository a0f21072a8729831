"""Validation that no schema expresses: relations between fields, and what may not change.

Source: k8s.io/kubernetes/pkg/apis/{core,apps,batch}/validation. Only the rules that people and controllers meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from services.simulator.core.errors import FieldError, forbidden_field, invalid_value, required
from services.simulator.core.meta import Json
from services.simulator.core.names import label_problem, validate_labels
from services.simulator.core.quantities import QuantityError, quantity_milli
from services.simulator.core.selectors import label_selector

IMMUTABLE = "field is immutable"
_MUTABLE_POD_FIELDS = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"  # noqa: E501
_STATEFUL_MUTABLE = frozenset(
    {
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    }
)


def _pod_spec(spec: Json, path: str) -> Iterator[FieldError]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for group in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(group) or ()):
            yield from _container(container, f"{path}.{group}[{index}]", volumes)


def _container(container: Json, path: str, volumes: set[Any]) -> Iterator[FieldError]:
    if not container.get("image"):
        yield required(f"{path}.image")
    if container.get("name") and (problem := label_problem(container["name"])):
        yield invalid_value(f"{path}.name", container["name"], problem)
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            yield FieldError("FieldValueNotFound", f"{path}.volumeMounts[{index}].name", "", mount.get("name"))
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for name, amount in (resources.get("requests") or {}).items():
        try:
            over = name in limits and quantity_milli(amount) > quantity_milli(limits[name])
        except QuantityError:
            continue
        if over:
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid_value(f"{path}.resources.requests", amount, detail)


def _template(obj: Json, expected_policy: frozenset[str]) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    template = spec.get("template")
    if not isinstance(template, dict) or not template:
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from validate_labels(labels, "spec.template.metadata.labels")
    pod_spec = template.get("spec") or {}
    yield from _pod_spec(pod_spec, "spec.template.spec")
    policy = pod_spec.get("restartPolicy")
    if policy == "Always" and "Always" not in expected_policy:
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    elif policy is not None and policy not in expected_policy:
        listed = ", ".join(f'"{name}"' for name in sorted(expected_policy))
        yield FieldError(
            "FieldValueNotSupported", "spec.template.spec.restartPolicy", f"supported values: {listed}", policy
        )


def _workload(obj: Json) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from _template(obj, frozenset({"Always"}))
    selector = spec.get("selector")
    if selector == {}:
        yield invalid_value("spec.selector", selector, "empty selector is invalid for deployment")
    else:
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if spec.get("template") and not label_selector(selector)(labels):
            yield invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")


def _job(obj: Json) -> Iterator[FieldError]:
    yield from _template(obj, frozenset({"OnFailure", "Never"}))


def _pod(obj: Json) -> Iterator[FieldError]:
    yield from _pod_spec(obj.get("spec") or {}, "spec")


def _service(obj: Json) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    if not spec.get("ports") and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    if len(spec.get("ports") or ()) > 1:
        for index, port in enumerate(spec["ports"]):
            if not port.get("name"):
                yield required(f"spec.ports[{index}].name")


def _crd(obj: Json) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    expected = f"{names.get('plural')}.{spec.get('group')}"
    if obj["metadata"].get("name") != expected:
        detail = 'must be spec.names.plural+"."+spec.group'
        yield invalid_value("metadata.name", obj["metadata"].get("name"), detail)
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid_value("spec.versions", None, "must have exactly one version marked as storage version")
    for index, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            yield required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required")
    group = str(spec.get("group", ""))
    if group.endswith((".k8s.io", ".kubernetes.io")):
        approval = (obj["metadata"].get("annotations") or {}).get("api-approved.kubernetes.io")
        if approval is None:
            detail = (
                "protected groups must have approval annotation "
                '"api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111'
            )
            yield required("metadata.annotations[api-approved.kubernetes.io]", detail)


_CREATE: dict[str, Callable[[Json], Iterator[FieldError]]] = {
    "pods": _pod,
    "services": _service,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "statefulsets.apps": _workload,
    "daemonsets.apps": _workload,
    "jobs.batch": _job,
    "customresourcedefinitions.apiextensions.k8s.io": _crd,
}


def validate_kind(storage: str, obj: Json) -> Iterator[FieldError]:
    if (rules := _CREATE.get(storage)) is not None:
        yield from rules(obj)


def _same(old: Json, new: Json, *names: str) -> Iterator[FieldError]:
    for name in names:
        before, after = (obj.get("spec", {}).get(name) for obj in (old, new))
        if before != after:
            yield invalid_value(f"spec.{name}", after, IMMUTABLE)


def _pod_update(old: Json, new: Json) -> Iterator[FieldError]:
    def comparable(obj: Json) -> Json:
        spec = {
            name: value
            for name, value in obj["spec"].items()
            if name
            not in {
                "tolerations",
                "activeDeadlineSeconds",
                "terminationGracePeriodSeconds",
                "schedulingGates",
                "ephemeralContainers",
            }
        }
        for group in ("containers", "initContainers"):
            if group in spec:
                spec[group] = [{**container, "image": ""} for container in spec[group]]
        return spec

    if comparable(old) != comparable(new):
        detail = f"pod updates may not change fields other than {_MUTABLE_POD_FIELDS}\n"
        yield forbidden_field("spec", detail)


def _stateful_update(old: Json, new: Json) -> Iterator[FieldError]:
    before, after = old["spec"], new["spec"]
    changed = [
        name
        for name in before.keys() | after.keys()
        if name not in _STATEFUL_MUTABLE and before.get(name) != after.get(name)
    ]
    if changed:
        yield forbidden_field(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
            "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        )


def _service_update(old: Json, new: Json) -> Iterator[FieldError]:
    before = old["spec"].get("clusterIP")
    if new["spec"].get("type") != "ExternalName" and before and new["spec"].get("clusterIP") != before:
        yield invalid_value("spec.clusterIPs[0]", new["spec"].get("clusterIPs"), "may not change once set")


def _secret_update(old: Json, new: Json) -> Iterator[FieldError]:
    if old.get("type") != new.get("type"):
        yield invalid_value("type", new.get("type"), IMMUTABLE)
    if old.get("immutable") and old.get("data") != new.get("data"):
        yield forbidden_field("data", "field is immutable when `immutable` is set")


_UPDATE: dict[str, Callable[[Json, Json], Iterator[FieldError]]] = {
    "pods": _pod_update,
    "services": _service_update,
    "secrets": _secret_update,
    "deployments.apps": lambda old, new: _same(old, new, "selector"),
    "replicasets.apps": lambda old, new: _same(old, new, "selector"),
    "daemonsets.apps": lambda old, new: _same(old, new, "selector"),
    "jobs.batch": lambda old, new: _same(old, new, "selector", "template", "completionMode"),
    "statefulsets.apps": _stateful_update,
    "customresourcedefinitions.apiextensions.k8s.io": lambda old, new: _same(old, new, "group", "scope"),
}


def validate_kind_update(storage: str, old: Json, new: Json) -> Iterator[FieldError]:
    if (rules := _UPDATE.get(storage)) is not None:
        yield from rules(old, new)
