"""What users ask for: the workload.

A pod set says what runs in one of three ways, and exactly one of them:
- `image` (with `command`, `args`, `env`, `ports`, `resources`): the common case in one line;
- `template`: a full pod template, for everything that a pod can be;
- `manifest`: any Kubernetes object. Deployment, StatefulSet and ReplicaSet are divided by replicas; a Job and
  a Pod are placed whole; a DaemonSet goes to every cluster that is eligible; any other kind goes where the pods of the
  workload are that refer to it, or, if none do, is placed whole.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from shared.events.v1.policies import (
    MAX_OVERRIDES,
    MAX_TARGETS,
    ClusterPreference,
    ClusterTarget,
    DisruptionBudget,
    Gang,
    Override,
    Rebalance,
    SpreadConstraint,
    WeightPreference,
    is_empty,
)
from shared.events.v1.scaling import Scaling
from shared.events.v1.vertical import Vertical
from shared.model.base import StrictValue, Value
from shared.model.identities import WorkloadKey
from shared.model.names import DnsLabel, DnsSubdomain, LabelKey, LabelValue
from shared.model.resources import Resources
from shared.model.selectors import LabelSelector
from shared.model.taints import SILENT, Toleration

MAX_REPLICAS = 100_000
MAX_POD_SETS = 64
MAX_PRICE = 1_000_000_000
# `<workload>-<pod set>` names the objects in the clusters, and is itself a DNS label.
MAX_OBJECT_NAME = 63

DIVISIBLE_KINDS = frozenset({"Deployment", "StatefulSet", "ReplicaSet"})

Manifest = dict[str, Any]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Binding(StrEnum):
    """Who binds pods to nodes: each cluster's own scheduler, or Flotilla."""

    CLUSTER = "cluster"
    NODE = "node"


class EnvVar(StrictValue):
    """An environment variable of the container."""

    name: Text
    value: str = ""


class ContainerPort(StrictValue):
    """A port of the container."""

    container_port: Annotated[int, Field(ge=1, le=65535)]
    host_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="port of the node; two pods with one host port share no node"
    )
    name: str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class PodSet(StrictValue):
    """Pods of one shape. `replicas` counts pods over the whole fleet; absent means 1, or what the manifest says."""

    name: DnsLabel = Field(description="unique in the workload; objects in the clusters are <workload>-<name>")
    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)] | None = Field(
        default=None, description="pods over the whole fleet; absent means 1, or what the manifest says"
    )
    image: Text | None = Field(default=None, description="container image, the short way to say what runs")
    command: tuple[str, ...] = Field(default=(), description="entry point of the container; goes with image")
    args: tuple[str, ...] = Field(default=(), description="arguments of the entry point; goes with image")
    env: tuple[EnvVar, ...] = Field(default=(), description="environment variables; goes with image")
    ports: tuple[ContainerPort, ...] = Field(default=(), description="ports of the container; goes with image")
    resources: Resources | None = Field(default=None, description="requests and limits of each pod; goes with image")
    template: Manifest | None = Field(default=None, description="a full pod template (metadata and spec)")
    manifest: Manifest | None = Field(default=None, description="any Kubernetes object")
    disruption_budget: DisruptionBudget | None = Field(
        default=None, description="how many of the pods are not taken from service for what is more important"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("image", "template", "manifest") if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "none of them"
            raise ValueError(f"exactly one of image, template and manifest must be given, not {what}")
        if self.image is None:
            for name in ("command", "args", "env", "ports", "resources"):
                if getattr(self, name):
                    raise ValueError(f"{name} goes with image; put it into the {given[0]}")
        return self


class PlacementTerms(StrictValue):
    """Where the pods may go. What is absent does not restrict."""

    binding: Binding = Binding.CLUSTER
    clusters: tuple[DnsLabel, ...] = Field(default=(), description="names of the clusters that are eligible")
    cluster_selector: LabelSelector | None = Field(default=None, description="labels that an eligible cluster has")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="labels that an eligible node has"
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), description="taints of clusters and nodes that do not keep the pods away"
    )
    overrides: tuple[Override, ...] = Field(
        default=(),
        max_length=MAX_OVERRIDES,
        exclude_if=is_empty,
        description="what is different in some clusters; those that select a cluster apply there, in their order",
    )
    failback: bool = Field(
        default=False,
        exclude_if=is_empty,
        description="what had to leave a cluster that was lost, tainted or draining returns when that is well again",
    )

    at_most_once: bool = Field(
        default=False,
        exclude_if=is_empty,
        description="it is whole in one cluster at a time, and starts in another when it is known to be gone from the "
        "former",
    )
    division: Literal["divided", "duplicated"] = Field(
        default="divided",
        exclude_if=lambda value: value == "divided",
        description="duplicated: each eligible cluster has all replicas",
    )
    weight_preference: WeightPreference | None = Field(
        default=None, description="how many replicas each cluster has, beside the others; absent means by cost"
    )
    spread_constraints: tuple[SpreadConstraint, ...] = Field(
        default=(), max_length=4, exclude_if=is_empty, description="over how many groups of clusters replicas spread"
    )
    overflow: tuple[ClusterTarget, ...] = Field(
        default=(),
        max_length=MAX_TARGETS,
        exclude_if=is_empty,
        description="tiers of clusters: a replica goes to the first that has room; clusters in no tier get nothing",
    )
    preferences: tuple[ClusterPreference, ...] = Field(
        default=(),
        max_length=MAX_TARGETS,
        exclude_if=is_empty,
        description="clusters that are better, such as those that have the data; the others cost more",
    )
    gang: Gang | None = Field(
        default=None, description="replicas start together or not at all; absent means one by one"
    )
    max_price_per_hour: Annotated[float, Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)] | None = Field(
        default=None,
        description="the most that all replicas of the workload together may cost, by the prices of their nodes; "
        "what would cost more waits",
    )

    rebalance: Rebalance | None = Field(
        default=None, description="replicas that run move to better clusters; absent means that none does"
    )

    @property
    def leased(self) -> bool:
        """Whether it runs by a lease: it is at most once, and may start elsewhere when its cluster has been silent for
        as long as these terms say. Else it stays there for as long as nobody knows whether it runs.
        """
        tolerating = (item for item in self.tolerations if item.tolerates(SILENT)) if self.at_most_once else ()
        return any(item.toleration_seconds is not None for item in tolerating)

    @property
    def of_division(self) -> PlacementTerms | None:
        """These terms without all that says nothing of how replicas are shared out; None where none does."""
        names = ("division", "weight_preference", "spread_constraints", "overflow", "preferences")
        said = {name: getattr(self, name) for name in names}
        if self.division == "divided" and not any(said[name] for name in names[1:]):
            return None
        return PlacementTerms.model_construct(**said)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        fields = [item.spread_by_field for item in self.spread_constraints]
        for index, field in enumerate(fields):
            if field in fields[:index]:
                raise ValueError(f"spreadConstraints.{index}.spreadByField {field!r} is used twice")
        by_cluster = next((item for item in self.spread_constraints if item.spread_by_field == "cluster"), None)
        if by_cluster is not None and by_cluster.max_groups is not None:
            for index, item in enumerate(self.spread_constraints):
                if item.min_groups > by_cluster.max_groups:
                    message = (
                        f"{item.min_groups} are more than clusters, of which maxGroups allows {by_cluster.max_groups}"
                    )
                    raise ValueError(f"spreadConstraints.{index}.minGroups: {message}")
        if self.division == "duplicated":
            for name in ("weight_preference", "spread_constraints", "overflow", "preferences"):
                if getattr(self, name):
                    raise ValueError(f"{to_camel(name)} shares replicas out, and goes with division divided")
            if self.gang is not None:
                raise ValueError(
                    "gang goes with division divided: duplicated replicas are there in each cluster by itself"
                )
        return self

    @model_validator(mode="after")
    def _can_rebalance(self) -> Self:
        if self.rebalance is not None:
            by_room = self.weight_preference is not None and self.weight_preference.dynamic_weight is not None
            for said, why in (
                (self.division == "duplicated", "duplicated replicas are in each cluster already"),
                (self.gang is not None, "a gang that runs stays together"),
                (by_room, "dynamicWeight is by room, which changes with every pod"),
            ):
                if said:
                    raise ValueError(f"rebalance: {why}")
        return self

    @model_validator(mode="after")
    def _once(self) -> Self:
        """What is at most once is in one cluster, and what moves it never runs in two."""
        if not self.at_most_once:
            return self
        if self.binding is not Binding.CLUSTER:
            raise ValueError("binding: must be cluster with atMostOnce")
        if self.division != "divided":
            raise ValueError("division: duplicated replicas are in several clusters, which atMostOnce excludes")
        if self.rebalance is not None:
            raise ValueError("rebalance: starts the replacement first, which atMostOnce excludes")
        if self.failback:
            raise ValueError("failback: starts the replacement first, which atMostOnce excludes")
        if self.weight_preference is not None:
            raise ValueError("weightPreference: shares replicas out among clusters, which atMostOnce excludes")
        for index, item in enumerate(self.spread_constraints):
            if item.min_groups > 1:
                raise ValueError(f"spreadConstraints.{index}.minGroups: must be 1 with atMostOnce")
        return self

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        seen: set[str] = set()
        for index, override in enumerate(self.overrides):
            if override.name in seen:
                raise ValueError(f"overrides.{index}.name {override.name!r} is used twice")
            seen.add(override.name)
        return self


class WorkloadRef(StrictValue):
    """Which workload."""

    namespace: DnsLabel = "default"
    name: DnsLabel

    @property
    def key(self) -> WorkloadKey:
        return WorkloadKey(self.namespace, self.name)

    @property
    def key_text(self) -> str:
        """The key as a string, as it is asked for with every decision."""
        return f"{self.namespace}/{self.name}"


def _check_count(pod_sets: tuple[PodSet, ...]) -> tuple[PodSet, ...]:
    """Not `min_length`: pydantic would count only the valid ones, and name a second, wrong error beside theirs."""
    if not 1 <= len(pod_sets) <= MAX_POD_SETS:
        raise ValueError(f"must have 1 to {MAX_POD_SETS} pod sets, not {len(pod_sets)}")
    return pod_sets


class Workload(WorkloadRef):
    """Pod sets that belong together, and the terms on which they are placed."""

    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: dict[LabelKey, str] = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=-2_147_483_648, le=1_000_000_000)] = Field(
        default=0, description="what is more important is placed first, and may take the room of what is less"
    )
    priority_class: DnsSubdomain | None = Field(
        default=None, description="name of one of the fleet's priority classes, instead of a number"
    )
    preemption_policy: Literal["PreemptLowerPriority", "Never"] | None = Field(
        default=None,
        description="Never: waits for room, and takes none of what is less important; absent means as the class says",
    )
    queue: DnsLabel | None = Field(
        default=None,
        description="whose share it uses; absent means the queue of its namespace's name, if there is one, or default",
    )
    pod_sets: Annotated[tuple[PodSet, ...], AfterValidator(_check_count)] = Field(
        json_schema_extra={"minItems": 1, "maxItems": MAX_POD_SETS}, description="what runs"
    )
    placement: PlacementTerms = PlacementTerms()
    scaling: Scaling | None = Field(
        default=None, description="replicas follow what is measured; absent means as many as were asked for"
    )
    vertical: Vertical | None = Field(
        default=None, description="requests follow what is used; absent means as stated, and what is used is shown only"
    )

    @property
    def scaled_pod_set(self) -> str:
        """The name of the one that is scaled, empty if none is."""
        if self.scaling is None:
            return ""
        return self.scaling.pod_set or self.pod_sets[0].name

    @model_validator(mode="wrap")
    @classmethod
    def _checked_once(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """What is a workload already is frozen, and not looked at again where it becomes part of another message."""
        if isinstance(value, cls):
            return value
        workload = handler(value)
        workload._check()
        return workload

    def _check(self) -> None:
        seen: set[str] = set()
        for index, pod_set in enumerate(self.pod_sets):
            if pod_set.name in seen:
                raise ValueError(f"podSets.{index}.name {pod_set.name!r} is used twice")
            seen.add(pod_set.name)
            if len(self.name) + 1 + len(pod_set.name) > MAX_OBJECT_NAME:
                raise ValueError(
                    f"podSets.{index}.name: {self.name}-{pod_set.name} is longer than "
                    f"{MAX_OBJECT_NAME} characters, the limit for names of objects in the clusters"
                )
        for index, override in enumerate(self.placement.overrides):
            for unknown in sorted(set(override.pod_sets) - seen):
                raise ValueError(f"placement.overrides.{index}.podSets: there is no pod set {unknown!r}")
        for unknown in sorted(set(self.placement.gang.min_count) - seen) if self.placement.gang is not None else ():
            raise ValueError(f"placement.gang.minCount: there is no pod set {unknown!r}")
        self._check_scaling(seen)

    def _check_scaling(self, pod_sets: set[str]) -> None:
        scaling = self.scaling
        if scaling is None:
            return
        if scaling.pod_set is None and len(pod_sets) > 1:
            raise ValueError(f"scaling.podSet: must be one of {', '.join(sorted(pod_sets))}: there are several")
        if scaling.pod_set is not None and scaling.pod_set not in pod_sets:
            raise ValueError(f"scaling.podSet: there is no pod set {scaling.pod_set!r}")
        if self.placement.gang is not None:
            raise ValueError("scaling: replicas that start together (placement.gang) are not scaled; leave one out")
        if self.placement.division == "duplicated":
            raise ValueError(
                "scaling: is over all clusters together, and with placement.division duplicated each has its own "
                "replicas; use division divided, or a HorizontalPodAutoscaler in each cluster"
            )


class ApplyWorkload(StrictValue):
    """`create` wants it not to be there yet, `change` wants it to be there, `apply` takes either."""

    operation: Literal["create", "change", "apply"]
    workload: Workload


class DeleteWorkload(StrictValue):
    operation: Literal["delete"]
    workload: WorkloadRef


class FieldError(Value):
    """One thing that is wrong with a request. `field` is a path such as `workload.podSets.0.replicas`."""

    field: str
    reason: str
    message: str
