"""Objects as the API server wrote them, read to what a decision needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from services.executor.decision.fence import Fence
from services.executor.decision.identity import JOB, POD, GroupKind, ObjectId
from services.executor.decision.live import LiveObject
from services.executor.decision.room import Needs, Node, amounts_of, needs_of
from shared.model.identities import (
    APPLIED_BY,
    APPLIED_BY_LABEL,
    EPOCH_ANNOTATION,
    FENCE_ANNOTATION,
    GENERATION_ANNOTATION,
    IDENTITY_ANNOTATION,
    SUBJECT_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
)
from shared.model.pod_objects import PodSpecObject
from shared.model.quantities import QuantityError

T = TypeVar("T")


class _Owner(msgspec.Struct):
    controller: bool | None = None


class ObjectMeta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None
    finalizers: list[str] | None = None
    owner_references: list[_Owner] | None = None


class _AnyObject(msgspec.Struct):
    metadata: ObjectMeta


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct):
    phase: str = ""
    conditions: list[_Condition] | None = None


class _NodeSpec(msgspec.Struct):
    unschedulable: bool = False


class _NodeStatus(msgspec.Struct):
    allocatable: dict[str, str] | None = None


class _NodeObject(msgspec.Struct):
    metadata: ObjectMeta
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _PodObject(msgspec.Struct):
    metadata: ObjectMeta
    spec: PodSpecObject = PodSpecObject()
    status: _Status = msgspec.field(default_factory=_Status)


class _JobObject(msgspec.Struct):
    metadata: ObjectMeta
    status: _Status = msgspec.field(default_factory=_Status)


def read_object(kind: GroupKind, source: bytes | dict[str, Any]) -> LiveObject | None:
    """The object, or None if it is not one that the executor applied. Raises msgspec.ValidationError."""
    if kind == POD:
        pod = _read(source, _PodObject)
        live = _live(kind, pod.metadata)
        return live and replace(
            live,
            node=pod.spec.node_name,
            needs=_needs(pod),
            phase=pod.status.phase,
            ready=_has(pod.status, "Ready"),
            finished=pod.status.phase == "Succeeded" and pod.spec.restart_policy != "Always",
        )
    if kind == JOB:
        job = _read(source, _JobObject)
        live = _live(kind, job.metadata)
        return live and replace(live, finished=_has(job.status, "Complete") or _has(job.status, "Failed"))
    return _live(kind, _read(source, _AnyObject).metadata)


def read_meta(source: bytes | dict[str, Any]) -> ObjectMeta:
    """The metadata of any object. Raises msgspec.ValidationError."""
    return _read(source, _AnyObject).metadata


def read_node(source: bytes) -> tuple[str, Node]:
    """A node's name, and what it has for pods. Raises msgspec.ValidationError."""
    node = _read(source, _NodeObject)
    try:
        allocatable = amounts_of(node.status.allocatable or {})
    except QuantityError as error:
        raise msgspec.ValidationError(str(error)) from error
    schedulable = not node.spec.unschedulable and node.metadata.deletion_timestamp is None
    return node.metadata.name, Node(schedulable, allocatable)


def _needs(pod: _PodObject) -> Needs:
    try:
        return needs_of(pod.spec, pod.metadata.annotations)
    except QuantityError as error:
        raise msgspec.ValidationError(str(error)) from error


def _read(source: bytes | dict[str, Any], model: type[T]) -> T:
    if isinstance(source, bytes):
        return msgspec.json.decode(source, type=model)
    return msgspec.convert(source, type=model)


def _live(kind: GroupKind, meta: ObjectMeta) -> LiveObject | None:
    labels, annotations = meta.labels or {}, meta.annotations or {}
    object_id = ObjectId(kind, meta.namespace, meta.name)
    subject = annotations.get(SUBJECT_ANNOTATION, "")
    if labels.get(APPLIED_BY_LABEL) != APPLIED_BY or not subject:
        return None
    # A person's copy, or what a controller made of our object, has our marks but another name; it is not ours.
    if annotations.get(IDENTITY_ANNOTATION) != str(object_id) or any(o.controller for o in meta.owner_references or ()):
        return None
    return LiveObject(
        id=object_id,
        uid=meta.uid,
        version=number(meta.resource_version),
        subject=subject,
        fence=_fence(annotations),
        mark=_mark(meta.generation, labels, annotations),
        deleting=meta.deletion_timestamp is not None,
        finalizers=tuple(meta.finalizers or ()),
        template_hash=annotations.get(TEMPLATE_HASH_ANNOTATION, ""),
    )


def _fence(annotations: dict[str, str]) -> Fence:
    made_for = Fence(number(annotations.get(EPOCH_ANNOTATION, "")), number(annotations.get(GENERATION_ANNOTATION, "")))
    epoch, _, generation = annotations.get(FENCE_ANNOTATION, "").partition("/")
    return made_for.raised_by(Fence(number(epoch), number(generation)))


def _mark(generation: int, labels: dict[str, str], annotations: dict[str, str]) -> int:
    """Equal marks mean equal specification, labels and annotations; 0 for kinds that count no generations."""
    return hash((generation, frozenset(labels.items()), frozenset(annotations.items()))) if generation else 0


def _has(status: _Status, condition: str) -> bool:
    return any(item.type == condition and item.status == "True" for item in status.conditions or ())


def number(text: str) -> int:
    """A version or generation written as a decimal; -1, which is older than all, if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1  # noqa: PLR2004 - 64 bits
