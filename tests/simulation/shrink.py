"""From a failing plan to a smaller one that fails by the same rule: fewer faults, requests, people's acts and clusters.

Delta debugging, part by part: halves first, then smaller pieces, until nothing can be left out or the budget is spent.
What is left out changes how the rest unfolds, so it may fail elsewhere; it counts if the rule is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.simulation.plan import Plan
from tests.simulation.simulate import Result, simulate

BUDGET = 120
_PARTS = ("faults", "requests", "orders", "actions")

Try = Callable[[Plan], Result]


def shrink(failed: Result, attempt: Try = simulate, budget: int = BUDGET) -> Result:
    """The smallest failing result that was found within `budget` simulations; it may be `failed` itself."""
    return _Shrinker({violation.rule for violation in failed.violations}, attempt, budget).run(failed)


class _Shrinker:
    def __init__(self, rules: set[str], attempt: Try, budget: int) -> None:
        self._rules = rules
        self._attempt = attempt
        self._left = budget

    def run(self, best: Result) -> Result:
        while self._left > 0:
            smaller = self._round(best)
            if smaller is None:
                return best
            best = smaller
        return best

    def _round(self, best: Result) -> Result | None:
        """The first smaller plan that still fails, with everything that can be left out of that part left out."""
        found = None
        for part in _PARTS:
            shrunk = self._part(found or best, part)
            found = shrunk or found
        for plan in self._simpler((found or best).plan):
            if (result := self._fails(plan)) is not None:
                return result
        return found

    def _part(self, best: Result, part: str) -> Result | None:
        found = None
        size = max(len(getattr(best.plan, part)) // 2, 1)
        while size and getattr(best.plan, part):
            for plan in _without(best.plan, part, size):
                if (result := self._fails(plan)) is not None:
                    best = found = result
                    break
            else:
                size //= 2
            if self._left <= 0:
                break
        return found

    def _simpler(self, plan: Plan) -> Iterator[Plan]:
        if plan.quiet_s:
            yield plan.model_copy(update={"quiet_s": 0.0})
        if plan.schedulers > 1 and not any(fault.target.startswith("scheduler-1") for fault in plan.faults):
            yield plan.model_copy(update={"schedulers": 1})
        if len(plan.clusters) > 1:
            yield from (_without_cluster(plan, cluster.name) for cluster in plan.clusters)

    def _fails(self, plan: Plan) -> Result | None:
        if self._left <= 0:
            return None
        self._left -= 1
        result = self._attempt(plan)
        return result if self._rules & {violation.rule for violation in result.violations} else None


def _without(plan: Plan, part: str, size: int) -> Iterator[Plan]:
    """The plan without each run of `size` of a part."""
    items: Sequence[Any] = getattr(plan, part)
    for start in range(0, len(items), size):
        yield plan.model_copy(update={part: (*items[:start], *items[start + size :])})


def _without_cluster(plan: Plan, name: str) -> Plan:
    """Without a cluster, and without everything that befalls it or its agents."""
    gone = {name, f"watcher-{name}", f"executor-{name}"}
    return plan.model_copy(
        update={
            "clusters": tuple(cluster for cluster in plan.clusters if cluster.name != name),
            "actions": tuple(action for action in plan.actions if action.cluster != name),
            "faults": tuple(fault for fault in plan.faults if fault.target not in gone),
        }
    )
