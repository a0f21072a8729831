"""What the reconciler of a cluster is told: commands, what list and watch saw, turns and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.executor.decision.backoff import CallFailed
from services.executor.decision.identity import Feed, GroupKind
from services.executor.decision.instructions import Call
from shared.events.v1.commands import CommandIssued
from shared.kernel.machine import Stimulus


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSeen(Stimulus):
    """A record of the command topic, of key `subject`."""

    subject: str
    command: CommandIssued
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandMalformed(Stimulus):
    """A record that is no command. What could be read of it says which one it was."""

    subject: str
    message: str
    epoch: int = 0
    generation: int = 0
    digest: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandTombstoned(Stimulus):
    """The subject is to be forgotten. Without a place in the journal it is not known what that is newer than."""

    subject: str
    epoch: int | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandsRead(Stimulus):
    """All that the topic held has been told: after the first read to its end, and after each batch from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindServed(Stimulus):
    kind: GroupKind
    namespaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KindNotServed(Stimulus):
    """The cluster has no such kind, so there are no such objects; it is asked again."""

    kind: GroupKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListStarted(Stimulus):
    feed: Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSeen(Stimulus):
    """An object as listed or watched, in the bytes that the server wrote."""

    feed: Feed
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectGone(Stimulus):
    """`raw` is its last state."""

    feed: Feed
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFinished(Stimulus):
    feed: Feed
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedBroken(Stimulus):
    """The list or watch fails and is tried again."""

    feed: Feed
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted(Stimulus):
    """A worker has a subject, alone, and asks what to do. `chance` is a random number in [0, 1)."""

    subject: str
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLooked(Stimulus):
    """It is time to look whether the lease has to be asked for, or is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReturned(Stimulus):
    """What the API server answered to a call: an object, or a failure."""

    call: Call
    answer: dict[str, Any] | CallFailed
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectFailed(Stimulus):
    """The decision itself raised for a subject: a defect here, reported like any failure."""

    subject: str
    message: str
