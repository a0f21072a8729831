"""No queue has replicas beyond its limit, whatever is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from shared.events.v1.decisions import WorkloadPlaced
from shared.model.quantities import resource_amount
from tests.simulation.checker.capacity import requests_of_replica
from tests.simulation.checker.evidence import Evidence, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    """At the end of each entry of the journal: what one decision takes another of the same may have given up."""
    limits = {
        name: {what: resource_amount(what, text) for what, text in queue.get("limit", {}).items()}
        for name, queue in evidence.queues.items()
    }
    if not limits:
        return
    evidence.take()
    charged: dict[str, tuple[str, Counter[str]]] = {}
    entries: dict[int, list[tuple[str, WorkloadPlaced]]] = {}
    for (offset, key), decision in evidence.journal.decided.items():
        entries.setdefault(offset, []).append((key, decision))
    for offset, decisions in entries.items():
        for key, decision in decisions:
            charged[key] = decision.workload.queue or "", _used(decision)
        totals: dict[str, Counter[str]] = {name: Counter() for name in limits}
        for queue, used in charged.values():
            if queue in totals:
                totals[queue].update(used)
        for name, total in totals.items():
            for what, most in limits[name].items():
                if total[what] > most:
                    yield Violation("over limit", name, f"uses {total[what]} of {most} {what} at {offset}")


def _used(decision: WorkloadPlaced) -> Counter[str]:
    """Of replicas that have a place and no end to which they run."""
    used: Counter[str] = Counter()
    for pod_set, item in zip(decision.workload.pod_sets, decision.pod_sets, strict=False):
        if pod_set.manifest is None:
            used.update({what: amount * item.placed for what, amount in requests_of_replica(pod_set).items()})
    return used
