"""Namespaces and custom resource definitions that are being deleted: their content goes first."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from services.simulator.controllers.engine import Work
from services.simulator.controllers.garbage import delete_object
from services.simulator.core.crds import CLEANUP, CRD
from services.simulator.core.meta import is_deleting, timestamp, with_meta, with_spec
from services.simulator.core.options import DeleteOptions
from services.simulator.core.state import NAMESPACES, ClusterState
from services.simulator.core.store import Event
from services.simulator.core.writing import store_update

SERVICE_ACCOUNTS = "serviceaccounts"
ROOT_CA = "kube-root-ca.crt"
_POLL = 0.2


class NamespaceController:
    """Empties a terminating namespace, and gives a new one its default service account."""

    watches = frozenset({NAMESPACES})

    def keys(self, storage: str, event: Event) -> Iterable[str]:
        del storage
        return () if event.type == "DELETED" else (event.item.object["metadata"]["name"],)

    def reconcile(self, key: Hashable, work: Work) -> None:
        state, name = work.state, str(key)
        namespace = state.find(NAMESPACES, "", name)
        if namespace is None:
            return
        if not is_deleting(namespace):
            ensure_service_account(state, name)
            return
        remaining = 0
        for collection in state.store.collections():
            for item in collection.in_namespace(name) if name in collection.spaces else ():
                delete_object(state, item.object, DeleteOptions(propagation="Background"))
            remaining += len(collection.spaces.get(name, ()))
        if remaining:
            work.later(key, _POLL)
            return
        kept = [entry for entry in namespace["spec"].get("finalizers") or () if entry != "kubernetes"]
        namespace = state.find(NAMESPACES, "", name) or namespace
        store_update(state, state.resource("v1", "Namespace"), with_spec(namespace, finalizers=kept))


def ensure_service_account(state: ClusterState, namespace: str) -> None:
    base = {"namespace": namespace, "creationTimestamp": timestamp(state.now)}
    if state.find(SERVICE_ACCOUNTS, namespace, "default") is None:
        meta = {"name": "default", "uid": state.ids.uid(), **base}
        state.store.insert(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})


class DefinitionController:
    """Deletes the objects of a custom resource definition before the definition itself."""

    watches = frozenset({CRD})

    def keys(self, storage: str, event: Event) -> Iterable[str]:
        del storage
        return () if event.type == "DELETED" else (event.item.object["metadata"]["name"],)

    def reconcile(self, key: Hashable, work: Work) -> None:
        state = work.state
        crd = state.find(CRD, "", str(key))
        if crd is None:
            return
        resource = state.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        finalizers = crd["metadata"].get("finalizers") or []
        if not is_deleting(crd):
            return
        collection = state.store.collection(str(key))
        for item in list(collection.items.values()):
            delete_object(state, item.object, DeleteOptions(propagation="Background"))
        if collection.items:
            work.later(key, _POLL)
        elif CLEANUP in finalizers:
            kept = [name for name in finalizers if name != CLEANUP]
            store_update(state, resource, with_meta(crd, finalizers=kept or None))
