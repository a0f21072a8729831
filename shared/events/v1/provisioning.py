"""Clusters that are made because somebody declared them: by Cluster API, or by the simulator.

What Cluster API is to make stays between the hub and the management cluster, as its variables may be secrets. The
simulator reads from `fleet.clusters` what concerns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, field_validator
from pydantic.config import JsonDict

from shared.events.v1.policies import is_empty
from shared.model.base import StrictValue, Value
from shared.model.names import DnsLabel, DnsSubdomain
from shared.model.quantities import NonNegativeQuantity

_NAMED: Final[JsonDict] = {"x-list-map": ["name"]}
_Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Version = Annotated[str, StringConstraints(max_length=64, pattern=r"^v[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$")]
_Cidr = Annotated[str, StringConstraints(max_length=64, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]


def _check_unique(names: Sequence[str]) -> None:
    if twice := next((name for index, name in enumerate(names) if name in names[:index]), None):
        raise ValueError(f"name {twice!r} is used twice")


class ClusterClass(StrictValue):
    name: DnsSubdomain = Field(description="name of the ClusterClass")
    namespace: DnsLabel | None = Field(default=None, description="where it is; absent means beside the cluster")


class Workers(StrictValue):
    """Machines of one class: a MachineDeployment, or a MachinePool, of the topology."""

    name: DnsLabel = Field(description="name in the topology")
    worker_class: _Text = Field(alias="class", description="one of the ClusterClass's classes of workers")
    resource: Literal["machinedeployments", "machinepools"] = Field(
        default="machinedeployments", description="what they are in Cluster API"
    )
    replicas: int | None = Field(
        default=None, ge=0, le=10_000, description="how many; absent leaves that to who scales them, a node group say"
    )
    failure_domain: _Text | None = Field(default=None, description="where they are, such as a zone")


class Variable(StrictValue):
    """A variable of the ClusterClass."""

    name: _Text
    value: Any = Field(description="as the ClusterClass's schema says")


class ClusterApiProvision(StrictValue):
    """A Cluster of Cluster API (`cluster.x-k8s.io`), by its topology."""

    provider: Literal["clusterApi"] = "clusterApi"
    management: DnsLabel | None = Field(
        default=None,
        description="the management cluster: a kubeconfig of this name in the hub's FLOTILLA_HUB_MANAGEMENT_DIR; "
        "absent means the hub's own cluster",
    )
    namespace: DnsLabel = Field(description="where the objects of Cluster API are")
    cluster_class: ClusterClass = Field(alias="class", description="what it is made by")
    version: _Version = Field(description="version of Kubernetes, such as v1.36.3")
    control_plane_replicas: int | None = Field(
        default=None, ge=1, le=9, description="machines of the control plane; absent where it is not of machines"
    )
    workers: tuple[Workers, ...] = Field(
        default=(), max_length=64, description="worker machines", json_schema_extra=_NAMED
    )
    variables: tuple[Variable, ...] = Field(
        default=(), max_length=128, description="variables of the ClusterClass", json_schema_extra=_NAMED
    )
    pod_cidrs: tuple[_Cidr, ...] = Field(default=(), max_length=2, description="addresses of pods")
    service_cidrs: tuple[_Cidr, ...] = Field(default=(), max_length=2, description="addresses of services")

    @field_validator("workers")
    @classmethod
    def _unique_workers(cls, value: tuple[Workers, ...]) -> tuple[Workers, ...]:
        _check_unique([item.name for item in value])
        return value

    @field_validator("variables")
    @classmethod
    def _unique_variables(cls, value: tuple[Variable, ...]) -> tuple[Variable, ...]:
        _check_unique([item.name for item in value])
        return value


class SimulatedNodes(StrictValue):
    """Nodes of one kind of a simulated cluster."""

    name: DnsLabel = Field(default="default", description="name of the kind; nodes have it as flotilla.dev/node-group")
    count: int = Field(default=3, ge=0, le=10_000, description="how many")
    cpu: NonNegativeQuantity = Field(default="8", description="of each")
    memory: NonNegativeQuantity = Field(default="32Gi", description="of each")


class SimulatorProvision(StrictValue):
    """A cluster of `services/simulator`, where that runs with FLOTILLA_SIMULATOR_PROVISION."""

    provider: Literal["simulator"] = "simulator"
    nodes: tuple[SimulatedNodes, ...] = Field(
        default=(SimulatedNodes(),), max_length=16, description="its nodes; absent means three of a common size"
    )

    @field_validator("nodes")
    @classmethod
    def _unique_nodes(cls, value: tuple[SimulatedNodes, ...]) -> tuple[SimulatedNodes, ...]:
        _check_unique([item.name for item in value])
        return value


Provision = Annotated[ClusterApiProvision | SimulatorProvision, Field(discriminator="provider")]


class ProvisionDeclared(Value):
    """Who makes a declared cluster. `ending`: nothing of the fleet's runs there any more, and it may go."""

    provider: str
    nodes: tuple[SimulatedNodes, ...] = Field(
        default=(), exclude_if=is_empty, description="what the simulator is to make"
    )
    ending: bool = Field(
        default=False, exclude_if=is_empty, description="the simulator removes it; the others do not ask"
    )
