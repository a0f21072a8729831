"""Pod affinity, pod anti-affinity and topology spread, as pod specs hold them.

Source: k8s.io/api/core/v1 `PodAffinityTerm`, `TopologySpreadConstraint`; what is checked is checked by
k8s.io/kubernetes pkg/apis/core/validation as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StringConstraints, model_validator

from shared.model.base import KubernetesValue
from shared.model.names import LabelKey
from shared.model.selectors import LabelSelector, holds

TopologyKey = Annotated[LabelKey, StringConstraints(min_length=1)]
Policy = Literal["Honor", "Ignore"]

# Key, operator, values. All of them must hold.
Requirements = tuple[tuple[str, str, tuple[str, ...]], ...]


class PodQuery(NamedTuple):
    """Which pods a term is about.

    In one of `namespaces`, or in one whose labels fulfil `namespace_labels` (None: no further ones); and with labels
    that fulfil `labels` (None: no pod at all). `living`: those that are about to end do not count.
    """

    namespaces: tuple[str, ...]
    namespace_labels: Requirements | None
    labels: Requirements | None
    living: bool = False

    def selects(self, labels: Mapping[str, str], *, ending: bool = False) -> bool:
        """Apart from the namespace."""
        return self.labels is not None and not (self.living and ending) and fulfils(labels, self.labels)


def fulfils(labels: Mapping[str, str], requirements: Requirements) -> bool:
    return all(holds(operator, values, labels.get(key)) for key, operator, values in requirements)


def requirements_of(
    selector: LabelSelector | None,
    labels: Mapping[str, str],
    same: tuple[str, ...] = (),
    other: tuple[str, ...] = (),
) -> Requirements | None:
    """`same` are labels in which the pods are like the one with `labels`, `other` those in which they are not."""
    if selector is None:
        return None
    found: set[tuple[str, str, tuple[str, ...]]]
    found = {(key, "In", (value,)) for key, value in selector.match_labels.items()}
    found |= {(item.key, item.operator, tuple(sorted(item.values))) for item in selector.match_expressions}
    found |= {(key, "In", (labels[key],)) for key in same if key in labels}
    found |= {(key, "NotIn", (labels[key],)) for key in other if key in labels}
    return tuple(sorted(found))


class PodAffinityTerm(KubernetesValue):
    topology_key: TopologyKey
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[LabelKey, ...] = ()
    mismatch_label_keys: tuple[LabelKey, ...] = ()

    def query(self, namespace: str, labels: Mapping[str, str]) -> PodQuery:
        """For a pod in `namespace` with `labels`."""
        own = () if self.namespaces or self.namespace_selector is not None else (namespace,)
        wanted = requirements_of(self.label_selector, labels, self.match_label_keys, self.mismatch_label_keys)
        return PodQuery(
            namespaces=tuple(sorted({*self.namespaces, *own})),
            namespace_labels=requirements_of(self.namespace_selector, {}),
            labels=wanted,
        )


class WeightedPodAffinityTerm(KubernetesValue):
    weight: Annotated[int, Field(ge=1, le=100)]
    pod_affinity_term: PodAffinityTerm


class PodAffinity(KubernetesValue):
    """The same form for affinity and anti-affinity."""

    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()

    @property
    def required(self) -> tuple[PodAffinityTerm, ...]:
        return self.required_during_scheduling_ignored_during_execution

    @property
    def preferred(self) -> tuple[WeightedPodAffinityTerm, ...]:
        return self.preferred_during_scheduling_ignored_during_execution


class TopologySpreadConstraint(KubernetesValue):
    max_skew: Annotated[int, Field(ge=1, le=2**31 - 1)]
    topology_key: TopologyKey
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    label_selector: LabelSelector | None = None
    min_domains: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    node_affinity_policy: Policy = "Honor"
    node_taints_policy: Policy = "Ignore"
    match_label_keys: tuple[LabelKey, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_domains > 1 and self.when_unsatisfiable != "DoNotSchedule":
            raise ValueError("minDomains needs whenUnsatisfiable DoNotSchedule")
        return self

    def query(self, namespace: str, labels: Mapping[str, str]) -> PodQuery:
        wanted = requirements_of(self.label_selector, labels, self.match_label_keys)
        return PodQuery(namespaces=(namespace,), namespace_labels=None, labels=wanted, living=True)
