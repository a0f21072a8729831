"""Which records of the journal count: fencing by the order of the log alone.

Invariants: the epoch never goes back; of two markers with one epoch the first counts; whatever an epoch appends behind
the marker of a higher one is void. Every reader that begins at the same offset with the same fence comes to the same
verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.events.v1.decisions import DecisionsMade, EpochStarted


@dataclass(slots=True)
class EpochFence:
    epoch: int = 0
    leader: str = ""

    def admits(self, entry: EpochStarted | DecisionsMade) -> bool:
        """Whether this entry, the next in the journal, counts; a marker that does moves the fence."""
        if isinstance(entry, EpochStarted):
            if entry.epoch <= self.epoch:
                return False
            self.epoch, self.leader = entry.epoch, entry.leader
            return True
        return entry.epoch == self.epoch and entry.leader == self.leader
