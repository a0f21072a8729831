"""What travels: objects of a workload that its pods need, or that are about its pods, go where the pods go. Pure.

An object without pods follows, within its workload,

- whatever needs it by name: pods their ConfigMaps, Secrets, ServiceAccount, claims, classes; a StatefulSet its Service;
  a ServiceAccount its Secrets, a claim its volume and class;
- what it is about: a Service, PodDisruptionBudget or NetworkPolicy the pods that it selects, an autoscaler its target,
  an Ingress its Services, a RoleBinding its ServiceAccounts, and a Role its bindings.

Over several steps as well: a Role goes where the pods of the ServiceAccount of its RoleBinding are. What reaches no
pods by this is placed as any other object. References to what is not part of the workload count for nothing.

Source for the fields: k8s.io/api core/v1, apps/v1, policy/v1, networking/v1, rbac/v1, autoscaling/v2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from services.scheduler.decision.asked.manifests import kind_for, template_in
from services.scheduler.decision.asked.rendering import rendered_object
from shared.events.v1.workloads import Manifest, Workload
from shared.model.selectors import LabelSelector

# The API group, the kind and the name of an object.
_Id = tuple[str, str, str]
_GroupKind = tuple[str, str]

_IN_CONTAINERS: Mapping[_GroupKind, tuple[str, ...]] = {
    ("", "ConfigMap"): ("envFrom.*.configMapRef.name", "env.*.valueFrom.configMapKeyRef.name"),
    ("", "Secret"): ("envFrom.*.secretRef.name", "env.*.valueFrom.secretKeyRef.name"),
}
_IN_PODS: Mapping[_GroupKind, tuple[str, ...]] = {
    ("", "ConfigMap"): ("volumes.*.configMap.name", "volumes.*.projected.sources.*.configMap.name"),
    ("", "Secret"): (
        "volumes.*.secret.secretName",
        "volumes.*.projected.sources.*.secret.name",
        "volumes.*.csi.nodePublishSecretRef.name",
        "imagePullSecrets.*.name",
    ),
    ("", "ServiceAccount"): ("serviceAccountName", "serviceAccount"),
    ("", "PersistentVolumeClaim"): ("volumes.*.persistentVolumeClaim.claimName",),
    ("scheduling.k8s.io", "PriorityClass"): ("priorityClassName",),
    ("node.k8s.io", "RuntimeClass"): ("runtimeClassName",),
    ("resource.k8s.io", "ResourceClaim"): ("resourceClaims.*.resourceClaimName",),
    ("resource.k8s.io", "ResourceClaimTemplate"): ("resourceClaims.*.resourceClaimTemplateName",),
}
# What objects of a kind need; they and their needs go to the same clusters.
_NEEDS: Mapping[_GroupKind, Mapping[_GroupKind, tuple[str, ...]]] = {
    ("apps", "StatefulSet"): {
        ("", "Service"): ("spec.serviceName",),
        ("storage.k8s.io", "StorageClass"): ("spec.volumeClaimTemplates.*.spec.storageClassName",),
    },
    ("", "ServiceAccount"): {("", "Secret"): ("secrets.*.name", "imagePullSecrets.*.name")},
    ("", "PersistentVolumeClaim"): {
        ("", "PersistentVolume"): ("spec.volumeName",),
        ("storage.k8s.io", "StorageClass"): ("spec.storageClassName",),
    },
    ("rbac.authorization.k8s.io", "RoleBinding"): {
        ("rbac.authorization.k8s.io", "Role"): ("roleRef.name",),
        ("rbac.authorization.k8s.io", "ClusterRole"): ("roleRef.name",),
    },
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): {
        ("rbac.authorization.k8s.io", "ClusterRole"): ("roleRef.name",),
    },
}
# What objects of a kind are about, by name; the kind of an autoscaler's target is for its reference to say.
_ABOUT: Mapping[_GroupKind, Mapping[_GroupKind, tuple[str, ...]]] = {
    ("networking.k8s.io", "Ingress"): {
        ("", "Service"): (
            "spec.defaultBackend.service.name",
            "spec.rules.*.http.paths.*.backend.service.name",
        ),
    },
    ("rbac.authorization.k8s.io", "RoleBinding"): {("", "ServiceAccount"): ("subjects.*.name",)},
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): {("", "ServiceAccount"): ("subjects.*.name",)},
}
_TARGETS: Mapping[_GroupKind, str] = {
    ("autoscaling", "HorizontalPodAutoscaler"): "spec.scaleTargetRef",
    ("autoscaling.k8s.io", "VerticalPodAutoscaler"): "spec.targetRef",
}
# Where the selector of pods is, and whether it is a map of labels or a whole LabelSelector.
_SELECTORS: Mapping[_GroupKind, tuple[str, bool]] = {
    ("", "Service"): ("spec.selector", False),
    ("policy", "PodDisruptionBudget"): ("spec.selector", True),
    ("networking.k8s.io", "NetworkPolicy"): ("spec.podSelector", True),
}


def followed(workload: Workload) -> dict[str, tuple[str, ...]]:
    """For each pod set that follows others: the pod sets with pods that it follows, in the workload's order.

    For workloads whose pod sets are valid.
    """
    members = [_Member(workload, index) for index in range(len(workload.pod_sets))]
    by_id = {member.id: member for member in members}
    leads: dict[str, set[str]] = {member.name: set() for member in members}
    for member in members:
        for needed in member.needs():
            if needed in by_id:
                leads[by_id[needed].name].add(member.name)
        for other in members:
            if member.is_about(other):
                leads[member.name].add(other.name)
    carriers = [member.name for member in members if member.carries]
    return {
        member.name: reached
        for member in members
        if not member.carries and (reached := _reached(member.name, leads, carriers))
    }


def _reached(start: str, leads: Mapping[str, set[str]], carriers: list[str]) -> tuple[str, ...]:
    seen, waiting = {start}, [start]
    while waiting:
        found = leads[waiting.pop()] - seen
        seen |= found
        waiting += found
    return tuple(name for name in carriers if name in seen)


class _Member:
    """One pod set's object, as it is rendered. `carries` says whether it has pods."""

    def __init__(self, workload: Workload, index: int) -> None:
        pod_set = workload.pod_sets[index]
        kind = kind_for(pod_set, workload.placement.binding)
        self.name = pod_set.name
        self.manifest: Manifest = rendered_object(workload, pod_set)
        template = template_in(self.manifest, kind)
        self.carries = template is not None
        self.labels = _labels(template or {})
        self._spec = (template or {}).get("spec") or {}
        self._kind: _GroupKind = (_group(self.manifest.get("apiVersion")), str(self.manifest.get("kind")))
        self.id: _Id = (*self._kind, str(self.manifest["metadata"].get("name", f"{workload.name}-{pod_set.name}")))

    def needs(self) -> Iterator[_Id]:
        containers = [*_walk(self._spec, "initContainers.*"), *_walk(self._spec, "containers.*")]
        for kind, paths in _IN_CONTAINERS.items():
            yield from ((*kind, name) for container in containers for name in _texts(container, paths))
        for kind, paths in _IN_PODS.items():
            yield from ((*kind, name) for name in _texts(self._spec, paths))
        for kind, paths in _NEEDS.get(self._kind, {}).items():
            yield from ((*kind, name) for name in _texts(self.manifest, paths))

    def is_about(self, other: _Member) -> bool:
        paths = _ABOUT.get(self._kind, {}).get(other._kind)
        if paths is not None:
            return other.id[2] in _texts(self.manifest, paths)
        if self._kind in _TARGETS:
            return any(_target(found) == other.id for found in _walk(self.manifest, _TARGETS[self._kind]))
        return other.carries and self._kind in _SELECTORS and self._selects(other.labels)

    def _selects(self, labels: Mapping[str, str]) -> bool:
        path, whole = _SELECTORS[self._kind]
        selector = next(_walk(self.manifest, path), None)
        if not isinstance(selector, dict) or (not whole and not selector):
            return False
        try:
            parsed = LabelSelector.model_validate(selector if whole else {"matchLabels": selector})
        except ValidationError:
            # It is for the API server to refuse.
            return False
        return parsed.matches(labels)


def _target(reference: Any) -> _Id | None:
    if not isinstance(reference, dict):
        return None
    return _group(reference.get("apiVersion")), str(reference.get("kind")), str(reference.get("name"))


def _group(api_version: object) -> str:
    return str(api_version or "").rpartition("/")[0]


def _labels(template: Mapping[str, Any]) -> dict[str, str]:
    metadata = template.get("metadata")
    return dict(metadata.get("labels") or {}) if isinstance(metadata, dict) else {}


def _texts(document: Any, paths: tuple[str, ...]) -> list[str]:
    return [found for path in paths for found in _walk(document, path) if isinstance(found, str)]


def _walk(document: Any, path: str) -> Iterator[Any]:
    """What is at a path, where `*` stands for every item of a list; nothing where the document has another form."""
    part, _, rest = path.partition(".")
    if part == "*":
        found = document if isinstance(document, list) else []
    else:
        found = [document[part]] if isinstance(document, dict) and part in document else []
    for item in found:
        if rest:
            yield from _walk(item, rest)
        else:
            yield item


def own_claims(workload: Workload) -> frozenset[str]:
    """The names of the persistent volume claims that are pod sets of the workload."""
    found = set()
    for manifest in filter(None, (pod_set.manifest for pod_set in workload.pod_sets)):
        metadata = manifest.get("metadata")
        if manifest.get("kind") == "PersistentVolumeClaim" and isinstance(metadata, dict):
            found.add(str(metadata.get("name")))
    return frozenset(found)
