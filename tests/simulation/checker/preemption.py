"""Room is made for what is more important alone, or guaranteed to its queue; no disruption budget is broken by it."""

from __future__ import annotations

from collections.abc import Iterator

from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced
from tests.simulation.checker.evidence import Evidence, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    former: dict[str, WorkloadPlaced] = {}
    for (offset, key), decision in evidence.journal.decided.items():
        before = former.get(key)
        former[key] = decision
        if before is None or before.uid != decision.uid:
            continue
        known = {item.name: item for item in before.pod_sets}
        for item in decision.pod_sets:
            if item.preempted and item.name in known and item.preempted != known[item.name].preempted:
                for rule, problem in _wrong(decision, item):
                    yield Violation(rule, key, f"{item.name}: {problem} at {offset}")


def _wrong(decision: WorkloadPlaced, item: PodSetPlacement) -> Iterator[tuple[str, str]]:
    """What is wrong with a decision by which replicas make room for others."""
    to = item.preempted[-1]
    if to.priority <= decision.rank and not to.queue:
        yield "unfair preemption", f"of priority {decision.rank}, made room for {to.workload} of {to.priority}"
    budget = next(each.disruption_budget for each in decision.workload.pod_sets if each.name == item.name)
    wanted = budget.wanted(item.desired) if budget is not None else 0
    # No more can be ready than have a place.
    if item.placed < wanted:
        yield "broken budget", f"{wanted} are to be ready, and {item.placed} have a place"
