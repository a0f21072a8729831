"""All that one cluster's reconciler holds, and the index from objects to the subjects that want them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.executor.decision.desired import Resolved, Wanted
from services.executor.decision.fence import OPEN, Fence
from services.executor.decision.identity import ObjectId
from services.executor.decision.subject import Subject
from services.executor.decision.world import World

_REMEMBERED_FENCES = 10_000


@dataclass(slots=True)
class State:
    """`caught_up` once the command topic was read to its end: before that a newer command may still come."""

    cluster: str
    world: World = field(default_factory=World)
    subjects: dict[str, Subject] = field(default_factory=dict)
    # Which subjects name an object. More than one is a mistake of theirs; who has it keeps it.
    claims: dict[ObjectId, set[str]] = field(default_factory=dict)
    # A repeat of an old command may follow the tombstone: fences outlive their subjects, the latest of them.
    fences: OrderedDict[str, Fence] = field(default_factory=OrderedDict)
    caught_up: bool = False

    def fence(self, subject: str) -> Fence:
        known = self.subjects.get(subject)
        return known.fence if known else self.fences.get(subject, OPEN)

    def claim(self, subject: str, resolved: Resolved) -> None:
        for object_id in resolved.by_id:
            self.claims.setdefault(object_id, set()).add(subject)

    def disclaim(self, subject: str, resolved: Resolved) -> None:
        for object_id in resolved.by_id:
            names = self.claims.get(object_id)
            if names is not None:
                names.discard(subject)
                if not names:
                    del self.claims[object_id]

    def wanted(self, object_id: ObjectId, subject: str) -> Wanted | None:
        """What the subject, or else the only one that names the object, wants it to be."""
        names = self.claims.get(object_id)
        if not names:
            return None
        name = subject if subject in names else min(names)
        return self.subjects[name].resolved.by_id.get(object_id)

    def interested(self, object_id: ObjectId, *subjects: str) -> Iterator[str]:
        """The commanded subjects to which an object matters."""
        names = self.claims.get(object_id, set()).union(subjects)
        return (name for name in sorted(names) if name in self.subjects)

    def forget(self, subject: str) -> None:
        known = self.subjects.pop(subject, None)
        if known is None:
            return
        self.disclaim(subject, known.resolved)
        self.fences[subject] = known.fence
        self.fences.move_to_end(subject)
        while len(self.fences) > _REMEMBERED_FENCES:
            self.fences.popitem(last=False)
