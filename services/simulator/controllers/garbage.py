"""Removal of what nothing needs any more: dependents of deleted owners, and pods of nodes that are gone.

Source: k8s.io/kubernetes/pkg/controller/{garbagecollector,podgc}.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from services.simulator.controllers.engine import Work
from services.simulator.core.deleting import FOREGROUND, ORPHAN, delete
from services.simulator.core.errors import ApiError
from services.simulator.core.identity import Target
from services.simulator.core.meta import Json, Key, is_deleting, with_meta
from services.simulator.core.options import DeleteOptions
from services.simulator.core.resources import Resource
from services.simulator.core.state import NODES, PODS, ClusterState
from services.simulator.core.store import Event
from services.simulator.core.writing import store_update


def resource_of(state: ClusterState, obj: Json) -> Resource:
    return state.resource(obj["apiVersion"], obj["kind"])


def delete_object(state: ClusterState, obj: Json, options: DeleteOptions) -> None:
    """Deletes this very object; one that is already gone is no problem."""
    meta = obj["metadata"]
    target = Target(resource_of(state, obj), meta.get("namespace", ""), meta["name"])
    try:
        delete(state, target, options)
    except ApiError as error:
        if error.reason not in {"NotFound", "Conflict"}:
            raise


class GarbageCollector:
    """Keys: `gone` an owner's uid; `owner` an object that waits for its dependents; `check` a dependent."""

    watches: frozenset[str] = frozenset()

    def keys(self, storage: str, event: Event) -> Iterable[Hashable]:
        meta = event.item.object["metadata"]
        found: list[Hashable] = []
        if event.type == "DELETED":
            found.append(("gone", meta["uid"]))
            found += [("waiting", reference["uid"]) for reference in meta.get("ownerReferences") or ()]
        elif is_deleting(event.item.object) and {FOREGROUND, ORPHAN} & set(meta.get("finalizers") or ()):
            found.append(("owner", storage, (meta.get("namespace", ""), meta["name"])))
        elif event.type == "ADDED" and meta.get("ownerReferences"):
            found.append(("check", storage, (meta.get("namespace", ""), meta["name"])))
        return found

    def __init__(self) -> None:
        self._foreground: dict[str, tuple[str, Key]] = {}

    def reconcile(self, key: Hashable, work: Work) -> None:
        state = work.state
        match key:
            case ("gone", str(uid)):
                self._foreground.pop(uid, None)
                for storage, name in state.store.dependents(uid):
                    self._collect(state, storage, name)
            case ("waiting", str(uid)) if uid in self._foreground:
                self._finalize(state, *self._foreground[uid])
            case ("owner", str(storage), tuple(name)):
                self._finalize(state, storage, name)
            case ("check", str(storage), tuple(name)):
                self._collect(state, storage, name)

    def _collect(self, state: ClusterState, storage: str, name: Key) -> None:
        """Deletes a dependent if none of its owners exists."""
        item = state.store.collection(storage).items.get(name)
        if item is None:
            return
        references = item.object["metadata"].get("ownerReferences") or []
        alive = [reference for reference in references if self._exists(state, reference, name[0])]
        if not alive and references:
            delete_object(
                state, item.object, DeleteOptions(propagation="Background", uid=item.object["metadata"]["uid"])
            )

    def _exists(self, state: ClusterState, reference: Json, namespace: str) -> bool:
        group = reference["apiVersion"].rpartition("/")[0]
        resource = state.registry.of_group_kind(group, reference["kind"])
        if resource is None:
            return True  # an unknown kind may come back: Kubernetes does not collect either
        owner = state.find(resource.storage, namespace if resource.namespaced else "", reference["name"])
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]

    def _finalize(self, state: ClusterState, storage: str, name: Key) -> None:
        item = state.store.collection(storage).items.get(name)
        if item is None or not is_deleting(item.object):
            return
        finalizers = item.object["metadata"].get("finalizers") or []
        uid = item.object["metadata"]["uid"]
        if ORPHAN in finalizers:
            self._release(state, uid)
            self._drop(state, item.object, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = self._delete_dependents(state, uid)
            if blocking:
                self._foreground[uid] = (storage, name)
            else:
                self._foreground.pop(uid, None)
                self._drop(state, item.object, FOREGROUND)

    def _release(self, state: ClusterState, uid: str) -> None:
        for storage, name in state.store.dependents(uid):
            obj = state.store.collection(storage).items[name].object
            kept = [entry for entry in obj["metadata"]["ownerReferences"] if entry["uid"] != uid]
            state.store.replace(storage, with_meta(obj, ownerReferences=kept or None))

    def _delete_dependents(self, state: ClusterState, uid: str) -> bool:
        """Deletes the dependents, foreground all the way down; True while any that blocks exists."""
        for storage, name in state.store.dependents(uid):
            obj = state.store.collection(storage).items[name].object
            if not is_deleting(obj):
                policy = "Foreground" if state.store.dependents(obj["metadata"]["uid"]) else "Background"
                delete_object(state, obj, DeleteOptions(propagation=policy))
        for storage, name in state.store.dependents(uid):
            references = state.store.collection(storage).items[name].object["metadata"]["ownerReferences"]
            if any(entry["uid"] == uid and entry.get("blockOwnerDeletion") for entry in references):
                return True
        return False

    def _drop(self, state: ClusterState, obj: Json, finalizer: str) -> None:
        kept = [name for name in obj["metadata"]["finalizers"] if name != finalizer]
        store_update(state, resource_of(state, obj), with_meta(obj, finalizers=kept or None))


class OrphanedPodCollector:
    """Deletes the pods of nodes that have not existed for a while: nothing else would finish them."""

    watches = frozenset({NODES, PODS})

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._missing_since: dict[str, float] = {}

    def keys(self, storage: str, event: Event) -> Iterable[str]:
        if storage == NODES:
            return (event.item.object["metadata"]["name"],) if event.type == "DELETED" else ()
        node = event.item.object["spec"].get("nodeName")
        return (node,) if node and event.type != "DELETED" else ()

    def reconcile(self, key: Hashable, work: Work) -> None:
        state, node = work.state, str(key)
        if state.find(NODES, "", node) is not None:
            self._missing_since.pop(node, None)
            return
        left = self._missing_since.setdefault(node, state.now) + self._grace - state.now
        if left > 0:
            work.later(key, left)
            return
        del self._missing_since[node]
        for item in state.store.collection(PODS).indexed("spec.nodeName", node):
            delete_object(state, item.object, DeleteOptions(grace_seconds=0))
