"""StatefulSet: pods with an order and a name each, updated from the last to the first.

Source: k8s.io/kubernetes/pkg/controller/statefulset. Volume claims are made from the templates and count as bound.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import cast

import orjson

from services.simulator.controllers.common import (
    STATEFUL_SETS,
    Templates,
    delete_pod,
    is_available,
    is_finished,
    new_pod,
    owned,
    owner_key,
    ready_since,
    round_percentage,
    store_status,
)
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.core.ids import stable_hash
from services.simulator.core.meta import Json, Key, is_deleting, key_of, labels_of, timestamp
from services.simulator.core.state import PODS, ClusterState
from services.simulator.core.store import Event

REVISION_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
CLAIMS = "persistentvolumeclaims"


class StatefulSetController:
    watches = frozenset({STATEFUL_SETS, PODS})

    def __init__(self, events: Recorder) -> None:
        self._templates = Templates()
        self._events = events

    def keys(self, storage: str, event: Event) -> Iterable[Key]:
        if storage == STATEFUL_SETS:
            return () if event.type == "DELETED" else (key_of(event.item.object),)
        return owner_key(event, "StatefulSet", "apps")

    def reconcile(self, key: Hashable, work: Work) -> None:
        state = work.state
        owner = state.find(STATEFUL_SETS, *cast("Key", key))
        if owner is None:
            return
        wanted = revision_of(owner)
        wait = None
        if not is_deleting(owner):
            wait = self._sync(state, owner, wanted)
        pods = _by_ordinal(state, owner)
        self._report(state, state.find(STATEFUL_SETS, *cast("Key", key)) or owner, list(pods.values()), wanted)
        if wait is not None:
            work.later(key, wait)

    def _sync(self, state: ClusterState, owner: Json, wanted: str) -> float | None:
        """One round of creating, deleting and replacing; seconds until availability may change."""
        spec = owner["spec"]
        start = (spec.get("ordinals") or {}).get("start", 0)
        ordinals = range(start, start + spec["replicas"])
        ordered = spec["podManagementPolicy"] == "OrderedReady"
        minimum = spec.get("minReadySeconds", 0)
        pods = _by_ordinal(state, owner)
        for ordinal in ordinals:
            pod = pods.get(ordinal)
            if pod is None:
                pods[ordinal] = self._create(state, owner, ordinal, wanted)
            elif is_finished(pod) and not is_deleting(pod):
                delete_pod(state, pod, grace=0)
                return 0.0
            if ordered and not _settled(pods[ordinal], minimum, state.now):
                return float(minimum) if minimum and ready_since(pods[ordinal]) is not None else None
        surplus = sorted((ordinal for ordinal in pods if ordinal not in ordinals), reverse=True)
        for ordinal in surplus:
            if not is_deleting(pods[ordinal]):
                delete_pod(state, pods[ordinal])
                self._tell(owner, "SuccessfulDelete", "delete", pods[ordinal])
            if ordered:
                return None
        return self._update(state, owner, {ordinal: pods[ordinal] for ordinal in ordinals}, wanted)

    def _update(self, state: ClusterState, owner: Json, pods: dict[int, Json], wanted: str) -> float | None:
        strategy = owner["spec"]["updateStrategy"]
        if strategy["type"] != "RollingUpdate":
            return None
        rolling = strategy.get("rollingUpdate") or {}
        limit = max(round_percentage(rolling.get("maxUnavailable", 1), owner["spec"]["replicas"], up=True), 1)
        minimum = owner["spec"].get("minReadySeconds", 0)
        unavailable = sum(not _settled(pod, minimum, state.now) for pod in pods.values())
        for ordinal in sorted(pods, reverse=True):
            pod = pods[ordinal]
            if ordinal < rolling.get("partition", 0) or labels_of(pod).get(REVISION_LABEL) == wanted:
                continue
            healthy = _settled(pod, minimum, state.now)
            if healthy and unavailable >= limit:
                return float(minimum) if minimum else None
            if not is_deleting(pod):
                delete_pod(state, pod)
                self._tell(owner, "SuccessfulDelete", "delete", pod)
                unavailable += healthy
        return None

    def _create(self, state: ClusterState, owner: Json, ordinal: int, wanted: str) -> Json:
        template = owner["spec"]["template"]
        name = f"{owner['metadata']['name']}-{ordinal}"
        admitted = self._templates.admitted(owner, template)
        labels = {
            **((template.get("metadata") or {}).get("labels") or {}),
            REVISION_LABEL: wanted,
            NAME_LABEL: name,
            INDEX_LABEL: str(ordinal),
        }
        pod = new_pod(state, owner, template, admitted, name=name, labels=labels)
        spec = {**pod["spec"], "hostname": name}
        if owner["spec"].get("serviceName"):
            spec["subdomain"] = owner["spec"]["serviceName"]
        claims = _claims(state, owner, name)
        if claims:
            kept = [volume for volume in spec.get("volumes") or () if volume["name"] not in claims]
            spec["volumes"] = [
                *kept,
                *({"name": volume, "persistentVolumeClaim": {"claimName": claim}} for volume, claim in claims.items()),
            ]
        stored = state.store.insert(PODS, {**pod, "spec": spec}).object
        self._tell(owner, "SuccessfulCreate", "create", stored)
        return stored

    def _tell(self, owner: Json, reason: str, verb: str, pod: Json) -> None:
        text = f"{verb} Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']} successful"
        self._events.record(owner, reason, text, "statefulset-controller")

    def _report(self, state: ClusterState, owner: Json, pods: list[Json], wanted: str) -> None:
        before = owner.get("status") or {}
        minimum = owner["spec"].get("minReadySeconds", 0)
        updated = [pod for pod in pods if labels_of(pod).get(REVISION_LABEL) == wanted and not is_deleting(pod)]
        current = before.get("currentRevision") or f"{owner['metadata']['name']}-{wanted}"
        if len(updated) == owner["spec"]["replicas"] == len(pods) and all(map(ready_since, pods)):
            current = f"{owner['metadata']['name']}-{wanted}"
        current_pods = [pod for pod in pods if current.endswith(labels_of(pod).get(REVISION_LABEL, "-"))]
        status: Json = {
            "observedGeneration": owner["metadata"]["generation"],
            "replicas": len(pods),
            "availableReplicas": sum(is_available(pod, minimum, state.now) for pod in pods),
            "collisionCount": 0,
            "currentRevision": current,
            "updateRevision": f"{owner['metadata']['name']}-{wanted}",
        }
        counts = {
            "readyReplicas": sum(ready_since(pod) is not None for pod in pods),
            "currentReplicas": len(current_pods),
            "updatedReplicas": len(updated),
        }
        store_status(state, STATEFUL_SETS, owner, status | {name: count for name, count in counts.items() if count})


def revision_of(owner: Json) -> str:
    template = owner["spec"]["template"]
    return stable_hash(orjson.dumps(template, option=orjson.OPT_SORT_KEYS))


def _settled(pod: Json, minimum: int, now: float) -> bool:
    return not is_deleting(pod) and is_available(pod, minimum, now)


def _by_ordinal(state: ClusterState, owner: Json) -> dict[int, Json]:
    found = {}
    for pod in owned(state, owner, PODS):
        ordinal = pod["metadata"]["name"].rpartition("-")[2]
        if ordinal.isdecimal():
            found[int(ordinal)] = pod
    return found


def _claims(state: ClusterState, owner: Json, pod: str) -> dict[str, str]:
    """The claims of a pod by volume name; those that do not exist are made, bound at once."""
    claims = {}
    namespace = owner["metadata"]["namespace"]
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        volume = template["metadata"]["name"]
        name = claims[volume] = f"{volume}-{pod}"
        if state.find(CLAIMS, namespace, name) is not None:
            continue
        requested = (template["spec"].get("resources") or {}).get("requests") or {}
        meta = {
            "name": name,
            "namespace": namespace,
            "uid": state.ids.uid(),
            "creationTimestamp": timestamp(state.now),
            "labels": (owner["spec"]["selector"].get("matchLabels") or {}),
        }
        status = {"phase": "Bound", "accessModes": template["spec"].get("accessModes") or [], "capacity": requested}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": meta,
            "spec": template["spec"],
            "status": status,
        }
        state.store.insert(CLAIMS, claim)
    return claims
