"""Queues: what each of them uses, whose turn it is, and how much more it may use.

A workload uses the queue that it names; else that of its namespace's name; else `default`, which is always there.

Fair by dominant share (A. Ghodsi et al., Dominant Resource Fairness, NSDI 2011, with weights): a queue's share is the
largest part that it has of any resource of the fleet, divided by its weight, and that with the least share is next.
Before that come queues of which a replica stays within the guarantee. A guarantee is no room set apart: what a queue
does not use of it others borrow, and give back when it is wanted (`preempting/lending`). Beyond its limit a queue gets
nothing, however much is free.

Kept by difference, from decisions alone and from Jobs that ended, so that whoever folds the same comes to the same.
Counted are replicas that have a place; those that leave a cluster are not counted beside those that replace them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.config import DEFAULT_QUEUE, Amounts, QueueConfig
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.placing.allowance import Allowance
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from shared.events.v1.workloads import FieldError, Workload

_NOTHING: Mapping[str, int] = {}


class Queues:
    """Those of the configuration, and `default`. `changed` counts workloads that came to use another queue."""

    def __init__(self, fleet: Fleet) -> None:
        queues = {item.name: item for item in fleet.config.queues}
        queues.setdefault(DEFAULT_QUEUE, QueueConfig(DEFAULT_QUEUE))
        self._fleet = fleet
        self._queues = queues
        self._guarantees = {name: dict(item.guarantee) for name, item in queues.items() if item.guarantee}
        self._limits = {name: dict(item.limit) for name, item in queues.items() if item.limit}
        self._used: dict[str, Counter[str]] = {name: Counter() for name in queues}
        # What each workload uses, and of which queue.
        self._charged: dict[str, tuple[str, Mapping[str, int]]] = {}
        self._total: dict[str, float] = {}
        # Those that are known, as long as nothing changes them.
        self._shares: dict[str, float] = {}
        self._total_at = (-1, -1)
        self.changed = 0

    @property
    def names(self) -> Sequence[str]:
        return sorted(self._queues)

    def of(self, workload: Workload) -> str:
        """Also of a workload whose queue is there no more."""
        name = workload.queue if workload.queue is not None else workload.namespace
        return name if name in self._queues else DEFAULT_QUEUE

    def errors(self, workload: Workload) -> tuple[FieldError, ...]:
        if workload.queue is None or workload.queue in self._queues:
            return ()
        message = f"there is no queue {workload.queue!r}; there are: {', '.join(self.names)}"
        return (FieldError(field="workload.queue", reason="NotFound", message=message),)

    # --- what is used ---

    def charge(self, record: WorkloadRecord) -> None:
        """What a workload has a place for counts for its queue, and no longer what it had before."""
        former = self._charged.get(record.key)
        self.discharge(record.key)
        used: Counter[str] = Counter()
        for plan, item in zip(record.plans, record.placed.pod_sets, strict=False):
            if not plan.holds_room:
                continue
            present = (share for share in item.shares if not self._has_finished(record.key, plan, share.cluster))
            if count := sum(share.kept for share in present):
                for name, amount in self.asked(plan.demand):
                    used[name] += amount * count
        if used:
            queue = self.of(record.placed.workload)
            self.changed += former is not None and former[0] != queue
            self._charged[record.key] = queue, used
            self._used[queue].update(used)
            self._shares.pop(queue, None)

    def discharge(self, key: str) -> None:
        if known := self._charged.pop(key, None):
            queue, used = known
            self._used[queue].subtract(used)
            self._shares.pop(queue, None)

    def _has_finished(self, key: str, plan: PodSetPlan, cluster: str) -> bool:
        return self._fleet.has_finished(ShareKey(key, plan.name, cluster), plan.division)

    def asked(self, demand: Demand) -> Amounts:
        """What a replica asks for; GPUs in thousandths."""
        gpu, shape = self._fleet.config.gpu_resource, demand.shape
        return tuple((name, amount * shape.gpu_milli if name == gpu else amount) for name, amount in shape.requests)

    # --- whose turn it is ---

    def share(self, queue: str) -> float:
        """The dominant share, divided by the weight. Of what the fleet does not have any more, nothing counts."""
        self._capacity()
        share = self._shares.get(queue)
        if share is None:
            share = self._shares[queue] = self._share_of(queue, self._used[queue])
        return share

    def _share_of(self, queue: str, used: Mapping[str, int]) -> float:
        total = self._capacity()
        parts = (amount / total[name] for name, amount in used.items() if total.get(name))
        return max(parts, default=0.0) / self._queues[queue].weight

    def rank(self, queue: str, demand: Demand) -> tuple[bool, float]:
        """The least is next."""
        return not self.is_guaranteed(queue, demand), self.share(queue)

    def is_guaranteed(self, queue: str, demand: Demand, more: Mapping[str, int] = _NOTHING) -> bool:
        """Whether one more replica stays within the guarantee, beside what the queue uses, and `more`."""
        guarantee, used = self._guarantees.get(queue), self._used[queue]
        if guarantee is None:
            return False
        asked = [(name, amount) for name, amount in self.asked(demand) if amount and name in guarantee]
        return bool(asked) and all(used[name] + more.get(name, 0) + amount <= guarantee[name] for name, amount in asked)

    # --- what is borrowed ---

    @property
    def any_guaranteed(self) -> bool:
        return bool(self._guarantees)

    def is_borrowed(self, queue: str, demand: Demand, more: Mapping[str, int]) -> bool:
        """Whether a replica that has a place may have it for others' not using what they are guaranteed: with it the
        queue is beyond its own guarantee of something that it asks for, or it asks for nothing that is guaranteed.
        """
        guarantee, used = self._guarantees.get(queue, _NOTHING), self._used[queue]
        asked = [name for name, amount in self.asked(demand) if amount and name in guarantee]
        return not asked or any(used[name] + more.get(name, 0) > guarantee[name] for name in asked)

    def borrowers(self, beside: str, more: Mapping[str, Mapping[str, int]]) -> list[str]:
        """Queues that may use more than they are guaranteed, the one with the largest share first."""
        shares: dict[str, float] = {}
        for name in self.names:
            guarantee, used = self._guarantees.get(name, _NOTHING), Counter(self._used[name])
            used.update(more.get(name, _NOTHING))
            if name != beside and any(amount > guarantee.get(what, 0) for what, amount in used.items()):
                shares[name] = self._share_of(name, used)
        return sorted(shares, key=lambda name: (-shares[name], name))

    def _capacity(self) -> Mapping[str, float]:
        """What all nodes have."""
        table = self._fleet.table
        version = (table.facts_log.end, table.columns.width)
        if self._total_at != version:
            self._total_at = version
            self._shares.clear()
            sums = table.allocatable[table.alive].sum(axis=0, dtype=float).tolist()
            self._total = dict(zip(table.columns.names, sums, strict=False))
        return self._total

    # --- how much more ---

    def is_full(self, queue: str, demand: Demand) -> bool:
        """Whether not even one replica stays within the limit."""
        limit, used = self._limits.get(queue, {}), self._used[queue]
        return any(used[name] + amount > limit[name] for name, amount in self.asked(demand) if amount and name in limit)

    def rest(self, workload: Workload, plans: Sequence[PodSetPlan]) -> Allowance | None:
        """What the limit leaves for replicas beside all that there are."""
        return self.allowance("", workload, plans, None)

    def allowance(
        self, key: str, workload: Workload, plans: Iterable[PodSetPlan], record: WorkloadRecord | None
    ) -> Allowance | None:
        """What the limit leaves for a workload, in place of what it has; None without a limit."""
        queue = self.of(workload)
        limit = self._limits.get(queue)
        if limit is None:
            return None
        own_queue, own = self._charged.get(key, ("", {}))
        used = self._used[queue]
        left = {
            name: most - used[name] + (own.get(name, 0) if own_queue == queue else 0) for name, most in limit.items()
        }
        plans = [plan for plan in plans if plan.holds_room]
        counts: dict[str, int] = defaultdict(int)
        for plan in plans:
            placement = record.placement(plan.name) if record is not None else None
            counts[plan.name] = min(placement.placed, plan.desired) if placement is not None else 0
        return Allowance(queue, left, {plan.name: self.asked(plan.demand) for plan in plans}, counts)
