"""No replica is given a place by which its workload costs more than its `maxPricePerHour`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import inf
from typing import NamedTuple

from shared.events.topics import DECISIONS
from shared.events.v1.decisions import WorkloadPlaced
from shared.model.identities import PRICE_LABEL
from shared.model.quantities import resource_amount
from tests.simulation.checker.capacity import requests_of_replica
from tests.simulation.checker.evidence import Evidence, Violation

# Prices are counted in billionths, rounded down, for each replica.
_ROUNDED = 1e-9


class _Node(NamedTuple):
    """`gone_ms` is when it was removed, for good."""

    price: float
    allocatable: Mapping[str, int]
    gone_ms: float


def check(evidence: Evidence) -> Iterator[Violation]:
    """What is placed is never given up for its price, so a decision that adds nothing may cost what it likes.

    A replica costs the price of its node times its dominant share of that, and nothing when the node is gone. Where no
    node is named it costs what it would on the cheapest that its cluster ever had; of a manifest nothing is counted.
    """
    evidence.take()
    nodes = _nodes(evidence)
    times = {append.offset: append.at_ms for append in evidence.history.appends if append.topic == DECISIONS.name}
    former: dict[str, WorkloadPlaced] = {}
    for (offset, key), decision in evidence.journal.decided.items():
        before = former.get(key)
        former[key] = decision
        most = decision.workload.placement.max_price_per_hour
        if most is None or decision.deleting:
            continue
        had = _places(before) if before is not None and before.uid == decision.uid else Counter[tuple[str, str]]()
        has = _places(decision)
        if has <= had:
            continue
        cost = sum(_cost(nodes, decision, times[offset]))
        if cost > most + has.total() * _ROUNDED:
            yield Violation("too dear", key, f"costs {cost:.6f} an hour of {most} with {dict(has - had)} at {offset}")


def _nodes(evidence: Evidence) -> dict[str, dict[str, _Node]]:
    found: dict[str, dict[str, _Node]] = {}
    for write in evidence.history.writes:
        if write.resource == "nodes":
            meta, amounts = write.object["metadata"], write.object.get("status", {}).get("allocatable") or {}
            price = float((meta.get("labels") or {}).get(PRICE_LABEL, 0))
            allocatable = {what: resource_amount(what, str(text)) for what, text in amounts.items()}
            gone_ms = write.at_ms if write.verb == "DELETED" else inf
            found.setdefault(write.cluster, {})[meta["name"]] = _Node(price, allocatable, gone_ms)
    return found


def _places(decision: WorkloadPlaced) -> Counter[tuple[str, str]]:
    """By pod set and cluster, the replicas that count."""
    shares = ((item.name, share) for item in decision.pod_sets for share in item.shares)
    return Counter({(name, share.cluster): share.kept for name, share in shares})


def _cost(nodes: Mapping[str, Mapping[str, _Node]], decision: WorkloadPlaced, at_ms: int) -> Iterator[float]:
    """Of each replica that counts."""
    for pod_set, item in zip(decision.workload.pod_sets, decision.pod_sets, strict=True):
        if pod_set.manifest is not None:
            continue
        asked = requests_of_replica(pod_set) + Counter({"pods": 1})
        for share in item.shares:
            there = nodes.get(share.cluster, {})
            cheapest = min((_on(node, asked) for node in there.values()), default=0.0)
            for name in (*share.nodes, *("",) * share.replicas)[: share.kept]:
                if name not in there:
                    yield cheapest
                elif there[name].gone_ms > at_ms:
                    yield _on(there[name], asked)


def _on(node: _Node, asked: Mapping[str, int]) -> float:
    parts = (amount / max(node.allocatable.get(what, 0), 1) for what, amount in asked.items() if amount)
    return node.price * min(max(parts), 1.0)
