"""What is known of the objects in the cluster: only what a decision needs, from list, watch and answers.

Invariants of the cache:
- It never goes back: of two states of one object the higher resource version stays, whichever way it came. The answer
  to an apply and the watch event of the same write arrive in either order.
- What is gone stays gone: an answer that comes behind the deletion of its object does not bring it back.
- After a list it holds what the list named, and what was written after the list was taken.
- A pod whose binding was asked for is taken to be on that node, until it is known where it is: an answer may be lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from services.executor.decision.fence import Fence
from services.executor.decision.identity import GroupKind, ObjectId
from services.executor.decision.room import NOTHING, Needs

_REMEMBERED_DELETIONS = 10_000
_ENDED = frozenset({"Succeeded", "Failed"})


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
    # Of a pod that is not known to be bound: the nodes to which it may be, since that was asked for.
    asked: frozenset[str] = frozenset()
    needs: Needs = NOTHING
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

    @property
    def places(self) -> frozenset[str]:
        """The node on which it is, or the nodes of which it may be on one."""
        return frozenset((self.node,)) if self.node else self.asked

    @property
    def holds(self) -> frozenset[str]:
        """The nodes on which it takes room, or may."""
        return frozenset() if self.phase in _ENDED else self.places


class LiveObjects:
    """The cache; see the module's docstring."""

    def __init__(self) -> None:
        self._objects: dict[ObjectId, LiveObject] = {}
        self._by_subject: dict[str, set[ObjectId]] = {}
        self._by_place: dict[str, set[ObjectId]] = {}
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
        """The pods that are there, or may be, in no order."""
        return (self._objects[object_id] for object_id in self._by_place.get(node, ()))

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, live: LiveObject) -> bool:
        """Takes a state of an object; False if what is known is newer, or the object is known to be gone."""
        known = self._objects.get(live.id)
        if live.version <= self._gone.get(live.uid, -2) or (known and 0 <= live.version <= known.version):
            return False
        if known and known.uid == live.uid and not live.node:
            live = replace(live, asked=known.asked)
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
        if known and (known.subject != live.subject or known.places != live.places):
            self._unindex(known)
        self._objects[live.id] = live
        self._by_subject.setdefault(live.subject, set()).add(live.id)
        for node in live.places:
            self._by_place.setdefault(node, set()).add(live.id)

    def _unindex(self, live: LiveObject) -> None:
        _discard(self._by_subject, live.subject, live.id)
        for node in live.places:
            _discard(self._by_place, node, live.id)

    def _remember_gone(self, uid: str, version: int) -> None:
        self._gone[uid] = version
        self._gone.move_to_end(uid)
        while len(self._gone) > _REMEMBERED_DELETIONS:
            self._gone.popitem(last=False)


def _discard(index: dict[str, set[ObjectId]], key: str, object_id: ObjectId) -> None:
    ids = index.get(key)
    if ids is not None:
        ids.discard(object_id)
        if not ids:
            del index[key]
