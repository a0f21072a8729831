"""How clusters differ, and how a workload is shared out among them: parts of the placement terms.

Names are those of Kubernetes and Karmada where these have the thing. A list that is empty is left out of JSON, so that
a workload without policies has the bytes that it had before there were any.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import not_
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.model.base import StrictValue
from shared.model.identities import MANAGED_BY_LABEL
from shared.model.names import DnsLabel, DnsSubdomain, LabelKey, LabelValue
from shared.model.selectors import LabelSelector

MAX_TARGETS = 64
MAX_OVERRIDES = 16
MAX_OPERATIONS = 32

# A number, or a percentage.
Amount = Annotated[int, Field(ge=0, strict=True)] | Annotated[str, Field(pattern=r"^(100|[1-9]?[0-9])%$")]

_OWN_LABELS = "flotilla.dev/"
_Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
_Registry = Annotated[str, StringConstraints(max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_/-]*[A-Za-z0-9]$")]
_Pointer = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^(/([^~]|~[01])*)+$")]


# Asked of every such field whenever a value is written: without a step of Python's own.
is_empty = not_


class ClusterTarget(StrictValue):
    """Some clusters: those that are named, as far as the selector matches them too. Without both, all."""

    clusters: tuple[DnsLabel, ...] = Field(
        default=(), max_length=MAX_TARGETS, exclude_if=is_empty, description="names of clusters; absent means any"
    )
    cluster_selector: LabelSelector | None = Field(default=None, description="labels that the clusters have")

    def selects(self, name: str, labels: Mapping[str, str]) -> bool:
        if self.clusters and name not in self.clusters:
            return False
        return self.cluster_selector is None or self.cluster_selector.matches(labels)


class Gang(StrictValue):
    """Replicas that start together or not at all, as in Kubernetes' `scheduling.k8s.io` PodGroup, policy `gang`."""

    scope: Literal["podSet", "workload"] = Field(
        default="podSet", description="each pod set by itself, or all pod sets with pods only together"
    )
    min_count: dict[DnsLabel, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        exclude_if=is_empty,
        description="by pod set, so many replicas start together, and the rest one by one; absent means all",
    )


class PatchOperation(StrictValue):
    """One operation of a JSON patch (RFC 6902). Not `move` and `copy`: by these, a patch grows what it patches."""

    op: Literal["add", "remove", "replace", "test"]
    path: _Pointer = Field(description="JSON pointer (RFC 6901) into the object as it is rendered")
    value: Any = Field(default=None, description="what is added, put in place, or must be there; not null")

    @model_validator(mode="after")
    def _has_its_value(self) -> Self:
        if self.op == "remove" and self.value is not None:
            raise ValueError("value must not be given for op remove")
        if self.op != "remove" and self.value is None:
            raise ValueError(f"value must be given for op {self.op}, and not be null")
        return self


class Override(ClusterTarget):
    """What is different in some clusters.

    All overrides that select a cluster apply there, in their order; within one in the order of its fields. An override
    must not change what the scheduler went by: what pods ask of their nodes, names, selectors, and replicas.
    """

    name: DnsLabel = Field(description="unique in the workload; decisions name the overrides that apply")
    pod_sets: tuple[DnsLabel, ...] = Field(
        default=(), max_length=MAX_TARGETS, exclude_if=is_empty, description="pod sets that differ; absent means all"
    )
    image_registry: _Registry | None = Field(
        default=None, description="registry, with or without a path, from which all images come instead"
    )
    container: DnsLabel | None = Field(
        default=None, description="the container that command and args are for; absent means the first"
    )
    command: tuple[_Text, ...] | None = Field(default=None, description="entry point of the container instead")
    args: tuple[_Text, ...] | None = Field(default=None, description="arguments of the entry point instead")
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, exclude_if=is_empty, description="labels added to objects and their pod templates"
    )
    annotations: dict[LabelKey, str] = Field(
        default_factory=dict, exclude_if=is_empty, description="annotations added to objects and their pod templates"
    )
    storage_class: DnsSubdomain | None = Field(
        default=None, description="storage class of PersistentVolumeClaims and of claims in templates"
    )
    patches: tuple[PatchOperation, ...] = Field(
        default=(),
        max_length=MAX_OPERATIONS,
        exclude_if=is_empty,
        description="JSON patch for each object, after all else; name podSets where objects are of several kinds",
    )

    @model_validator(mode="after")
    def _not_ours(self) -> Self:
        for kind, given in (("labels", self.labels), ("annotations", self.annotations)):
            for key in given:
                if key.startswith(_OWN_LABELS) or key == MANAGED_BY_LABEL:
                    raise ValueError(f"{kind}: {key} says whose the objects are, and cannot be overridden")
        return self


class ClusterWeight(ClusterTarget):
    """A part of the replicas, in proportion to those of the others."""

    weight: int = Field(ge=0, le=1_000_000, description="0 keeps the clusters out")


class WeightPreference(StrictValue):
    """How many replicas each cluster has, beside the others: as Karmada's `ClusterPreferences`."""

    static_weight_list: tuple[ClusterWeight, ...] = Field(
        default=(),
        max_length=MAX_TARGETS,
        exclude_if=is_empty,
        description="the highest weight that selects a cluster counts; clusters that none selects get nothing",
    )
    dynamic_weight: Literal["AvailableReplicas"] | None = Field(
        default=None,
        description="in proportion to how many of these replicas each cluster could run, own ones included",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.static_weight_list) == (self.dynamic_weight is not None):
            raise ValueError("exactly one of staticWeightList and dynamicWeight must be given")
        return self


class SpreadConstraint(StrictValue):
    """Over how many groups of clusters the replicas of each pod set spread: as in Karmada.

    Clusters without the label of the field (provider, region, zone) are in no group, and get no replicas.
    """

    spread_by_field: Literal["cluster", "provider", "region", "zone"]
    min_groups: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="or as many as there are replicas, if these are fewer; else none is placed",
    )
    max_groups: int | None = Field(default=None, ge=1, le=1000, description="absent means any number")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_groups is not None and self.max_groups < self.min_groups:
            raise ValueError(f"maxGroups {self.max_groups} must not be less than minGroups {self.min_groups}")
        return self


class DisruptionBudget(StrictValue):
    """How many pods of a pod set, over the whole fleet, stay ready when room is made for what is more important.

    As in Kubernetes' PodDisruptionBudget: exactly one is given, a number or a percentage of the replicas, rounded up.
    """

    min_available: Amount | None = Field(default=None, description="so many stay ready")
    max_unavailable: Amount | None = Field(default=None, description="so many may be not ready")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.min_available is None) == (self.max_unavailable is None):
            raise ValueError("exactly one of minAvailable and maxUnavailable must be given")
        return self

    def wanted(self, replicas: int) -> int:
        """How many of so many replicas are to be ready."""
        if self.min_available is not None:
            return _scaled(self.min_available, replicas)
        assert self.max_unavailable is not None
        return max(replicas - _scaled(self.max_unavailable, replicas), 0)


def _scaled(amount: int | str, replicas: int) -> int:
    return amount if isinstance(amount, int) else -(-int(amount.rstrip("%")) * replicas // 100)


class Rebalance(StrictValue):
    """That replicas which run may move to better places, one after the other, at the pace that the fleet allows.

    One moves from its cluster to another if it would be placed there now, with its own room given back, and costs less
    there by more than `minimumGain`; or belongs into an earlier tier, or to a cluster with a higher claim by weights.
    """

    minimum_gain: float = Field(
        default=0.1, gt=0, le=1000, description="by how much less a replica has to cost elsewhere, as costs are in why"
    )
    cooldown_seconds: int = Field(
        default=600, ge=0, le=604_800, description="a replica that moved stays in its cluster for at least so long"
    )


class ClusterPreference(ClusterTarget):
    """Clusters that are better than others, all else being equal, by a weight like that of preferred node affinity."""

    weight: int = Field(ge=1, le=100)
