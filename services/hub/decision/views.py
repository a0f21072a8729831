"""Custom resources as the hub sees them: the few fields that decisions need, parsed once for each version of an object.

A view never fails to parse: what the API server let through but the models refuse becomes a `Refusal`, which the user
reads in the object's conditions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from services.hub.decision.resources import (
    ORIGIN_JOINED,
    ORIGIN_LABEL,
    ORIGIN_TOPIC,
    ClusterSpec,
    WorkloadSpec,
    object_name_error,
)
from shared.events.registry import field_errors
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.workloads import ApplyWorkload, FieldError, Workload
from shared.model.identities import WorkloadKey
from shared.model.names import dns_label_error

Json = dict[str, Any]
M = TypeVar("M", bound=BaseModel)

# The hub's own name among field managers: what it writes is no action of a user.
HUB_MANAGER: Final = "flotilla-hub"
UNKNOWN_ACTOR: Final = "unknown"
# Of the metadata these are about the object on the hub, not about the workload.
_HUB_PREFIXES: Final = ("flotilla.dev/", "kubectl.kubernetes.io/")


@dataclass(frozen=True, slots=True)
class Owner:
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Meta:
    """`actor` is the field manager that wrote the specification last: the best the object says of who it was."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    owner: Owner | None = None
    actor: str = UNKNOWN_ACTOR

    @property
    def origin(self) -> str:
        return self.labels.get(ORIGIN_LABEL, "")


@dataclass(frozen=True, slots=True)
class Request:
    """What a Workload asks of the fleet. The id is the same for the same wish, so that a repeat changes nothing."""

    id: str
    workload: Workload

    def body(self) -> bytes:
        return WorkloadRequested(root=ApplyWorkload(operation="apply", workload=self.workload)).to_json()


def deletion_id(uid: str) -> str:
    """The event id of the request that deletes what the object of this uid stands for."""
    return f"{uid}.delete"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is wrong with an object that the API server let through."""

    id: str
    errors: tuple[FieldError, ...]


@dataclass(frozen=True, slots=True)
class WorkloadView:
    meta: Meta
    spec: Json
    status: Json
    wish: Request | Refusal

    @property
    def key(self) -> WorkloadKey:
        return WorkloadKey(self.meta.namespace, self.meta.name)

    @property
    def mirrors(self) -> bool:
        """Whether it shows what was requested elsewhere, rather than asks for something itself."""
        return self.meta.origin == ORIGIN_TOPIC


@dataclass(frozen=True, slots=True)
class ClusterView:
    meta: Meta
    spec: Json
    status: Json
    declared: ClusterSpec | Refusal

    @property
    def joined_by_itself(self) -> bool:
        return self.meta.origin == ORIGIN_JOINED


def workload_view(document: Json) -> WorkloadView:
    meta, spec = meta_of(document), document.get("spec") or {}
    return WorkloadView(meta, spec, document.get("status") or {}, _wish(meta, spec))


def cluster_view(document: Json) -> ClusterView:
    meta, spec = meta_of(document), document.get("spec") or {}
    return ClusterView(meta, spec, document.get("status") or {}, _declared(meta, spec))


def workload_of(namespace: str, name: str, meta: Meta, spec: WorkloadSpec) -> Workload:
    """The workload that a custom resource stands for. Raises ValidationError."""
    return Workload(
        namespace=namespace,
        name=name,
        labels=_outward(meta.labels),
        annotations=_outward(meta.annotations),
        priority=spec.priority,
        priority_class=spec.priority_class,
        preemption_policy=spec.preemption_policy,
        queue=spec.queue,
        pod_sets=spec.pod_sets,
        placement=spec.placement,
        scaling=spec.scaling,
        vertical=spec.vertical,
    )


def check_cluster(name: str, document: Any) -> ClusterSpec | tuple[FieldError, ...]:
    """A Cluster's specification, or what is wrong with it."""
    if error := dns_label_error(name):
        return (FieldError(field="metadata.name", reason="Invalid", message=f"{name[:80]!r} {error}"),)
    spec = _checked(ClusterSpec, document)
    if isinstance(spec, ClusterSpec) and (error := object_name_error("spec.workloads", name, spec.workloads)):
        return (FieldError(field="spec.workloads", reason="Invalid", message=error),)
    return spec


def check_workload(meta: Meta, document: Any) -> Workload | tuple[FieldError, ...]:
    """A Workload's meaning, or what is wrong with it."""
    if problem := dns_label_error(meta.name):
        return (FieldError(field="metadata.name", reason="Invalid", message=f"{meta.name[:80]!r} {problem}"),)
    spec = _checked(WorkloadSpec, document)
    if not isinstance(spec, WorkloadSpec):
        return spec
    try:
        return workload_of(meta.namespace, meta.name, meta, spec)
    except ValidationError as error:
        return _under("spec", field_errors(error))


def specification(workload: Workload) -> Json:
    """The `spec` of a Workload resource that asks for this workload, in the shortest form."""
    spec = WorkloadSpec(
        priority=workload.priority,
        priority_class=workload.priority_class,
        preemption_policy=workload.preemption_policy,
        queue=workload.queue,
        pod_sets=workload.pod_sets,
        placement=workload.placement,
        scaling=workload.scaling,
        vertical=workload.vertical,
    )
    return dump(spec)


def dump(model: BaseModel) -> Json:
    """Wire form without what is absent or as by default."""
    document: Json = model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return document


def _wish(meta: Meta, spec: Json) -> Request | Refusal:
    checked = check_workload(meta, spec)
    if isinstance(checked, Workload):
        digest = hashlib.sha256(checked.to_json()).hexdigest()[:12]
        return Request(f"{meta.uid}.{meta.generation}.{digest}", checked)
    return Refusal(f"{meta.uid}.{meta.generation}", checked)


def _declared(meta: Meta, spec: Json) -> ClusterSpec | Refusal:
    checked = check_cluster(meta.name, spec)
    return checked if isinstance(checked, ClusterSpec) else Refusal(f"{meta.uid}.{meta.generation}", checked)


def _checked(model: type[M], document: Any) -> M | tuple[FieldError, ...]:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        return _under("spec", field_errors(error))


def _under(prefix: str, errors: tuple[FieldError, ...]) -> tuple[FieldError, ...]:
    return tuple(
        FieldError(field=f"{prefix}.{item.field}" if item.field else prefix, reason=item.reason, message=item.message)
        for item in errors
    )


def _outward(entries: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in entries.items() if not name.startswith(_HUB_PREFIXES)}


def meta_of(document: Json) -> Meta:
    """Raises KeyError without a name, TypeError or AttributeError for what is no object of Kubernetes."""
    meta = document.get("metadata") or {}
    return Meta(
        name=meta["name"],
        namespace=meta.get("namespace", ""),
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 0),
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        finalizers=tuple(meta.get("finalizers") or ()),
        deleting="deletionTimestamp" in meta,
        owner=_owner(meta.get("ownerReferences") or ()),
        actor=_actor(meta.get("managedFields") or ()),
    )


def _owner(references: Any) -> Owner | None:
    """The controlling owner."""
    return next((Owner(item["kind"], item["name"], item["uid"]) for item in references if item.get("controller")), None)


def _actor(managed: Any) -> str:
    entries = [
        (item.get("time", ""), item["manager"])
        for item in managed
        if not item.get("subresource") and item.get("manager") and not item["manager"].startswith("flotilla")
    ]
    return max(entries)[1] if entries else UNKNOWN_ACTOR
