"""From what list and watch saw to what is known, and to the subjects whose turn that calls for.

Most events are changes of status that call for nothing: a subject is woken only by what a plan would see differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from services.executor.decision.drift import fingerprint
from services.executor.decision.identity import (
    NAMESPACE,
    NAMESPACES,
    NODE,
    NODES,
    Feed,
    GroupKind,
    ObjectId,
    ServedKind,
)
from services.executor.decision.instructions import Watch
from services.executor.decision.live import LiveObject
from services.executor.decision.reading import number, read_meta, read_node, read_object
from services.executor.decision.state import State
from services.executor.decision.stimuli import (
    FeedBroken,
    KindNotServed,
    KindServed,
    ListFinished,
    ListStarted,
    ObjectGone,
    ObjectSeen,
)
from services.executor.decision.world import KindState, read_namespace
from shared.kernel.machine import Instruction


class Observations:
    def __init__(self, state: State) -> None:
        self._state = state
        self._world = state.world
        # Names seen in the list that is under way, for namespaces and nodes.
        self._listed: dict[Feed, set[str]] = {}

    def watch(self, served: ServedKind, cause: str, *, owned: bool = True) -> list[Instruction]:
        """Asks for a feed if it has not been asked for yet."""
        feed = Feed(served.group_kind, owned)
        if owned:
            if served.group_kind in self._world.kinds:
                return []
            self._world.kinds[served.group_kind] = KindState(served)
        elif feed in self._listed:
            return []
        self._listed.setdefault(feed, set())
        return [Watch(cause=cause, feed=feed, served=served)]

    # Kinds

    def on_served(self, stimulus: KindServed) -> list[str]:
        """The subjects that name a kind which turns out to be served, or to live elsewhere than was thought."""
        kind = self._world.kinds[stimulus.kind]
        changed = kind.served is not True or kind.namespaced != stimulus.namespaced
        kind.served, kind.namespaced, kind.message = True, stimulus.namespaced, ""
        return self._naming(stimulus.kind) if changed else []

    def on_not_served(self, stimulus: KindNotServed) -> list[str]:
        kind = self._world.kinds[stimulus.kind]
        changed = kind.served is not False
        kind.served, kind.message = False, stimulus.message
        feed = Feed(stimulus.kind)
        self._world.synced.discard(feed)
        self._world.live.list_started(stimulus.kind)
        for live in self._world.live.list_finished(stimulus.kind, -1):
            self._forget(live)
        return self._naming(stimulus.kind) if changed else []

    def _naming(self, kind: GroupKind) -> list[str]:
        return [
            name
            for name, subject in self._state.subjects.items()
            if subject.command.action == "withdraw"
            or any(wanted.id.kind == kind for wanted in subject.resolved.objects)
        ]

    # Lists

    def on_list_started(self, stimulus: ListStarted) -> list[str]:
        if stimulus.feed.owned:
            self._world.live.list_started(stimulus.feed.kind)
        self._listed[stimulus.feed] = set()
        return []

    def on_list_finished(self, stimulus: ListFinished) -> list[str]:
        feed = stimulus.feed
        self._world.broken.pop(feed, None)
        woken: list[str] = []
        if feed.owned:
            for live in self._world.live.list_finished(feed.kind, number(stimulus.resource_version)):
                woken += self._forget(live)
        else:
            known: dict[str, Any] = self._world.namespaces if feed == NAMESPACES else self._world.nodes
            for name in [name for name in known if name not in self._listed[feed]]:
                woken += self._lose(feed, name)
        if feed not in self._world.synced:
            self._world.synced.add(feed)
            return list(self._state.subjects)
        return woken

    def on_broken(self, stimulus: FeedBroken) -> list[str]:
        self._world.broken[stimulus.feed] = stimulus.message[:256]
        return []

    # Objects

    def on_seen(self, stimulus: ObjectSeen) -> tuple[list[str], list[Instruction]]:
        if stimulus.feed == NODES:
            return self._node_seen(stimulus), []
        if stimulus.feed == NAMESPACES:
            return self._namespace_seen(stimulus)
        return self._object_seen(stimulus), []

    def on_gone(self, stimulus: ObjectGone) -> list[str]:
        meta = read_meta(stimulus.raw)
        if not stimulus.feed.owned:
            return self._lose(stimulus.feed, meta.name)
        kind = stimulus.feed.kind
        object_id = ObjectId(kind, meta.namespace, meta.name)
        last = self._world.live.drop(object_id, meta.uid, number(meta.resource_version))
        if last is None:
            return []
        final = read_object(kind, stimulus.raw)
        return self._forget(replace(last, finished=last.finished or (final is not None and final.finished)))

    def with_fingerprint(self, live: LiveObject, document: dict[str, Any] | bytes) -> LiveObject:
        """The object with its fingerprint, if somebody wants it; the last one if nothing can have changed since."""
        wanted = self._state.wanted(live.id, live.subject)
        if wanted is None:
            return live
        known = self._world.live.get(live.id)
        if known and known.uid == live.uid and known.shape == wanted.shape and known.mark == live.mark != 0:
            return replace(live, shape=known.shape, fingerprint=known.fingerprint)
        content = orjson.loads(document) if isinstance(document, bytes) else document
        return replace(live, shape=wanted.shape, fingerprint=fingerprint(dict(wanted.body), content))

    def _object_seen(self, stimulus: ObjectSeen) -> list[str]:
        kind = stimulus.feed.kind
        live = read_object(kind, stimulus.raw)
        if live is None:
            meta = read_meta(stimulus.raw)
            object_id = ObjectId(kind, meta.namespace, meta.name)
            released = self._world.live.release(object_id, number(meta.resource_version))
            return self._forget(released) if released else []
        self._world.live.listed(live.id)
        known = self._world.live.get(live.id)
        if known is not None and 0 <= live.version <= known.version:
            return []
        live = self.with_fingerprint(live, stimulus.raw)
        if not self._world.live.put(live) or (known is not None and not _matters(known, live)):
            return []
        self._state.recall(live)
        woken = list(self._state.interested(live.id, live.subject, known.subject if known else live.subject))
        return woken + (self._state.short_of_room(known.holds - live.holds) if known else [])

    def _forget(self, live: LiveObject) -> list[str]:
        woken = list(self._state.interested(live.id, live.subject))
        for name in woken:
            self._state.subjects[name].forget_object(live)
        return woken + self._state.short_of_room(live.holds)

    def _node_seen(self, stimulus: ObjectSeen) -> list[str]:
        name, node = read_node(stimulus.raw)
        self._listed[NODES].add(name)
        if self._world.nodes.get(name) == node:
            return []
        self._world.nodes[name] = node
        woken = [key for key, subject in self._state.subjects.items() if name in subject.missing_nodes]
        return woken + self._state.short_of_room((name,))

    def _namespace_seen(self, stimulus: ObjectSeen) -> tuple[list[str], list[Instruction]]:
        meta = read_meta(stimulus.raw)
        self._listed[NAMESPACES].add(meta.name)
        namespace = read_namespace(meta)
        known = self._world.namespaces.get(meta.name)
        self._world.namespaces[meta.name] = namespace
        watches = [item for kind in sorted(namespace.kinds) for item in self.watch(kind, stimulus.id)]
        changed = known is None or known.terminating != namespace.terminating
        return (list(self._within(meta.name)) if changed else []), watches

    def _lose(self, feed: Feed, name: str) -> list[str]:
        if feed == NODES:
            self._world.nodes.pop(name, None)
            # What is being deleted there has nobody left to confirm it.
            subjects = {live.subject for live in self._world.live.on_node(name)} & self._state.subjects.keys()
            return sorted(subjects.union(self._state.short_of_room((name,))))
        self._world.namespaces.pop(name, None)
        return list(self._within(name))

    def _within(self, namespace: str) -> Iterator[str]:
        return (name for name, subject in self._state.subjects.items() if namespace in subject.resolved.namespaces)


def _matters(known: LiveObject, live: LiveObject) -> bool:
    """Whether a plan would see a difference; versions, fences and marks make none."""
    same = replace(live, version=known.version, fence=known.fence, mark=known.mark, asked=known.asked)
    return known != same


NAMESPACE_KIND = ServedKind("v1", NAMESPACE.kind)
NODE_KIND = ServedKind("v1", NODE.kind)
