"""`fleet.clusters`: the clusters that the hub's users declared. A tombstone takes one back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator

from shared.events.v1.policies import is_empty
from shared.events.v1.provisioning import ProvisionDeclared
from shared.model.base import StrictValue, Value
from shared.model.names import DnsLabel, DnsSubdomain, LabelKey, LabelValue
from shared.model.quantities import NonNegativeQuantity, parse_quantity
from shared.model.resources import ResourceName
from shared.model.taints import Taint

MAX_NODES: Final = 10_000
MAX_PERCENT: Final = 1000
# Without these three no pod fits a node.
_NEEDED: Final = ("cpu", "memory", "pods")
_ProviderName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
_Url = Annotated[str, StringConstraints(max_length=1024, pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]


class NodePrice(StrictValue):
    """What some nodes of a cluster cost."""

    node_selector: dict[LabelKey, LabelValue] = Field(
        min_length=1, max_length=16, description="labels that the nodes have, such as their instance type"
    )
    price_per_hour: float = Field(
        ge=0, allow_inf_nan=False, description="price of one such node for an hour, in the fleet's currency"
    )

    def applies(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.node_selector.items())


class NodeTemplate(StrictValue):
    """What a new node of a group will be like, as its Node object will say it."""

    allocatable: dict[ResourceName, NonNegativeQuantity] = Field(
        max_length=32, description="what pods may use of it, by resource; cpu, memory and pods must be given"
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict,
        max_length=64,
        description="labels of its nodes; flotilla.dev/node-group is there without being named",
    )
    taints: tuple[Taint, ...] = Field(default=(), max_length=32, description="taints of its nodes")

    @field_validator("allocatable")
    @classmethod
    def _has_what_pods_need(cls, value: dict[str, str]) -> dict[str, str]:
        if missing := [name for name in _NEEDED if name not in value]:
            raise ValueError(f"{' and '.join(missing)} must be given")
        return value


class ClusterApiGroup(StrictValue):
    """A scalable resource of Cluster API (`cluster.x-k8s.io`), in the cluster itself or in its management cluster."""

    kind: Literal["clusterApi"] = "clusterApi"
    resource: Literal["machinedeployments", "machinepools"] = Field(description="what is scaled")
    namespace: DnsLabel = Field(description="where it is")
    name: _ProviderName = Field(description="its name at the provider")


class AwsAutoScalingGroup(StrictValue):
    kind: Literal["awsAutoScalingGroup"] = "awsAutoScalingGroup"
    region: DnsLabel = Field(description="region of AWS")
    name: _ProviderName = Field(description="its name at the provider")


class AwsEksNodeGroup(StrictValue):
    """A managed node group of an EKS cluster."""

    kind: Literal["awsEksNodeGroup"] = "awsEksNodeGroup"
    region: DnsLabel = Field(description="region of AWS")
    cluster: _ProviderName = Field(description="the EKS cluster")
    name: _ProviderName = Field(description="its name at the provider")


class WebhookGroup(StrictValue):
    """Whatever else makes nodes: docs/node-group-webhook.yaml says what it is asked."""

    kind: Literal["webhook"] = "webhook"
    url: _Url = Field(description="where it listens; the paths of its OpenAPI document are below it")
    secret: DnsSubdomain = Field(
        description="name of the key that signs requests: a file in the executor's FLOTILLA_EXECUTOR_SECRETS_DIR"
    )


class KwokGroup(StrictValue):
    """Nodes that kwok plays: they are Node objects and nothing else."""

    kind: Literal["kwok"] = "kwok"


NodeProvider = Annotated[
    ClusterApiGroup | AwsAutoScalingGroup | AwsEksNodeGroup | WebhookGroup | KwokGroup, Field(discriminator="kind")
]


class NodeGroup(StrictValue):
    """Nodes of one kind that a provider makes and deletes. They have the label `flotilla.dev/node-group: <name>`."""

    name: DnsLabel = Field(description="name of the group; its nodes have it as label flotilla.dev/node-group")
    min_size: int = Field(default=0, ge=0, le=MAX_NODES, description="never fewer nodes than this")
    max_size: int = Field(ge=0, le=MAX_NODES, description="never more nodes than this")
    price: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="of one node for an hour, in the fleet's currency"
    )
    template: NodeTemplate = Field(description="what a new node will be like")
    provider: NodeProvider = Field(description="who makes and deletes the nodes")

    @field_validator("max_size")
    @classmethod
    def _not_below_least(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("min_size", 0)
        if value < least:
            raise ValueError(f"must not be less than minSize, which is {least}")
        return value


def is_part(text: str) -> bool:
    """Whether an amount is a part, such as 20%."""
    return text.endswith("%")


def _check_spare(text: str) -> str:
    if is_part(text):
        if not text[:-1].isascii() or not text[:-1].isdigit() or int(text[:-1]) > MAX_PERCENT:
            raise ValueError(f"{text!r}: want a whole number of percent, {MAX_PERCENT}% at most")
    elif parse_quantity(text) < 0:
        raise ValueError(f"{text!r} is negative")
    return text


_Spare = Annotated[
    str,
    StringConstraints(max_length=64),
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) and value is not True else value),
    AfterValidator(_check_spare),
    Field(
        json_schema_extra={
            "format": "int-or-string",
            "pattern": r"^([0-9]{1,4}%|([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?)$",
        }
    ),
]


class HeadRoom(StrictValue):
    """Room that is kept in a cluster beside all that runs and waits: an amount, or a part of what its pods request."""

    cpu: _Spare = Field(default="0", description="such as 8, or 20%")
    memory: _Spare = Field(default="0", description="such as 32Gi, or 20%")
    pods: _Spare = Field(default="0", description="such as 50, or 10%")

    def of(self, resource: str) -> str:
        return {"cpu": self.cpu, "memory": self.memory, "pods": self.pods}[resource]

    @property
    def has_parts(self) -> bool:
        return any(map(is_part, (self.cpu, self.memory, self.pods)))


class NodeLimits(StrictValue):
    """What all node groups of a cluster together may come to. What is absent is not limited."""

    nodes: int | None = Field(default=None, ge=0, le=MAX_NODES, description="nodes")
    cpu: NonNegativeQuantity | None = Field(default=None, description="allocatable cpu of these nodes")
    memory: NonNegativeQuantity | None = Field(default=None, description="allocatable memory of these nodes")
    price_per_hour: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="their price for an hour, in the fleet's currency"
    )


class ClusterDeclared(Value):
    """What the fleet is told of a cluster, over what its own watcher says of it."""

    name: str
    uid: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    price_per_hour: float | None = Field(default=None, ge=0, description="of one node, in the fleet's currency")
    node_prices: tuple[NodePrice, ...] = Field(
        default=(), exclude_if=is_empty, description="of nodes that cost something else; the first that applies counts"
    )
    watched_resources: tuple[str, ...] = Field(
        default=(), description="further resources to watch, as group/version/resource"
    )
    node_groups: tuple[NodeGroup, ...] = Field(
        default=(), exclude_if=is_empty, description="nodes that the autoscaler may ask for and give back"
    )
    provision: ProvisionDeclared | None = Field(
        default=None, exclude_if=is_empty, description="who makes the cluster; absent where it is there by itself"
    )
    head_room: HeadRoom | None = Field(
        default=None, description="room that its node groups keep; absent means as much as the fleet's settings say"
    )
    node_limits: NodeLimits | None = Field(default=None, description="what its node groups together may come to")
