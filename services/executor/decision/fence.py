"""The fencing token of a subject: what is older than what was applied is never applied again.

Fences are ordered by epoch, then by generation. In the journal both only rise: what an older epoch appends behind the
marker of a newer one is void. So among valid commands the order is that of the generations, and a void one, of a leader
that does not know that it was replaced, is below all of its successor's, whatever its generation. If one was
applied all the same, since nothing was left in the cluster that could tell, the successor's command replaces it.
An equal pair is a repeat, and admitted: applying it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    epoch: int = -1
    generation: int = -1

    def admits(self, other: Fence) -> bool:
        return other >= self

    def __str__(self) -> str:
        return f"{self.epoch}/{self.generation}"

    def raised_by(self, other: Fence) -> Fence:
        return max(self, other)


OPEN = Fence()
