"""The built-in resources: one line each, as `kubectl api-resources` would list them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from services.simulator.core.resources import CRUD, READ_ONLY, Resource, ScaleSpec
from services.simulator.schemas.builtin import builtin_types
from services.simulator.schemas.roots import KIND_TYPES

_SHORT = {
    "Namespace": ("ns",),
    "Node": ("no",),
    "Pod": ("po",),
    "Service": ("svc",),
    "ConfigMap": ("cm",),
    "ServiceAccount": ("sa",),
    "PersistentVolumeClaim": ("pvc",),
    "PersistentVolume": ("pv",),
    "Endpoints": ("ep",),
    "ReplicationController": ("rc",),
    "ResourceQuota": ("quota",),
    "LimitRange": ("limits",),
    "Deployment": ("deploy",),
    "ReplicaSet": ("rs",),
    "StatefulSet": ("sts",),
    "DaemonSet": ("ds",),
    "CronJob": ("cj",),
    "PodDisruptionBudget": ("pdb",),
    "StorageClass": ("sc",),
    "HorizontalPodAutoscaler": ("hpa",),
    "CustomResourceDefinition": ("crd", "crds"),
    "Ingress": ("ing",),
    "NetworkPolicy": ("netpol",),
    "PriorityClass": ("pc",),
    "Event": ("ev",),
}
_ALL = {
    "Pod",
    "Service",
    "ReplicationController",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "HorizontalPodAutoscaler",
}
_CLUSTER_SCOPED = {
    "Namespace",
    "Node",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "StorageClass",
    "VolumeAttachment",
    "CSINode",
    "CSIDriver",
    "CustomResourceDefinition",
    "APIService",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "IngressClass",
    "PriorityClass",
    "RuntimeClass",
    "SelfSubjectAccessReview",
    "SelfSubjectReview",
}
_WITH_STATUS = {
    "Namespace",
    "Node",
    "Pod",
    "Service",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "ReplicationController",
    "ResourceQuota",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "PodDisruptionBudget",
    "VolumeAttachment",
    "HorizontalPodAutoscaler",
    "CustomResourceDefinition",
    "APIService",
    "ValidatingAdmissionPolicy",
    "Ingress",
}
_SCALED = {"Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"}
_CREATE_ONLY = {"Binding", "SelfSubjectAccessReview", "SelfSubjectReview"}
_NOT_SERVED = {"Eviction", "Scale"}
"""Kinds that only subresources use."""

_IRREGULAR = {
    "Endpoints": "endpoints",
    "NetworkPolicy": "networkpolicies",
    "Ingress": "ingresses",
    "IngressClass": "ingressclasses",
    "StorageClass": "storageclasses",
    "PriorityClass": "priorityclasses",
    "RuntimeClass": "runtimeclasses",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}
_POD_SUBRESOURCES = (("binding", "", "v1", "Binding"), ("eviction", "policy", "v1", "Eviction"))


def plural_of(kind: str) -> str:
    return _IRREGULAR.get(kind, f"{kind.lower()}s")


@lru_cache(maxsize=1)
def builtin_resources() -> tuple[Resource, ...]:
    types = builtin_types()
    resources = []
    for (group, version, kind), type_name in KIND_TYPES.items():
        if kind in _NOT_SERVED:
            continue
        resources.append(
            Resource(
                group=group,
                version=version,
                kind=kind,
                plural=plural_of(kind),
                singular=kind.lower(),
                namespaced=kind not in _CLUSTER_SCOPED,
                schema=types.type(type_name),
                short_names=_SHORT.get(kind, ()),
                categories=_categories(kind),
                verbs=("create",) if kind in _CREATE_ONLY else CRUD,
                status=kind in _WITH_STATUS,
                scale=ScaleSpec() if kind in _SCALED else None,
                subresources=_POD_SUBRESOURCES if kind == "Pod" else (),
            )
        )
    return (*resources, *_metrics())


def _categories(kind: str) -> tuple[str, ...]:
    if kind in _ALL:
        return ("all",)
    return ("api-extensions",) if "Webhook" in kind or kind == "CustomResourceDefinition" else ()


def _metrics() -> tuple[Resource, ...]:
    def resource(kind: str, plural: str, **more: Any) -> Resource:
        return Resource("metrics.k8s.io", "v1beta1", kind, plural, "", verbs=READ_ONLY, **more)

    return resource("NodeMetrics", "nodes", namespaced=False), resource("PodMetrics", "pods", namespaced=True)
