"""What is remembered of one subject between its turns: its command, what was settled, what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.executor.decision.backoff import Repairs, Retry
from services.executor.decision.desired import Resolved, fence_of
from services.executor.decision.fence import Fence
from services.executor.decision.identity import ObjectId
from services.executor.decision.live import LiveObject
from shared.events.v1.commands import CommandIssued


@dataclass(frozen=True, slots=True)
class Settled:
    """An object that was brought to its desired state: what it looked like then."""

    uid: str
    shape: str
    fingerprint: bytes

    def drifted(self, live: LiveObject) -> bool:
        comparable = live.shape == self.shape and live.fingerprint and self.fingerprint
        return live.uid != self.uid or bool(comparable and live.fingerprint != self.fingerprint)


@dataclass(frozen=True, slots=True)
class Reported:
    """What was said last, as far as saying it again would be news."""

    generation: int
    outcome: str
    reason: str
    failures: frozenset[tuple[str, str]]


@dataclass(slots=True)
class Subject:
    name: str
    command: CommandIssued
    resolved: Resolved
    fence: Fence
    traceparent: str = ""
    settled: dict[ObjectId, Settled] = field(default_factory=dict)
    retries: dict[ObjectId, Retry] = field(default_factory=dict)
    repairs: dict[ObjectId, Repairs] = field(default_factory=dict)
    # Pods whose deletion without grace was asked for, since their node is gone.
    forced: set[str] = field(default_factory=set)
    # The content with which objects ran to their end that are gone now.
    ended: dict[ObjectId, str] = field(default_factory=dict)
    stamped: Fence | None = None
    # When the fence of a repeat is to be written; None if there is none, or no turn saw it yet.
    stamp_at_ms: int | None = None
    missing_nodes: frozenset[str] = frozenset()
    full_nodes: frozenset[str] = frozenset()
    waiting_since_ms: int | None = None
    resync_at_ms: int = 0
    reported: Reported | None = None
    # Its command has ended; it is here to be withdrawn once more, and is forgotten again after that.
    recalled: bool = False

    def take(self, command: CommandIssued, resolved: Resolved, traceparent: str) -> None:
        """Replaces the command by one that the fence admits. Another content begins with a clean slate of failures."""
        if command.digest != self.command.digest or command.action != self.command.action:
            self.retries.clear()
            self.waiting_since_ms = None
        self.command, self.resolved, self.traceparent = command, resolved, traceparent
        self.recalled = False
        self.fence = self.fence.raised_by(fence_of(command))
        self.stamped = None

    def forget_unnamed(self) -> None:
        """Drops memory of objects that the command no longer names, so that a subject's memory is bounded by it."""
        named = self.resolved.by_id
        memories: tuple[dict[ObjectId, Any], ...] = (self.settled, self.repairs, self.ended)
        for memory in memories:
            for object_id in [key for key in memory if key not in named]:
                del memory[object_id]

    def forget_object(self, live: LiveObject) -> None:
        """The object is gone: what failed about it does not matter any more, and what ended stays ended."""
        self.forced.discard(live.uid)
        self.retries.pop(live.id, None)
        settled, wanted = self.settled.get(live.id), self.resolved.by_id.get(live.id)
        if live.finished and settled is not None and wanted is not None and settled.uid == live.uid:
            self.ended[live.id] = wanted.content

    def resync(self) -> None:
        """Makes the next turn apply every object again, whatever is known of it."""
        for wanted in self.resolved.by_id.values():
            self.settled.pop(wanted.id, None)
