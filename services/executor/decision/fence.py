"""The fencing token of a subject: what is older than what was applied is never applied again.

A command is admitted if neither its epoch nor its generation is below the fence. Both are compared: a leader that does
not know that it was replaced may append to the journal behind its successor, so that a higher generation
carries an older epoch. An equal pair is a repeat, and admitted: applying it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fence:
    epoch: int = -1
    generation: int = -1

    def admits(self, other: Fence) -> bool:
        return other.epoch >= self.epoch and other.generation >= self.generation

    def raised_by(self, other: Fence) -> Fence:
        return Fence(max(self.epoch, other.epoch), max(self.generation, other.generation))


OPEN = Fence()
