"""What is known of the objects in the cluster: only what a decision needs, from list, watch and answers.

Invariants of the cache:
- It never goes back: of two states of one object the higher resource version stays, whichever way it came. The answer
  to an apply and the watch event of the same write arrive in either order.
- What is gone stays gone: an answer that comes behind the deletion of its object does not bring it back.
- After a list it holds what the list named, and what was written after the list was taken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from services.executor.decision.fence import Fence
from services.executor.decision.identity import JOB, POD, GroupKind, ObjectId
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

T = TypeVar("T")

_REMEMBERED_DELETIONS = 10_000


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


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str | None = None
    restart_policy: str = "Always"


class _Status(msgspec.Struct):
    phase: str = ""
    conditions: list[_Condition] | None = None


class _NodeSpec(msgspec.Struct):
    unschedulable: bool = False


class _NodeObject(msgspec.Struct):
    metadata: ObjectMeta
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)


class _PodObject(msgspec.Struct):
    metadata: ObjectMeta
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _Status = msgspec.field(default_factory=_Status)


class _JobObject(msgspec.Struct):
    metadata: ObjectMeta
    status: _Status = msgspec.field(default_factory=_Status)


@dataclass(frozen=True, slots=True)
class LiveObject:
    """One object that the executor applied, as last seen. `mark` tells whether its specification may have changed."""

    id: ObjectId
    uid: str
    version: int
    subject: str
    fence: Fence
    mark: int = 0
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    template_hash: str = ""
    node: str = ""
    phase: str = ""
    ready: bool = False
    finished: bool = False
    # Fingerprint at the places of the manifest with this shape, where it was computed.
    shape: str = ""
    fingerprint: bytes = b""

    @property
    def failed(self) -> bool:
        return self.phase == "Failed"

    @property
    def available(self) -> bool:
        """Whether it is a pod that serves."""
        return bool(self.node) and self.ready and not self.deleting


def read_object(kind: GroupKind, source: bytes | dict[str, Any]) -> LiveObject | None:
    """The object, or None if it is not one that the executor applied. Raises msgspec.ValidationError."""
    if kind == POD:
        pod = _read(source, _PodObject)
        live = _live(kind, pod.metadata)
        return live and replace(
            live,
            node=pod.spec.node_name or "",
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


def read_node(source: bytes) -> tuple[str, bool]:
    """A node's name, and whether pods may be put there. Raises msgspec.ValidationError."""
    node = _read(source, _NodeObject)
    return node.metadata.name, not node.spec.unschedulable and node.metadata.deletion_timestamp is None


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


class LiveObjects:
    """The cache; see the module's docstring."""

    def __init__(self) -> None:
        self._objects: dict[ObjectId, LiveObject] = {}
        self._by_subject: dict[str, set[ObjectId]] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._listed: dict[GroupKind, set[ObjectId]] = {}

    def get(self, object_id: ObjectId) -> LiveObject | None:
        return self._objects.get(object_id)

    def of(self, subject: str) -> Iterator[LiveObject]:
        """The objects of a subject, in the order of their identities."""
        return (self._objects[object_id] for object_id in sorted(self._by_subject.get(subject, ())))

    def counts(self) -> dict[str, int]:
        """How many objects there are of each subject that has any."""
        return {subject: len(ids) for subject, ids in self._by_subject.items()}

    def on_node(self, node: str) -> Iterator[LiveObject]:
        return (live for live in self._objects.values() if live.node == node)

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, live: LiveObject) -> bool:
        """Takes a state of an object; False if what is known is newer, or the object is known to be gone."""
        known = self._objects.get(live.id)
        if live.version <= self._gone.get(live.uid, -2) or (known and 0 <= live.version <= known.version):
            return False
        self._store(live, known)
        return True

    def amend(self, live: LiveObject) -> None:
        """Replaces what is known of the same object, without a new version of it."""
        known = self._objects.get(live.id)
        if known and known.uid == live.uid:
            self._store(live, known)

    def drop(self, object_id: ObjectId, uid: str, version: int) -> LiveObject | None:
        """Removes the object with this uid, gone since this version. Returns what was removed.

        It may be back with a later version and the same uid: a watch by label says deleted of what loses its label.
        """
        known = self._objects.get(object_id)
        if known is not None and known.uid == uid and version < known.version:
            return None
        self._remember_gone(uid, version)
        if known is None or known.uid != uid:
            return None
        del self._objects[object_id]
        self._unindex(known)
        return known

    def release(self, object_id: ObjectId, version: int) -> LiveObject | None:
        """Forgets an object that is there but, since this version of it, no longer ours."""
        known = self._objects.get(object_id)
        if known is None or version <= known.version:
            return None
        del self._objects[object_id]
        self._unindex(known)
        return known

    def list_started(self, kind: GroupKind) -> None:
        self._listed[kind] = set()

    def listed(self, object_id: ObjectId) -> None:
        self._listed.setdefault(object_id.kind, set()).add(object_id)

    def list_finished(self, kind: GroupKind, version: int) -> Iterable[LiveObject]:
        """Removes and returns what the list did not name, unless it was written after the list was taken."""
        listed = self._listed.pop(kind, set())
        missing = [
            live
            for object_id, live in self._objects.items()
            if object_id.kind == kind and object_id not in listed and (version < 0 or live.version <= version)
        ]
        for live in missing:
            self.drop(live.id, live.uid, max(version, live.version))
        return missing

    def _store(self, live: LiveObject, known: LiveObject | None) -> None:
        if known and known.subject != live.subject:
            self._unindex(known)
        self._objects[live.id] = live
        self._by_subject.setdefault(live.subject, set()).add(live.id)

    def _unindex(self, live: LiveObject) -> None:
        ids = self._by_subject.get(live.subject)
        if ids is not None:
            ids.discard(live.id)
            if not ids:
                del self._by_subject[live.subject]

    def _remember_gone(self, uid: str, version: int) -> None:
        self._gone[uid] = version
        self._gone.move_to_end(uid)
        while len(self._gone) > _REMEMBERED_DELETIONS:
            self._gone.popitem(last=False)
