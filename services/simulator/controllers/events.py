"""Events of `v1`, which `kubectl describe` shows: recorded by controllers, kept up to a bound."""

from __future__ import annotations

from collections import deque

from services.simulator.core.meta import Json, Key, timestamp
from services.simulator.core.state import ClusterState

EVENTS = "events"


class Recorder:
    """Keeps the newest `limit` events of a cluster (0 records none); a repeated one is counted up."""

    def __init__(self, state: ClusterState, limit: int) -> None:
        self._state = state
        self._limit = limit
        self._kept: deque[Key] = deque()
        self._known: dict[tuple[str, str, str], Key] = {}

    def record(self, obj: Json, reason: str, message: str, component: str, *, warning: bool = False) -> None:
        if not self._limit:
            return
        meta = obj["metadata"]
        identity = (meta["uid"], reason, message)
        now = timestamp(self._state.now)
        collection = self._state.store.collection(EVENTS)
        known = collection.items.get(self._known.get(identity, ("", "")))
        if known is not None:
            changed = {**known.object, "lastTimestamp": now, "count": known.object.get("count", 1) + 1}
            self._state.store.replace(EVENTS, changed)
            return
        self._make_room()
        namespace = meta.get("namespace", "default")
        uid = self._state.ids.uid()
        name = f"{meta['name']}.{uid.replace('-', '')[:16]}"
        self._known[identity] = (namespace, name)
        self._kept.append((namespace, name))
        self._state.store.insert(
            EVENTS,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": now},
                "involvedObject": {
                    "kind": obj["kind"],
                    **({"namespace": meta["namespace"]} if "namespace" in meta else {}),
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "apiVersion": obj["apiVersion"],
                    "resourceVersion": meta.get("resourceVersion", ""),
                },
                "reason": reason,
                "message": message,
                "source": {"component": component},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "type": "Warning" if warning else "Normal",
                "eventTime": None,
                "reportingComponent": component,
                "reportingInstance": "",
            },
        )

    def _make_room(self) -> None:
        while len(self._kept) >= self._limit:
            key = self._kept.popleft()
            if key in self._state.store.collection(EVENTS).items:
                self._state.store.remove(EVENTS, key)
        if len(self._known) > 2 * self._limit:
            kept = set(self._kept)
            self._known = {identity: key for identity, key in self._known.items() if key in kept}
