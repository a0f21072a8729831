"""Requests that the autoscaler recommends, in place of those that a workload states (`vertical`). Pure.

What is recommended becomes part of a decision as it is applied: within the workload's policy, with limits in proportion
to requests as they are stated. Whoever reads the decision puts it into the pod template, and needs no policy.

Source: pkg/utils/vpa (capping.go, limit_and_request_scaling.go) of k8s.io/autoscaler/vertical-pod-autoscaler.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from services.scheduler.decision.asked.manifests import Division, image_pod_spec, kind_for, template_in
from services.scheduler.decision.asked.plans import PodSetPlan
from shared.events.v1.decisions import ContainerRequested, PodSetPlacement, Requested
from shared.events.v1.vertical import ANY_CONTAINER, ContainerPolicy, ContainerRequests, Controlled
from shared.events.v1.workloads import FieldError, Manifest, PodSet, Workload
from shared.model.quantities import format_amount, resource_amount
from shared.model.resources import Resources

# Kinds whose pods their controller replaces when the template changes.
_ROLLED: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
_CONTROLLED: Final[tuple[Controlled, ...]] = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Stated:
    """What one container states: cpu in thousandths and memory in bytes, where it says anything of them."""

    name: str
    requests: Mapping[str, int]
    limits: Mapping[str, int]


def stated(workload: Workload, pod_set: PodSet) -> tuple[Stated, ...]:
    """Of each container beside the init containers; of a workload that was found to be valid."""
    spec = _pod_spec(workload, pod_set)
    return tuple(_stated(container) for container in (spec or {}).get("containers") or ())


def rolls(workload: Workload, pod_set: PodSet) -> bool:
    """Whether pods are replaced when their template changes, and go on for as long as they are wanted."""
    spec = _pod_spec(workload, pod_set)
    if spec is None or spec.get("restartPolicy") not in (None, "Always"):
        return False
    if kind_for(pod_set, workload.placement.binding).division is Division.NODES:
        return True
    return pod_set.manifest is None or pod_set.manifest.get("kind") in _ROLLED


def requested_of(
    workload: Workload, pod_set: PodSet, wanted: Iterable[ContainerRequests]
) -> tuple[ContainerRequested, ...]:
    """What becomes of a recommendation, within the workload's policy; nothing where that wants none of it."""
    vertical = workload.vertical
    if vertical is None or not vertical.applies or not rolls(workload, pod_set):
        return ()
    by_name = {item.name: item for item in wanted}
    found = []
    for container in stated(workload, pod_set):
        policy, asked = vertical.policy_of(container.name), by_name.get(container.name)
        if policy is not None and asked is not None and (item := _requested(container, asked, policy)).requests:
            found.append(item)
    return tuple(found)


def capped(container: Stated, policy: ContainerPolicy, resource: Controlled, amount: int) -> int:
    """What may be requested of a recommended amount: within what is allowed, and below a limit that stays."""
    amount, limit = policy.bounded(resource, amount), container.limits.get(resource)
    return min(amount, limit) if limit and policy.controlled_values == "RequestsOnly" else amount


def _requested(container: Stated, wanted: ContainerRequests, policy: ContainerPolicy) -> ContainerRequested:
    requests, limits = dict[str, int](), dict[str, int]()
    for resource in _CONTROLLED:
        amount = wanted.of(resource) if resource in policy.controlled_resources else None
        if amount is None:
            continue
        requests[resource] = amount = capped(container, policy, resource, amount)
        limit = container.limits.get(resource)
        if limit and policy.controlled_values == "RequestsAndLimits":
            # Without a request, Kubernetes takes the limit as one.
            limits[resource] = limit * amount // (container.requests.get(resource) or limit)
    return ContainerRequested(name=container.name, requests=requests, limits=limits)


# --- in the documents ---


def as_requested(workload: Workload, pod_sets: Iterable[PodSetPlacement]) -> Workload:
    """The workload as its pods are made by a decision: with the requests that it applies."""
    requested = {item.name: item.requested for item in pod_sets if item.requested is not None}
    return with_requested(workload, requested) if requested else workload


def with_requested(workload: Workload, requested: Mapping[str, Requested]) -> Workload:
    """`requested` by pod set."""
    if not requested:
        return workload
    changed = tuple(
        _changed(workload, item, requested[item.name].containers) if item.name in requested else item
        for item in workload.pod_sets
    )
    return workload.model_copy(update={"pod_sets": changed})


def _changed(workload: Workload, pod_set: PodSet, containers: Sequence[ContainerRequested]) -> PodSet:
    by_name = {item.name: item for item in containers}
    if pod_set.image is not None:
        item = by_name.get(pod_set.name)
        if item is None:
            return pod_set
        given = _put({"resources": (pod_set.resources or Resources()).model_dump(exclude_defaults=True)}, item)
        return pod_set.model_copy(update={"resources": Resources.model_validate(given["resources"])})
    if pod_set.template is not None:
        return pod_set.model_copy(update={"template": _put_all(pod_set.template, by_name)})
    path = kind_for(pod_set, workload.placement.binding).pod_template
    return pod_set.model_copy(update={"manifest": _put_at(pod_set.manifest or {}, path or (), by_name)})


def _put_at(manifest: Manifest, path: Sequence[str], by_name: Mapping[str, ContainerRequested]) -> Manifest:
    if not path:
        return _put_all(manifest, by_name)
    return {**manifest, path[0]: _put_at(manifest[path[0]], path[1:], by_name)}


def _put_all(template: Manifest, by_name: Mapping[str, ContainerRequested]) -> Manifest:
    containers = [
        _put(container, by_name[container["name"]]) if container["name"] in by_name else container
        for container in template["spec"]["containers"]
    ]
    return {**template, "spec": {**template["spec"], "containers": containers}}


def _put(container: Mapping[str, Any], item: ContainerRequested) -> dict[str, Any]:
    resources = dict(container.get("resources") or {})
    for name, amounts in (("requests", item.requests), ("limits", item.limits)):
        if amounts:
            texts = {resource: format_amount(resource, amount) for resource, amount in amounts.items()}
            resources[name] = {**(resources.get(name) or {}), **texts}
    return {**container, "resources": resources}


def _pod_spec(workload: Workload, pod_set: PodSet) -> Mapping[str, Any] | None:
    """None where there are no pods."""
    if pod_set.image is not None:
        return image_pod_spec(pod_set)
    template = pod_set.template
    if pod_set.manifest is not None:
        template = template_in(pod_set.manifest, kind_for(pod_set, workload.placement.binding))
    spec = (template or {}).get("spec")
    return spec if isinstance(spec, dict) else None


def _stated(container: Mapping[str, Any]) -> Stated:
    resources = container.get("resources") or {}
    requests, limits = (_amounts(resources.get(name) or {}) for name in ("requests", "limits"))
    # What is missing from requests is taken from limits.
    return Stated(str(container.get("name", "")), {**limits, **requests}, limits)


def _amounts(given: Mapping[str, Any]) -> dict[str, int]:
    return {name: resource_amount(name, str(given[name])) for name in _CONTROLLED if given.get(name) is not None}


# --- plans ---


def requested_plans(plans: tuple[PodSetPlan, ...], requested: Mapping[str, Requested]) -> tuple[PodSetPlan, ...]:
    """Plans of a workload that has these requests already, saying so."""
    if not requested:
        return plans
    return tuple(replace(plan, requested=requested.get(plan.name)) for plan in plans)


def requested_in(pod_sets: Iterable[PodSetPlacement]) -> dict[str, Requested]:
    """What a decision applies, by pod set."""
    return {item.name: item.requested for item in pod_sets if item.requested is not None}


# --- what is wrong with it ---


def vertical_errors(workload: Workload) -> tuple[FieldError, ...]:
    """What is wrong with applying recommendations to the pod sets of a workload, which are valid themselves."""
    vertical = workload.vertical
    if vertical is None or not vertical.applies:
        return ()
    containers = {
        item.name: [container.name for container in stated(workload, item)]
        for item in workload.pod_sets
        if rolls(workload, item)
    }
    return tuple(_errors(workload, containers))


def _errors(workload: Workload, containers: Mapping[str, Sequence[str]]) -> Iterator[FieldError]:
    vertical, path = workload.vertical, "workload.vertical"
    assert vertical is not None
    if not containers:
        message = (
            "no pod set has pods that are replaced when their template changes: want an image, a template, a "
            "Deployment, a StatefulSet or a DaemonSet; or use Off"
        )
        yield FieldError(field=f"{path}.updatePolicy.updateMode", reason="Contradiction", message=message)
        return
    known = {name for names in containers.values() for name in names}
    for index, policy in enumerate(vertical.resource_policy.container_policies):
        if policy.container_name != ANY_CONTAINER and policy.container_name not in known:
            message = f"no such pod set has a container {policy.container_name!r}, only {', '.join(sorted(known))}"
            field = f"{path}.resourcePolicy.containerPolicies.{index}.containerName"
            yield FieldError(field=field, reason="Contradiction", message=message)
    yield from _conflicts(workload, containers.get(workload.scaled_pod_set, ()))


def _conflicts(workload: Workload, containers: Sequence[str]) -> Iterator[FieldError]:
    """Replicas that follow a part of what is requested, where what is requested follows what is used."""
    vertical = workload.vertical
    assert vertical is not None
    for field, resource, only in _utilizations(workload):
        for name in containers:
            policy = vertical.policy_of(name) if only in (None, name) else None
            if policy is not None and resource in policy.controlled_resources:
                message = (
                    f"{field} scales replicas by {resource} utilization, and requests of {resource} of container "
                    f"{name!r} follow what it uses: each would undo the other; take {resource} out of the container's "
                    "controlledResources, use a metric of another type, or updateMode Off"
                )
                yield FieldError(
                    field="workload.vertical.updatePolicy.updateMode", reason="Contradiction", message=message
                )
                break


def _utilizations(workload: Workload) -> Iterator[tuple[str, str, str | None]]:
    """Metrics that are a part of what is requested: field, resource, and the container if it is of one alone."""
    if workload.scaling is None:
        return
    if not workload.scaling.metrics:
        yield "scaling, which names no metrics,", "cpu", None
    for index, metric in enumerate(workload.scaling.metrics):
        field = f"scaling.metrics.{index}"
        if metric.resource is not None and metric.resource.target.type == "Utilization":
            yield field, metric.resource.name, None
        source = metric.container_resource
        if source is not None and source.target.type == "Utilization":
            yield field, source.name, source.container
