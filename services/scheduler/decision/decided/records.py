"""What is kept of each workload beside its last decision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from services.scheduler.decision.asked.plans import PodSetPlan
from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced

# A generation that is not known before the decision's record was read.
_UNKNOWN = -1
# Of an identity, as those of a UUID.
_PARTS = itemgetter(slice(8), slice(8, 12), slice(12, 16), slice(16, 20), slice(20, 32))


@dataclass(slots=True)
class Withdrawal:
    """A cluster that a workload leaves: since which of its decisions, and which generation that one has."""

    decision: int
    generation: int = _UNKNOWN


@dataclass(slots=True, eq=False)
class WorkloadRecord:
    """`decided` counts the decisions for this workload that were applied, `noted` those whose generation is known."""

    key: str
    placed: WorkloadPlaced
    plans: tuple[PodSetPlan, ...]
    decided: int = 0
    noted: int = 0
    leaving: dict[str, Withdrawal] = field(default_factory=dict)
    # Kept by `Workloads`: of which of its indexes it is a part.
    marks: int = 0
    # The priority by which `Workloads.ranks` counts it.
    counted_rank: int | None = None

    @property
    def clusters(self) -> set[str]:
        return self.placed.clusters

    def placement(self, pod_set: str) -> PodSetPlacement | None:
        return next((item for item in self.placed.pod_sets if item.name == pod_set), None)

    def decided_anew(self, **changes: Any) -> WorkloadPlaced:
        """The last decision with some fields changed. What it retired, it alone retired."""
        placed = self.placed.model_copy(update={"retired": (), **changes})
        if not placed.unleased:
            return placed
        commanded = placed.commanded
        return placed.model_copy(update={"unleased": tuple(name for name in placed.unleased if name in commanded)})

    def replace(self, placed: WorkloadPlaced, plans: tuple[PodSetPlan, ...], *, instead: bool = False) -> None:
        """`instead`: the decision takes the place of the last one, which nobody has seen."""
        self.placed, self.plans = placed, plans
        self.decided += not instead
        if self.leaving or placed.withdrawn:
            former = self.leaving
            self.leaving = {name: former.get(name) or Withdrawal(self.decided) for name in placed.withdrawn}

    def note(self, generation: int) -> None:
        """The next of the decisions whose generation was not known stands at this offset."""
        self.noted += 1
        for withdrawal in self.leaving.values():
            if withdrawal.decision == self.noted:
                withdrawal.generation = generation

    def confirms(self, cluster: str, generation: int) -> bool:
        """Whether a report of this generation says that the workload has left the cluster, and not earlier on."""
        withdrawal = self.leaving.get(cluster)
        return withdrawal is not None and 0 <= withdrawal.generation <= generation


def uid_for(key: str, request_id: str) -> str:
    """The identity of a workload that this request created: the same whoever decides it, and however often."""
    return "-".join(_PARTS(hashlib.sha256(f"{key}\n{request_id}".encode()).hexdigest()))
