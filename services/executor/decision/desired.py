"""What a command wants, object by object: the bodies to apply, with the marks by which they are known as ours.

A manifest is applied as it stands, except for its top-level metadata: name, namespace, labels and annotations are set
here, and what only a server may write (status, uid, resourceVersion, managedFields, …) is left out, since a manifest
may have been copied from a live object. Pods of a group also get their scheduler's name, which keeps the cluster's own
scheduler away from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.executor.decision.drift import content_hash
from services.executor.decision.fence import Fence
from services.executor.decision.identity import JOB, POD, GroupKind, ObjectId, ServedKind
from shared.events.v1.commands import CommandIssued, ManagedObject, PodGroup
from shared.model.identities import (
    APPLIED_BY,
    APPLIED_BY_LABEL,
    DIGEST_ANNOTATION,
    EPOCH_ANNOTATION,
    GENERATION_ANNOTATION,
    IDENTITY_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    POD_SET_LABEL,
    SCHEDULER_NAME,
    SUBJECT_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
    WORKLOAD_LABEL,
    WORKLOAD_NAMESPACE_LABEL,
    WorkloadKey,
)

_SERVED_METADATA = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields", "selfLink"}
)
_WORKLOAD_PREFIX = "workload/"


class MalformedCommandError(ValueError):
    """The command cannot be carried out as it stands; the message names the field."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object as it should be.

    `content` changes with the object alone, `shape` also with the digest of its command, neither with the generation.
    `keeps_ended` says that it runs to an end and is not run again.
    """

    id: ObjectId
    api_version: str
    body: Mapping[str, Any]
    shape: str
    content: str
    node: str = ""
    template_hash: str = ""
    keeps_ended: bool = False

    @property
    def bound(self) -> bool:
        """Whether it is a pod that Flotilla binds to `node`."""
        return bool(self.node)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A command with its objects' identities: `objects` to be applied, `groups` of pods to be bound."""

    objects: tuple[Wanted, ...]
    groups: tuple[tuple[Wanted, ...], ...]
    by_id: Mapping[ObjectId, Wanted]
    namespaces: tuple[str, ...]
    kinds: tuple[GroupKind, ...]


def fence_of(command: CommandIssued) -> Fence:
    return Fence(command.epoch, command.generation)


def kinds_of(command: CommandIssued) -> tuple[ServedKind, ...]:
    """The kinds that a command names, each once."""
    kinds = {ServedKind(item.manifest["apiVersion"], item.manifest["kind"]): None for item in command.objects}
    if command.pods:
        kinds[ServedKind("v1", "Pod")] = None
    return tuple(kinds)


def check_command(command: CommandIssued, *, cluster: str, key: str) -> None:
    """Raises MalformedCommandError if the command is for another cluster or subject, or an object has no identity."""
    if command.cluster != cluster:
        raise MalformedCommandError(f"cluster: {command.cluster[:80]!r} is not {cluster!r}")
    if command.subject != key:
        raise MalformedCommandError(f"subject: {command.subject[:160]!r} is not the record's key")
    if not command.namespace:
        raise MalformedCommandError("namespace: is empty")
    for index, item in enumerate(command.objects):
        _check_manifest(f"objects.{index}.manifest", item.manifest, named=True)
    for index, group in enumerate(command.pods):
        _check_manifest(f"pods.{index}.manifest", group.manifest, named=False)
        for position, binding in enumerate(group.bindings):
            if not binding.name or not binding.node:
                raise MalformedCommandError(f"pods.{index}.bindings.{position}: name and node must be given")


def _check_manifest(field: str, manifest: Mapping[str, Any], *, named: bool) -> None:
    for name in ("apiVersion", "kind") if named else ():
        if not isinstance(manifest.get(name), str) or not manifest[name]:
            raise MalformedCommandError(f"{field}.{name}: must be a non-empty string")
    metadata = manifest.get("metadata", {})
    if not isinstance(metadata, dict):
        raise MalformedCommandError(f"{field}.metadata: must be an object")
    if named and (not isinstance(metadata.get("name"), str) or not metadata["name"]):
        raise MalformedCommandError(f"{field}.metadata.name: must be a non-empty string")
    if not isinstance(metadata.get("namespace", ""), str):
        raise MalformedCommandError(f"{field}.metadata.namespace: must be a string")
    for name in ("labels", "annotations"):
        if not isinstance(metadata.get(name) or {}, dict):
            raise MalformedCommandError(f"{field}.metadata.{name}: must be an object")
    if not named and not isinstance(manifest.get("spec"), dict):
        raise MalformedCommandError(f"{field}.spec: must be an object")
    try:
        content_hash(manifest)
    except TypeError as error:
        raise MalformedCommandError(f"{field}: {error}") from error


def resolve(command: CommandIssued, namespaced: Callable[[GroupKind], bool]) -> Resolved:
    """The command's objects with their identities, which depend on whether a kind lives in namespaces.

    Raises:
        MalformedCommandError: two of them are the same object.
    """
    objects = tuple(_object(command, item, namespaced) for item in command.objects)
    groups = tuple(tuple(_pods(command, group)) for group in command.pods)
    by_id: dict[ObjectId, Wanted] = {}
    for wanted in (*objects, *(pod for group in groups for pod in group)):
        if wanted.id in by_id:
            raise MalformedCommandError(f"{wanted.id} is named twice")
        by_id[wanted.id] = wanted
    # The command's own namespace holds the memory of its kinds, even if all its objects are elsewhere.
    namespaces = {wanted.id.namespace for wanted in by_id.values() if wanted.id.namespace} | {command.namespace}
    kinds = dict.fromkeys(wanted.id.kind for wanted in by_id.values())
    return Resolved(objects, groups, by_id, tuple(sorted(namespaces)), tuple(kinds))


def _object(command: CommandIssued, item: ManagedObject, namespaced: Callable[[GroupKind], bool]) -> Wanted:
    manifest = item.manifest
    served = ServedKind(manifest["apiVersion"], manifest["kind"])
    given = manifest["metadata"]
    namespace = (given.get("namespace") or command.namespace) if namespaced(served.group_kind) else ""
    object_id = ObjectId(served.group_kind, namespace, given["name"])
    metadata = _metadata(command, item.pod_set, given, object_id)
    body = {key: value for key, value in manifest.items() if key != "status"} | {"metadata": metadata}
    return Wanted(
        id=object_id,
        api_version=served.api_version,
        body=body,
        shape=content_hash([command.digest, item.pod_set, manifest]),
        content=content_hash([item.pod_set, manifest]),
        keeps_ended=served.group_kind == JOB,
    )


def _pods(command: CommandIssued, group: PodGroup) -> Iterator[Wanted]:
    """The pods of a group, which share one specification object."""
    given = group.manifest.get("metadata") or {}
    template_hash = content_hash([group.pod_set, group.manifest])
    spec = {key: value for key, value in group.manifest["spec"].items() if key != "nodeName"}
    spec["schedulerName"] = SCHEDULER_NAME
    for binding in group.bindings:
        object_id = ObjectId(POD, command.namespace, binding.name)
        metadata = _metadata(command, group.pod_set, given, object_id)
        metadata["annotations"][TEMPLATE_HASH_ANNOTATION] = template_hash
        yield Wanted(
            id=object_id,
            api_version="v1",
            body={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
            shape=template_hash,
            content=template_hash,
            node=binding.node,
            template_hash=template_hash,
            keeps_ended=spec.get("restartPolicy", "Always") != "Always",
        )


def _metadata(command: CommandIssued, pod_set: str, given: Mapping[str, Any], object_id: ObjectId) -> dict[str, Any]:
    metadata = {key: value for key, value in given.items() if key not in _SERVED_METADATA and key != "generateName"}
    metadata["name"] = object_id.name
    metadata.pop("namespace", None)
    if object_id.namespace:
        metadata["namespace"] = object_id.namespace
    labels = {**(given.get("labels") or {}), MANAGED_BY_LABEL: MANAGED_BY, APPLIED_BY_LABEL: APPLIED_BY}
    if workload := _workload(command.subject):
        labels |= {WORKLOAD_LABEL: workload.name, WORKLOAD_NAMESPACE_LABEL: workload.namespace}
    if pod_set:
        labels[POD_SET_LABEL] = pod_set
    metadata["labels"] = labels
    own = {IDENTITY_ANNOTATION: str(object_id), **marks(command)}
    metadata["annotations"] = {**(given.get("annotations") or {}), **own}
    return metadata


def marks(command: CommandIssued) -> dict[str, str]:
    """The annotations that say which command an object was last written for: the fence that outlives the process."""
    return {
        SUBJECT_ANNOTATION: command.subject,
        GENERATION_ANNOTATION: str(command.generation),
        EPOCH_ANNOTATION: str(command.epoch),
        DIGEST_ANNOTATION: command.digest,
    }


def _workload(subject: str) -> WorkloadKey | None:
    """The workload of a subject; other subjects (node groups, snapshots) have none."""
    if not subject.startswith(_WORKLOAD_PREFIX):
        return None
    try:
        return WorkloadKey.parse(subject.removeprefix(_WORKLOAD_PREFIX))
    except ValueError:
        return None
