"""Who leads: whoever was replaced ends soon, and nobody is replaced without a cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.events.registry import DecodeError, decode
from shared.events.topics import DECISIONS, EPOCH_STARTED
from shared.events.v1.decisions import DecisionsMade, EpochStarted
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import Appended

# What a leader that was replaced, and is awake and connected, may take to learn of it.
_LEARNS_MS = 20_000
# A trouble of one of two replicas explains a takeover for so long.
_EXPLAINS_MS = 60_000
# What is silent for less is not to be replaced.
_LEASE_MS = 1_500
_HARMLESS = frozenset({"jump_clock"})


@dataclass(slots=True)
class _Term:
    leader: str = ""
    epoch: int = 0
    began_ms: int = 0
    last_ms: int = 0
    resigned: bool = False


@dataclass(slots=True)
class _Lives:
    """When something happened to a process, by its service's name; what touches all of them stands under no name."""

    events: dict[str, list[int]] = field(default_factory=dict)

    def troubled(self, process: str, since_ms: int, until_ms: int) -> bool:
        name = process.partition("#")[0]
        return any(since_ms <= at <= until_ms for who in (name, "") for at in self.events.get(who, ()))


def check(evidence: Evidence) -> Iterator[Violation]:
    lives = _Lives()
    for life in evidence.history.lives:
        # What was started had ended before, and that is an event of its own.
        if life.event != "started" and life.detail not in _HARMLESS:
            lives.events.setdefault(life.process.partition("#")[0], []).append(life.at_ms)
    term = _Term()
    for append in evidence.history.appends:
        if append.topic != DECISIONS.name:
            continue
        entry = _entry(append)
        if isinstance(entry, EpochStarted) and entry.epoch > term.epoch:
            yield from _taken_over(term, entry, append.at_ms, lives)
            term = _Term(entry.leader, entry.epoch, append.at_ms, append.at_ms)
        elif isinstance(entry, DecisionsMade) and (entry.epoch, entry.leader) == (term.epoch, term.leader):
            term.last_ms, term.resigned = append.at_ms, entry.resigned
        elif isinstance(entry, DecisionsMade):
            yield from _void(term, entry, append.at_ms, lives)


def _entry(append: Appended) -> EpochStarted | DecisionsMade | None:
    """None for what is no entry at all: everybody may write nonsense somewhere."""
    try:
        if dict(append.headers).get("ce_type") == EPOCH_STARTED.ce_type.encode():
            return decode(EpochStarted, append.value)
        return decode(DecisionsMade, append.value)
    except DecodeError:
        return None


def _taken_over(term: _Term, entry: EpochStarted, at_ms: int, lives: _Lives) -> Iterator[Violation]:
    if not term.epoch or term.resigned or at_ms - term.last_ms >= _LEASE_MS:
        return
    since = at_ms - _EXPLAINS_MS
    # Candidates of one moment follow one another: the second has appended its marker before it heard of the first.
    if at_ms - term.began_ms < _LEARNS_MS or any(
        lives.troubled(who, since, at_ms) for who in (term.leader, entry.leader)
    ):
        return
    message = f"{entry.leader} replaced {term.leader}, which had appended {at_ms - term.last_ms} ms before"
    yield Violation("needless takeover", f"epoch {entry.epoch}", message)


def _void(term: _Term, entry: DecisionsMade, at_ms: int, lives: _Lives) -> Iterator[Violation]:
    since = at_ms - _LEARNS_MS
    if term.began_ms < since and not lives.troubled(entry.leader, since, at_ms):
        message = f"{entry.leader} still appends {at_ms - term.began_ms} ms after epoch {term.epoch} began"
        yield Violation("leads on", f"epoch {entry.epoch}", message)
