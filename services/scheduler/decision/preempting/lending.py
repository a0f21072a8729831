"""Across queues: one below its guarantee takes back what others borrowed, as Kueue's `reclaimWithinCohort: Any`.

Entitled is a replica with which its queue stays within its guarantee, by every resource that is guaranteed to it and
that the replica asks for. Borrowed is one with which its queue is beyond its own guarantee, by one of these, or that
asks for nothing of the kind. So what is within a guarantee is taken by nobody: if guarantees add up to more than
there is, who has it keeps it, and the others wait. Priorities do not count between queues.

No two queues take from each other in turn. What is taken back is within its queue's guarantee, so it is not borrowed,
and nobody takes it. What made room for it was beyond its own queue's; it may be entitled again where a larger replica
went with it, but not to the same room. Each time the sum of what is beyond guarantees falls, and nothing that is placed
by force raises it.

Victims are of the queue with the largest share (divided by its weight) as long as these make room on any node; then
of the next; and of several together where those of none do alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.decided.queues import Queues
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.preempting.claims import Claim, QueueClaim
from services.scheduler.decision.preempting.units import Unit, plan_of


class Ledger:
    """What queues use, with what is taken and given in decisions that are in the making, until `begin`."""

    def __init__(self, workloads: Workloads, queues: Queues) -> None:
        self._workloads = workloads
        self.queues = queues
        self._more: dict[str, Counter[str]] = {}

    def begin(self) -> None:
        self._more.clear()

    def claims(self, record: WorkloadRecord, demand: Demand) -> Iterator[Claim]:
        """By which the next replica may take room, in the order in which it tries."""
        queue = self.queues.of(record.placed.workload)
        if self.queues.is_guaranteed(queue, demand, self._more.get(queue, {})):
            borrowers = self.queues.borrowers(queue, self._more)
            for name in borrowers:
                yield ReclaimClaim((name,), self)
            if len(borrowers) > 1:
                yield ReclaimClaim(tuple(sorted(borrowers)), self)
        yield QueueClaim(queue, record.placed.rank, self.queues)

    def take(self, record: WorkloadRecord, demand: Demand, victims: Sequence[Unit]) -> None:
        """One more replica of a workload has a place, and these have none."""
        self._note(self.queues.of(record.placed.workload), demand, 1)
        for unit in victims:
            if (known := self._of(unit)) is not None:
                self._note(*known, -unit.replicas)

    def borrowed(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Those that are borrowed if they go one after the other, the least important first, of each queue. If some of
        them stay, what goes is borrowed all the more.
        """
        found: list[Unit] = []
        gone: dict[str, Counter[str]] = {name: Counter(more) for name, more in self._more.items()}
        for unit in sorted(units, key=lambda unit: unit.importance, reverse=True):
            known = self._of(unit)
            if known is None:
                continue
            queue, demand = known
            more = gone.setdefault(queue, Counter())
            if self.queues.is_borrowed(queue, demand, more):
                found.append(unit)
                for name, amount in self.queues.asked(demand):
                    more[name] -= amount * unit.replicas
        return found

    def _note(self, queue: str, demand: Demand, replicas: int) -> None:
        more = self._more.setdefault(queue, Counter())
        for name, amount in self.queues.asked(demand):
            more[name] += amount * replicas

    def _of(self, unit: Unit) -> tuple[str, Demand] | None:
        record = self._workloads.live(unit.share.key.workload)
        plan = plan_of(record, unit.share.key.pod_set) if record is not None else None
        return (
            (self.queues.of(record.placed.workload), plan.demand) if record is not None and plan is not None else None
        )


@dataclass(frozen=True, slots=True)
class ReclaimClaim:
    """What is borrowed by workloads of these queues, whatever their priority."""

    borrowers: tuple[str, ...]
    ledger: Ledger = field(compare=False)

    def rank(self, record: WorkloadRecord) -> int | None:
        return record.placed.rank if self.ledger.queues.of(record.placed.workload) in self.borrowers else None

    def version(self, workloads: Workloads) -> int:
        return workloads.ranks_changed + self.ledger.queues.changed

    def together(self, units: Sequence[Unit]) -> Sequence[Unit]:
        return self.ledger.borrowed(units)
