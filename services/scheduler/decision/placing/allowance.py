"""How many replicas the limit of a queue lets one of its workloads have."""

from __future__ import annotations

from collections.abc import Mapping

from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.config import Amounts

QUEUE_LIMIT = "QueueLimit"
_NO_LIMIT = 2**62


class Allowance:
    """For one decision. `left` of each limited resource is for all pod sets of the workload, each replica of which asks
    for so much; `counts` are the replicas that they had, or have been given.
    """

    def __init__(
        self, queue: str, left: Mapping[str, int], asked: Mapping[str, Amounts], counts: dict[str, int]
    ) -> None:
        self._queue = queue
        self._left = left
        self._asked = asked
        self._counts = counts

    def note(self, plan: PodSetPlan, count: int) -> None:
        """The pod set has so many replicas now."""
        self._counts[plan.name] = count

    def most(self, plan: PodSetPlan) -> int:
        """How many replicas a pod set may have in all, beside those of the others."""
        return min((self._room(plan, name) // amount for name, amount in self._limited(plan)), default=_NO_LIMIT)

    def why(self, plan: PodSetPlan) -> str:
        name, _ = min(self._limited(plan), key=lambda item: self._room(plan, item[0]) // item[1])
        return f"with one more replica, queue {self._queue!r} would be beyond its limit of {name}"

    def _limited(self, plan: PodSetPlan) -> list[tuple[str, int]]:
        return [(name, amount) for name, amount in self._asked[plan.name] if amount and name in self._left]

    def _room(self, plan: PodSetPlan, resource: str) -> int:
        counts = ((dict(self._asked[name]), count) for name, count in self._counts.items() if name != plan.name)
        return self._left[resource] - sum(asked.get(resource, 0) * count for asked, count in counts)
