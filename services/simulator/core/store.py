"""The storage of one cluster: versioned objects, indices and a bounded window of events.

Invariants:
- The resource version grows by one with each write and is shared by all resources of the cluster.
- A stored object is never changed in place; its JSON bytes are made at most once and shared by every
  response and every watcher.
- A watch from version v sees each later event exactly once, or is told that v has left the window.
- The cost of a write depends on what changed, not on how much is stored.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from itertools import dropwhile
from typing import Any, Literal

import orjson

from services.simulator.core.meta import Json, Key, key_of

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


class Item:
    """One version of an object, with its bytes made when first asked for."""

    __slots__ = ("_raw", "object", "version")

    def __init__(self, obj: Json, version: int) -> None:
        self.object = obj
        self.version = version
        self._raw: bytes | None = None

    @property
    def raw(self) -> bytes:
        if self._raw is None:
            self._raw = orjson.dumps(self.object)
        return self._raw


class Event:
    """A write: `previous` is None for ADDED, and for DELETED `item` is the last state at a new version."""

    __slots__ = ("_wire", "item", "previous", "type")

    def __init__(self, kind: EventType, item: Item, previous: Item | None) -> None:
        self.type = kind
        self.item = item
        self.previous = previous
        self._wire: bytes | None = None

    @property
    def version(self) -> int:
        return self.item.version

    @property
    def wire(self) -> bytes:
        """The line of a watch stream, shared by all watchers that see the event as it is."""
        if self._wire is None:
            self._wire = watch_line(self.type, self.item.raw)
        return self._wire


def watch_line(kind: str, raw: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), raw)


Listener = Callable[[Event], None]
Indexer = Callable[[Json], str]


class Collection:
    """All objects of one resource, in the order of namespace and name."""

    __slots__ = ("_indexers", "_indices", "events", "items", "listeners", "name", "oldest", "order", "spaces")

    def __init__(self, name: str, version: int, window: int, indexers: dict[str, Indexer]) -> None:
        self.name = name
        self.items: dict[Key, Item] = {}
        self.order: list[Key] = []
        self.spaces: dict[str, dict[str, Item]] = {}
        self.events: deque[Event] = deque(maxlen=window)
        self.oldest = version
        """The version of the newest event that was forgotten: a watch may start there or later."""
        self.listeners: list[Listener] = []
        self._indexers = indexers
        self._indices: dict[str, dict[str, dict[Key, Item]]] = {name: {} for name in indexers}

    def get(self, namespace: str, name: str) -> Item | None:
        return self.items.get((namespace, name))

    def indexed(self, index: str, value: str) -> list[Item]:
        return list(self._indices[index].get(value, {}).values())

    def has_index(self, index: str) -> bool:
        return index in self._indexers

    def in_namespace(self, namespace: str) -> list[Item]:
        """The objects of a namespace (all if it is empty), in order."""
        if not namespace:
            return [self.items[key] for key in self.order]
        space = self.spaces.get(namespace, {})
        return [space[name] for name in sorted(space)]

    def page(self, namespace: str, after: Key | None) -> Iterator[Item]:
        """Objects that follow the key `after`, in order; lazily, so that a page costs a page."""
        start = bisect_left(self.order, after) if after else bisect_left(self.order, (namespace, ""))
        for position in range(start, len(self.order)):
            key = self.order[position]
            if namespace and key[0] != namespace:
                return
            if key != after:
                yield self.items[key]

    def since(self, version: int) -> list[Event]:
        """Events later than a version. The caller has compared it with `oldest`."""
        if not self.events or self.events[-1].version <= version:
            return []
        if self.events[0].version > version:
            return list(self.events)
        recent = []
        for event in reversed(self.events):
            if event.version <= version:
                break
            recent.append(event)
        recent.reverse()
        return recent

    def record(self, event: Event) -> None:
        if len(self.events) == self.events.maxlen:
            self.oldest = self.events[0].version
        self.events.append(event)
        for listener in tuple(self.listeners):
            listener(event)

    def forget_events(self, version: int) -> None:
        """Drops the events up to a version, as compaction does."""
        self.events = deque(dropwhile(lambda event: event.version <= version, self.events), maxlen=self.events.maxlen)
        self.oldest = max(self.oldest, version)

    def place(self, key: Key, item: Item, previous: Item | None) -> None:
        self.items[key] = item
        self.spaces.setdefault(key[0], {})[key[1]] = item
        if previous is None:
            insort(self.order, key)
        for name, indexer in self._indexers.items():
            value = indexer(item.object)
            before = indexer(previous.object) if previous else None
            if before is not None and before != value:
                self._unindex(name, before, key)
            self._indices[name].setdefault(value, {})[key] = item

    def displace(self, key: Key, previous: Item) -> None:
        del self.items[key]
        del self.order[bisect_left(self.order, key)]
        space = self.spaces[key[0]]
        del space[key[1]]
        if not space:
            del self.spaces[key[0]]
        for name, indexer in self._indexers.items():
            self._unindex(name, indexer(previous.object), key)

    def _unindex(self, name: str, value: str, key: Key) -> None:
        bucket = self._indices[name][value]
        bucket.pop(key, None)
        if not bucket:
            del self._indices[name][value]


class Store:
    """Every collection of one cluster, one version counter, and who owns whom."""

    def __init__(self, first_version: int, window: int, indexers: dict[str, dict[str, Indexer]] | None = None) -> None:
        self.version = first_version
        self._window = window
        self._indexers = indexers or {}
        self._collections: dict[str, Collection] = {}
        self._dependents: dict[str, dict[tuple[str, Key], None]] = {}
        self.listeners: list[Callable[[str, Event], None]] = []
        """Called after each write with the collection's name; for controllers."""

    def collection(self, name: str) -> Collection:
        found = self._collections.get(name)
        if found is None:
            found = Collection(name, self.version, self._window, self._indexers.get(name, {}))
            self._collections[name] = found
        return found

    def drop(self, name: str) -> None:
        self._collections.pop(name, None)

    def collections(self) -> list[Collection]:
        return list(self._collections.values())

    def dependents(self, uid: str) -> list[tuple[str, Key]]:
        """(collection, key) of the objects with an owner reference to `uid`."""
        return list(self._dependents.get(uid, ()))

    def insert(self, name: str, obj: Json) -> Item:
        collection, key = self.collection(name), key_of(obj)
        item = self._next(obj)
        collection.place(key, item, None)
        self._own(name, key, {}, obj)
        self._emit(collection, Event("ADDED", item, None))
        return item

    def replace(self, name: str, obj: Json) -> Item:
        collection, key = self.collection(name), key_of(obj)
        previous = collection.items[key]
        item = self._next(obj)
        collection.place(key, item, previous)
        self._own(name, key, previous.object, obj)
        self._emit(collection, Event("MODIFIED", item, previous))
        return item

    def remove(self, name: str, key: Key) -> Item:
        collection = self.collection(name)
        previous = collection.items[key]
        item = self._next(previous.object)
        collection.displace(key, previous)
        self._own(name, key, previous.object, {})
        self._emit(collection, Event("DELETED", item, previous))
        return item

    def _next(self, obj: Json) -> Item:
        self.version += 1
        meta: dict[str, Any] = {**obj["metadata"], "resourceVersion": str(self.version)}
        return Item({**obj, "metadata": meta}, self.version)

    def _own(self, name: str, key: Key, before: Json, after: Json) -> None:
        old = before.get("metadata", {}).get("ownerReferences") or ()
        new = after.get("metadata", {}).get("ownerReferences") or ()
        if old is new:
            return
        kept = {reference["uid"] for reference in new}
        for reference in old:
            if reference["uid"] not in kept:
                bucket = self._dependents.get(reference["uid"], {})
                bucket.pop((name, key), None)
                if not bucket:
                    self._dependents.pop(reference["uid"], None)
        for uid in kept:
            self._dependents.setdefault(uid, {})[name, key] = None

    def _emit(self, collection: Collection, event: Event) -> None:
        collection.record(event)
        for listener in self.listeners:
            listener(collection.name, event)
