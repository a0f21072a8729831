"""Who may take whose room.

A claim ranks workloads: the replicas of the lowest rank give way first, those of none never. `rank` must be the same
for a workload as long as `version` is, and a claim hashable: what it may take is kept by claim (`spare`).

Without queues there is one by priority alone. With queues there are two: by priority within a queue, and across
queues to take back what others borrowed (`lending`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from services.scheduler.decision.decided.queues import Queues
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads

if TYPE_CHECKING:
    from services.scheduler.decision.preempting.units import Unit


class Claim(Protocol):
    def rank(self, record: WorkloadRecord) -> int | None:
        """None for a workload that keeps its room."""

    def version(self, workloads: Workloads) -> int:
        """Changes whenever the rank of a workload that has replicas may have, but for its own decisions."""

    def together(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Of those on a node that have a rank, what may give way at the same time, any part of it as well."""


@dataclass(frozen=True, slots=True)
class PriorityClaim:
    """A workload of this priority takes the room of those of strictly lower priority."""

    priority: int

    def rank(self, record: WorkloadRecord) -> int | None:
        rank = record.placed.rank
        return rank if rank < self.priority else None

    def version(self, workloads: Workloads) -> int:
        return workloads.ranks_changed

    def together(self, units: Sequence[Unit]) -> Sequence[Unit]:
        return units


@dataclass(frozen=True, slots=True)
class QueueClaim:
    """The same within one queue."""

    queue: str
    priority: int
    queues: Queues = field(compare=False)

    def rank(self, record: WorkloadRecord) -> int | None:
        rank = record.placed.rank
        return rank if rank < self.priority and self.queues.of(record.placed.workload) == self.queue else None

    def version(self, workloads: Workloads) -> int:
        return workloads.ranks_changed + self.queues.changed

    def together(self, units: Sequence[Unit]) -> Sequence[Unit]:
        return units
