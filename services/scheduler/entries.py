"""The decisions of one round as entries of the journal, in none of which a workload is decided upon twice.

The generation of a decision is its entry's offset, and executors and status take an equal generation for a repetition.
So a second decision on a workload begins another entry. A `WorkloadForgotten` that ends no command has no generation,
and stands in the entry of the decision that it ends: one append says that a workload is gone, and from which request
that came. One that ends commands does so by a generation of its own, as they have one.

An entry before the last says only which requests it has answered. Reports are consumed by the last: what they
confirm is decided at the end of the round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shared.events.v1.decisions import Decision, Positions, ReadAhead, WorkloadForgotten, WorkloadPlaced


@dataclass(frozen=True, slots=True)
class Seen:
    """What had been consumed when something was decided; no positions mean: as before."""

    inputs: Positions = field(default_factory=dict)
    ahead: ReadAhead | None = None


@dataclass(slots=True)
class Entry:
    """`seen` is None for the last entry: everything that was."""

    decisions: list[Decision] = field(default_factory=list)
    seen: Seen | None = None


class Round:
    def __init__(self) -> None:
        self._closed: list[Entry] = []
        self._open: list[Decision] = []
        self._keys: set[str] = set()
        self.count = 0

    def add(self, decisions: Iterable[Decision], before: Callable[[], Seen]) -> None:
        """Takes what was decided next; `before` says how far requests had been answered before that."""
        for decision in decisions:
            key = decision.workload.key_text if isinstance(decision, WorkloadPlaced) else decision.key
            if key in self._keys and not _ends_the_same(decision):
                self._closed.append(Entry(self._open, before()))
                self._open, self._keys = [], set()
            self._open.append(decision)
            self._keys.add(key)
            self.count += 1

    def entries(self) -> list[Entry]:
        """In the order in which they are to be appended; empty if nothing was decided."""
        return [*self._closed, Entry(self._open)] if self._open else []


def _ends_the_same(decision: Decision) -> bool:
    """Whether it may stand with the decision before it on its workload."""
    return isinstance(decision, WorkloadForgotten) and not decision.retired
