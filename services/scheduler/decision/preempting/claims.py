"""Who may take whose room.

A claim ranks workloads: the replicas of the lowest rank give way first, those of none never. A claim by priority is the
only one here; whoever has another reason to take room back (a queue that lent it) makes a claim of its own, and hands
it to `Victims` (see there): `rank` must be the same for a workload as long as `version` is, and the claim hashable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads


class Claim(Protocol):
    def rank(self, record: WorkloadRecord) -> int | None:
        """None for a workload that keeps its room."""

    def version(self, workloads: Workloads) -> int:
        """Changes whenever the rank of a workload that has replicas may have, but for its own decisions."""


@dataclass(frozen=True, slots=True)
class PriorityClaim:
    """A workload of this priority takes the room of those of strictly lower priority."""

    priority: int

    def rank(self, record: WorkloadRecord) -> int | None:
        rank = record.placed.rank
        return rank if rank < self.priority else None

    def version(self, workloads: Workloads) -> int:
        return workloads.ranks_changed
