"""Deployment: one ReplicaSet for each pod template, and a rolling change from the old to the new.

Source: k8s.io/kubernetes/pkg/controller/deployment (rolling.go, sync.go, progress.go).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import cast

import orjson

from services.simulator.controllers.common import (
    DEPLOYMENTS,
    HASH_LABEL,
    REPLICA_SETS,
    owned,
    owner_key,
    round_percentage,
)
from services.simulator.controllers.deployment_status import deployment_status
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.core.ids import stable_hash
from services.simulator.core.meta import (
    Json,
    Key,
    annotations_of,
    is_deleting,
    key_of,
    owner_reference,
    timestamp,
    with_meta,
    with_spec,
)
from services.simulator.core.state import ClusterState
from services.simulator.core.store import Event

REVISION = "deployment.kubernetes.io/revision"
_DESIRED = "deployment.kubernetes.io/desired-replicas"
_MAXIMUM = "deployment.kubernetes.io/max-replicas"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class _Limits:
    replicas: int
    surge: int
    unavailable: int

    @property
    def maximum(self) -> int:
        return self.replicas + self.surge


def _limits(deployment: Json) -> _Limits:
    spec = deployment["spec"]
    replicas, strategy = spec["replicas"], spec["strategy"]
    if strategy["type"] == "Recreate":
        return _Limits(replicas, 0, replicas)
    rolling = strategy.get("rollingUpdate") or {}
    surge = round_percentage(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = round_percentage(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if not surge and not unavailable:
        unavailable = 1
    return _Limits(replicas, surge, unavailable)


class DeploymentController:
    watches = frozenset({DEPLOYMENTS, REPLICA_SETS})

    def __init__(self, events: Recorder) -> None:
        self._events = events

    def keys(self, storage: str, event: Event) -> Iterable[Key]:
        if storage == DEPLOYMENTS:
            return () if event.type == "DELETED" else (key_of(event.item.object),)
        return owner_key(event, "Deployment", "apps")

    def reconcile(self, key: Hashable, work: Work) -> None:
        namespace, name = cast("Key", key)
        state = work.state
        deployment = state.find(DEPLOYMENTS, namespace, name)
        if deployment is None:
            return
        if not is_deleting(deployment):
            self._sync(state, deployment)
        deployment = state.find(DEPLOYMENTS, namespace, name) or deployment
        self._report(state, deployment, work)

    def _sync(self, state: ClusterState, deployment: Json) -> None:
        sets = owned(state, deployment, REPLICA_SETS)
        wanted = _hash(deployment)
        new = next((entry for entry in sets if entry["metadata"]["labels"].get(HASH_LABEL) == wanted), None)
        old = [entry for entry in sets if entry is not new]
        if deployment["spec"].get("paused"):
            return
        if new is None:
            if deployment["spec"]["strategy"]["type"] == "Recreate" and self._stop_all(state, deployment, old):
                return
            new = self._create_set(state, deployment, wanted, old)
        else:
            new = self._mark_current(state, deployment, new, old)
        if deployment["spec"]["strategy"]["type"] == "Recreate":
            if not self._stop_all(state, deployment, old):
                self._resize(state, deployment, new, deployment["spec"]["replicas"])
        else:
            self._roll(state, deployment, new, old)
        self._clean_up(state, deployment, old)

    def _roll(self, state: ClusterState, deployment: Json, new: Json, old: list[Json]) -> None:
        limits = _limits(deployment)
        total = new["spec"]["replicas"] + sum(entry["spec"]["replicas"] for entry in old)
        current = new["spec"]["replicas"]
        if current > limits.replicas:
            new = self._resize(state, deployment, new, limits.replicas)
        elif current < limits.replicas:
            room = limits.maximum - total
            if room > 0:
                new = self._resize(state, deployment, new, min(limits.replicas, current + room))
        self._shrink_old(state, deployment, new, old, limits)

    def _shrink_old(self, state: ClusterState, deployment: Json, new: Json, old: list[Json], limits: _Limits) -> None:
        total = new["spec"]["replicas"] + sum(entry["spec"]["replicas"] for entry in old)
        new_missing = new["spec"]["replicas"] - new.get("status", {}).get("availableReplicas", 0)
        budget = total - (limits.replicas - limits.unavailable) - new_missing
        if budget <= 0:
            # Counts of available pods lag behind what was scaled down already; what is asked for does not.
            return
        for entry in sorted(old, key=lambda item: item["metadata"]["creationTimestamp"]):
            unhealthy = entry["spec"]["replicas"] - entry.get("status", {}).get("availableReplicas", 0)
            remove = min(max(budget, 0), max(unhealthy, 0))
            if remove:
                old[old.index(entry)] = self._resize(state, deployment, entry, entry["spec"]["replicas"] - remove)
                budget -= remove
        available = sum(entry.get("status", {}).get("availableReplicas", 0) for entry in (new, *old))
        spare = available - (limits.replicas - limits.unavailable)
        for entry in sorted(old, key=lambda item: item["metadata"]["creationTimestamp"]):
            remove = min(max(spare, 0), entry["spec"]["replicas"])
            if remove:
                self._resize(state, deployment, entry, entry["spec"]["replicas"] - remove)
                spare -= remove

    def _stop_all(self, state: ClusterState, deployment: Json, old: list[Json]) -> bool:
        """Scales the old sets to nothing; True while they still have pods."""
        for entry in old:
            if entry["spec"]["replicas"]:
                self._resize(state, deployment, entry, 0)
        return any(entry.get("status", {}).get("replicas") for entry in old)

    def _resize(self, state: ClusterState, deployment: Json, entry: Json, replicas: int) -> Json:
        before = entry["spec"]["replicas"]
        if before == replicas:
            return entry
        limits = _limits(deployment)
        annotations = {
            **annotations_of(entry),
            _DESIRED: str(limits.replicas),
            _MAXIMUM: str(limits.maximum),
        }
        changed = with_meta(
            with_spec(entry, replicas=replicas),
            annotations=annotations,
            generation=entry["metadata"]["generation"] + 1,
        )
        stored = state.store.replace(REPLICA_SETS, changed).object
        direction = "up" if replicas > before else "down"
        message = f"Scaled {direction} replica set {entry['metadata']['name']} from {before} to {replicas}"
        self._events.record(deployment, "ScalingReplicaSet", message, "deployment-controller")
        return stored

    def _create_set(self, state: ClusterState, deployment: Json, wanted: str, old: list[Json]) -> Json:
        spec, meta = deployment["spec"], deployment["metadata"]
        limits = _limits(deployment)
        existing = sum(entry["spec"]["replicas"] for entry in old)
        replicas = limits.replicas if not old else max(0, min(limits.replicas, limits.maximum - existing))
        template = spec["template"]
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: wanted}
        selector = {
            **spec["selector"],
            "matchLabels": {**(spec["selector"].get("matchLabels") or {}), HASH_LABEL: wanted},
        }
        revision = 1 + max((_revision(entry) for entry in old), default=0)
        replica_set = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{wanted}",
                "namespace": meta["namespace"],
                "uid": state.ids.uid(),
                "generation": 1,
                "creationTimestamp": timestamp(state.now),
                "labels": labels,
                "annotations": {
                    **_inherited(deployment),
                    _DESIRED: str(limits.replicas),
                    _MAXIMUM: str(limits.maximum),
                    REVISION: str(revision),
                },
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": replicas,
                **({"minReadySeconds": spec["minReadySeconds"]} if "minReadySeconds" in spec else {}),
                "selector": selector,
                "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
            },
            "status": {"replicas": 0},
        }
        stored = state.store.insert(REPLICA_SETS, replica_set).object
        self._set_revision(state, deployment, revision)
        message = f"Scaled up replica set {stored['metadata']['name']} from 0 to {replicas}"
        self._events.record(deployment, "ScalingReplicaSet", message, "deployment-controller")
        return stored

    def _mark_current(self, state: ClusterState, deployment: Json, new: Json, old: list[Json]) -> Json:
        """A set that becomes the new one again (a rollback) takes the newest revision."""
        highest = max((_revision(entry) for entry in old), default=0)
        revision = _revision(new)
        if revision <= highest:
            revision = highest + 1
            annotations = {**annotations_of(new), REVISION: str(revision)}
            new = state.store.replace(REPLICA_SETS, with_meta(new, annotations=annotations)).object
        self._set_revision(state, deployment, revision)
        return new

    def _set_revision(self, state: ClusterState, deployment: Json, revision: int) -> None:
        current = state.find(DEPLOYMENTS, *key_of(deployment)) or deployment
        if annotations_of(current).get(REVISION) != str(revision):
            annotations = {**annotations_of(current), REVISION: str(revision)}
            state.store.replace(DEPLOYMENTS, with_meta(current, annotations=annotations))

    def _clean_up(self, state: ClusterState, deployment: Json, old: list[Json]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        finished = [
            entry
            for entry in owned(state, deployment, REPLICA_SETS)
            if any(entry["metadata"]["uid"] == other["metadata"]["uid"] for other in old)
            and not entry["spec"]["replicas"]
            and not entry.get("status", {}).get("replicas")
        ]
        for entry in sorted(finished, key=_revision)[: max(0, len(finished) - limit)]:
            state.store.remove(REPLICA_SETS, key_of(entry))

    def _report(self, state: ClusterState, deployment: Json, work: Work) -> None:
        sets = owned(state, deployment, REPLICA_SETS)
        wanted = _hash(deployment)
        new = next((entry for entry in sets if entry["metadata"]["labels"].get(HASH_LABEL) == wanted), None)
        status, wait = deployment_status(deployment, new, sets, _limits(deployment).unavailable, state.now)
        if status != deployment.get("status"):
            state.store.replace(DEPLOYMENTS, {**deployment, "status": status})
        if wait is not None:
            work.later(key_of(deployment), wait)


def _hash(deployment: Json) -> str:
    template = deployment["spec"]["template"]
    return stable_hash(orjson.dumps(template, option=orjson.OPT_SORT_KEYS))


def _revision(replica_set: Json) -> int:
    return int(annotations_of(replica_set).get(REVISION, "0"))


def _inherited(deployment: Json) -> dict[str, str]:
    return {name: value for name, value in annotations_of(deployment).items() if name not in {_LAST_APPLIED, REVISION}}
