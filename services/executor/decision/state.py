"""All that one cluster's reconciler holds, and the index from objects to the subjects that want them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.executor.decision.desired import Resolved, Wanted, resolve
from services.executor.decision.fence import OPEN, Fence
from services.executor.decision.identity import ObjectId
from services.executor.decision.lease import Lease
from services.executor.decision.live import LiveObject
from services.executor.decision.subject import Reported, Subject
from services.executor.decision.world import World
from shared.events.v1.commands import CommandIssued

_REMEMBERED_FENCES = 10_000


@dataclass(slots=True)
class State:
    """`caught_up` once the command topic was read to its end: before that a newer command may still come."""

    cluster: str
    lease: Lease = field(default_factory=lambda: Lease(""))
    world: World = field(default_factory=World)
    subjects: dict[str, Subject] = field(default_factory=dict)
    # Which subjects name an object. More than one is a mistake of theirs; who has it keeps it.
    claims: dict[ObjectId, set[str]] = field(default_factory=dict)
    # The subjects with a pod that waits for room, by the node that has none for it.
    full_nodes: dict[str, set[str]] = field(default_factory=dict)
    # A repeat of an old command may follow the tombstone: fences outlive their subjects, the latest of them.
    fences: OrderedDict[str, Fence] = field(default_factory=OrderedDict)
    # What was withdrawn and then forgotten: a write that an API server took late may bring an object of it back.
    withdrawn: dict[str, CommandIssued] = field(default_factory=dict)
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

    def leased(self) -> list[str]:
        """The subjects that run by the lease."""
        return [name for name, known in self.subjects.items() if known.command.leased]

    def note_full(self, subject: Subject, nodes: frozenset[str]) -> frozenset[str]:
        """From now on the subject waits for room on these nodes alone. Returns those on which it did not before."""
        before, subject.full_nodes = subject.full_nodes, nodes
        for node in before - nodes:
            self.full_nodes[node].discard(subject.name)
            if not self.full_nodes[node]:
                del self.full_nodes[node]
        for node in nodes - before:
            self.full_nodes.setdefault(node, set()).add(subject.name)
        return nodes - before

    def short_of_room(self, nodes: Iterable[str]) -> list[str]:
        """The subjects that wait for room on any of these nodes."""
        return sorted({name for node in nodes for name in self.full_nodes.get(node, ())})

    def forget(self, subject: str, by: Fence = OPEN) -> None:
        """Nothing older than what was held, or than `by`, which ended it, is obeyed from now on."""
        known = self.subjects.pop(subject, None)
        if known is None:
            self._remember(subject, self.fence(subject).raised_by(by))
            return
        self.note_full(known, frozenset())
        self.disclaim(subject, known.resolved)
        if known.command.action == "withdraw":
            self.withdrawn[subject] = known.command
        self._remember(subject, known.fence.raised_by(by))

    def _remember(self, subject: str, fence: Fence) -> None:
        self.fences[subject] = fence
        self.fences.move_to_end(subject)
        while len(self.fences) > _REMEMBERED_FENCES:
            oldest, _ = self.fences.popitem(last=False)
            self.withdrawn.pop(oldest, None)

    def recall(self, live: LiveObject) -> None:
        """Takes up again the withdrawal of a forgotten subject if the object was written for what came before it.

        A call whose answer never came may be carried out long after its subject was withdrawn and forgotten. This is no
        deletion for the lack of a command: there was one, it is remembered, and the object is older than it.
        """
        command = self.withdrawn.get(live.subject)
        if command is None or live.deleting or live.fence >= self.fences[live.subject]:
            return
        fence = self.fences.pop(live.subject)
        del self.withdrawn[live.subject]
        resolved = resolve(command, self.world.namespaced)
        said = Reported(command.generation, "withdrawn", "", frozenset())
        self.subjects[live.subject] = Subject(live.subject, command, resolved, fence, reported=said, recalled=True)
