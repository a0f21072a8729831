"""What a pod's spec says of other pods: affinity, anti-affinity, topology spread; and who a pod is to those of others.

Kept where Flotilla binds. With binding cluster each cluster's own scheduler keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shared.model.affinity import PodAffinity, PodAffinityTerm, PodQuery, TopologySpreadConstraint
from shared.model.pods import Affinity

# kube-scheduler's default: what a running pod's required affinity is worth to those that it wants to be with.
_HARD_AFFINITY_WEIGHT = 1


class Term(NamedTuple):
    """Pods of `query` in the same domain of `key`. Of a running pod: `weight` is 0 where it refuses such pods."""

    query: PodQuery
    key: str
    weight: int = 0


class SpreadRule(NamedTuple):
    """`itself`: the pod is one of those that are counted."""

    query: PodQuery
    key: str
    max_skew: int
    min_domains: int
    hard: bool
    honors_affinity: bool
    honors_taints: bool
    itself: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """Equal for pods that are alike to the scheduler. `itself`: the labels match all terms of `affinity`."""

    namespace: str
    affinity: tuple[Term, ...] = ()
    anti_affinity: tuple[Term, ...] = ()
    preferred: tuple[Term, ...] = ()
    spread: tuple[SpreadRule, ...] = ()
    itself: bool = False


def rules_of(
    affinity: Affinity, spread: tuple[TopologySpreadConstraint, ...], namespace: str, labels: Mapping[str, str]
) -> Rules | None:
    """Of a pod that is to be placed; None where it has none."""

    def term(item: PodAffinityTerm, weight: int = 0) -> Term:
        return Term(item.query(namespace, labels), item.topology_key, weight)

    near, far = affinity.pod_affinity, affinity.pod_anti_affinity
    required = tuple(map(term, near.required))
    rules = Rules(
        namespace=namespace,
        affinity=required,
        anti_affinity=tuple(map(term, far.required)),
        preferred=(
            *(term(item.pod_affinity_term, item.weight) for item in near.preferred),
            *(term(item.pod_affinity_term, -item.weight) for item in far.preferred),
        ),
        spread=tuple(_spread_rule(item, namespace, labels) for item in spread),
        itself=all(item.query.selects(labels) for item in required),
    )
    return rules if rules.affinity or rules.anti_affinity or rules.preferred or rules.spread else None


def _spread_rule(item: TopologySpreadConstraint, namespace: str, labels: Mapping[str, str]) -> SpreadRule:
    query = item.query(namespace, labels)
    # Kubernetes: a selector that selects everything counts nothing but the pod itself.
    counted = query if query.labels else query._replace(labels=None)
    return SpreadRule(
        query=counted,
        key=item.topology_key,
        max_skew=item.max_skew,
        min_domains=item.min_domains,
        hard=item.when_unsatisfiable == "DoNotSchedule",
        honors_affinity=item.node_affinity_policy == "Honor",
        honors_taints=item.node_taints_policy == "Honor",
        itself=query.selects(labels),
    )


def terms_of(near: PodAffinity, far: PodAffinity, namespace: str, labels: Mapping[str, str]) -> tuple[Term, ...]:
    """What a pod, once it runs, wants of others: anti-affinity refuses them, all else weighs."""
    found = [Term(item.query(namespace, labels), item.topology_key) for item in far.required]
    weighted = [(item, _HARD_AFFINITY_WEIGHT) for item in near.required]
    weighted += [(item.pod_affinity_term, item.weight) for item in near.preferred]
    weighted += [(item.pod_affinity_term, -item.weight) for item in far.preferred]
    found += [Term(item.query(namespace, labels), item.topology_key, weight) for item, weight in weighted]
    return tuple(found)
