"""Kinds of Kubernetes objects, as far as the scheduler must know them: how they divide, and where their pods are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.events.v1.workloads import Binding, Manifest, PodSet, Workload


class Division(StrEnum):
    """How the replicas of a pod set spread over clusters."""

    DIVIDED = "divided"  # each replica by itself; a cluster is told its count
    NODES = "nodes"  # each replica by itself, to a node; Flotilla binds it
    TOGETHER = "together"  # all pods in one cluster, or none
    EVERYWHERE = "everywhere"  # one copy in each eligible cluster
    FOLLOWS = "follows"  # one copy in each cluster where pods are that it belongs to; see `dependencies`


@dataclass(frozen=True, slots=True)
class Kind:
    """`pod_template` is the path to `{metadata, spec}` of the pods; None where there are none to be seen."""

    division: Division
    pod_template: tuple[str, ...] | None
    restart_policies: frozenset[str]
    needs_selector: bool = False


_ALWAYS = frozenset({"Always"})
_TO_THE_END = frozenset({"OnFailure", "Never"})
_TEMPLATE = ("spec", "template")
_KINDS: Mapping[tuple[str, str], Kind] = {
    ("apps/v1", "Deployment"): Kind(Division.DIVIDED, _TEMPLATE, _ALWAYS, needs_selector=True),
    ("apps/v1", "StatefulSet"): Kind(Division.DIVIDED, _TEMPLATE, _ALWAYS, needs_selector=True),
    ("apps/v1", "ReplicaSet"): Kind(Division.DIVIDED, _TEMPLATE, _ALWAYS, needs_selector=True),
    ("apps/v1", "DaemonSet"): Kind(Division.EVERYWHERE, _TEMPLATE, _ALWAYS, needs_selector=True),
    ("batch/v1", "Job"): Kind(Division.TOGETHER, _TEMPLATE, _TO_THE_END),
    ("v1", "Pod"): Kind(Division.TOGETHER, (), _ALWAYS | _TO_THE_END),
}
# As the API server sets it.
_DEFAULT_GRACE_S = 30
_OTHER = Kind(Division.TOGETHER, None, frozenset())
_DEPLOYMENT = _KINDS["apps/v1", "Deployment"]
_POD = _KINDS["v1", "Pod"]


def is_pod(manifest: Manifest) -> bool:
    return (manifest.get("apiVersion"), manifest.get("kind")) == ("v1", "Pod")


def kind_of(manifest: Manifest) -> Kind:
    """What is known of a manifest's kind; a kind that is not known has no pods and is placed whole."""
    return _KINDS.get((str(manifest.get("apiVersion")), str(manifest.get("kind"))), _OTHER)


def kind_for(pod_set: PodSet, binding: Binding) -> Kind:
    """The kind of object that a pod set becomes in the clusters. What has no pods is bound by nobody."""
    if pod_set.manifest is not None:
        kind = kind_of(pod_set.manifest)
    else:
        kind = _DEPLOYMENT if binding is Binding.CLUSTER else _POD
    if binding is Binding.NODE and kind.pod_template is not None:
        return Kind(Division.NODES, kind.pod_template, kind.restart_policies)
    return kind


def template_in(manifest: Manifest, kind: Kind) -> dict[str, Any] | None:
    """The part of an object that has the metadata and the specification of its pods; None where there is none."""
    if kind.pod_template is None:
        return None
    found: Any = manifest
    for part in kind.pod_template:
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def grace_ms(workload: Workload) -> int:
    """How long pods of a workload may take to end, at most."""
    longest = 0
    for pod_set in workload.pod_sets:
        template = pod_set.template
        if pod_set.manifest is not None:
            template = template_in(pod_set.manifest, kind_of(pod_set.manifest))
        spec = (template or {}).get("spec")
        asked = spec.get("terminationGracePeriodSeconds") if isinstance(spec, dict) else None
        longest = max(longest, asked if isinstance(asked, int) else _DEFAULT_GRACE_S)
    return longest * 1000


def image_pod_spec(pod_set: PodSet) -> dict[str, Any]:
    """The pod spec of the short form: one container, named as the pod set."""
    container: dict[str, Any] = {"name": pod_set.name, "image": pod_set.image}
    if pod_set.command:
        container["command"] = list(pod_set.command)
    if pod_set.args:
        container["args"] = list(pod_set.args)
    if pod_set.env:
        container["env"] = [variable.model_dump() for variable in pod_set.env]
    if pod_set.ports:
        container["ports"] = [port.model_dump(by_alias=True, exclude_none=True) for port in pod_set.ports]
    if pod_set.resources is not None:
        resources = pod_set.resources.model_dump(exclude_defaults=True)
        if resources:
            container["resources"] = resources
    return {"containers": [container]}
