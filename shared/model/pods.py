"""What a pod asks of the node that it runs on: its shape.

Two pods of equal shape may run on the same nodes, at the same cost; all work of the scheduler is shared between
them. `PodSpec` reads those fields of `corev1.PodSpec` that matter for that and checks them by Kubernetes' rules
(k8s.io/kubernetes pkg/apis/core/validation); what it does not know it leaves to the API server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StringConstraints, model_validator

from shared.model.affinity import PodAffinity, TopologySpreadConstraint
from shared.model.base import KubernetesValue
from shared.model.names import DnsLabel, LabelKey, LabelValue
from shared.model.quantities import NonNegativeQuantity, parse_quantity
from shared.model.resources import ContainerRequest, ContainerResources, effective_requests, is_extended
from shared.model.selectors import NodeSelector, PreferredTerm
from shared.model.taints import Toleration

WHOLE_DEVICE = 1000
# On a pod template: each GPU that the pod asks for may be shared, and this is its part in thousandths.
GPU_MILLI_ANNOTATION = "flotilla.dev/gpu-milli"
ANY_ADDRESS = "0.0.0.0"

Port = Annotated[int, Field(ge=1, le=65535)]
RestartPolicy = Literal["Always", "OnFailure", "Never"]


class HostPort(NamedTuple):
    protocol: str
    port: int
    address: str

    def conflicts(self, other: HostPort) -> bool:
        """Same port and protocol, on one address or where either takes every address."""
        return (self.protocol, self.port) == (other.protocol, other.port) and (
            self.address == other.address or ANY_ADDRESS in (self.address, other.address)
        )


@dataclass(frozen=True, slots=True)
class PodShape:
    """Hashable, equal for pods that are alike to the scheduler. `requests` is sorted by name, with `pods: 1`."""

    requests: tuple[tuple[str, int], ...]
    gpu_milli: int = WHOLE_DEVICE
    host_ports: tuple[HostPort, ...] = ()
    node_selector: tuple[tuple[str, str], ...] = ()
    affinity: NodeSelector | None = None
    preferred: tuple[PreferredTerm, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    # Of all containers, where it matters which nodes have them.
    images: tuple[str, ...] = ()
    # Persistent volume claims, as namespace/name.
    claims: tuple[str, ...] = ()


# A shape that asks for nothing and tolerates everything: of objects that are no pods.
NO_POD = PodShape(requests=(), tolerations=(Toleration(operator="Exists"),))


class PodContainerPort(KubernetesValue):
    container_port: Port
    host_port: Annotated[int, Field(ge=0, le=65535)] = 0
    host_ip: str = Field(default="", alias="hostIP")
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class Container(KubernetesValue):
    name: DnsLabel
    image: Annotated[str, StringConstraints(min_length=1)]
    resources: ContainerResources = ContainerResources()
    ports: tuple[PodContainerPort, ...] = ()
    restart_policy: RestartPolicy | None = None

    @model_validator(mode="after")
    def _extended_resources_are_whole(self) -> Self:
        for kind, amounts in (("requests", self.resources.requests), ("limits", self.resources.limits)):
            for name, text in amounts.items():
                if is_extended(name) and parse_quantity(text) % 1:
                    raise ValueError(f"resources.{kind}.{name} {text} must be a whole number")
        return self

    def request(self) -> ContainerRequest:
        return ContainerRequest(self.resources.requests, self.resources.limits, self.restart_policy == "Always")


class NodeAffinity(KubernetesValue):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredTerm, ...] = ()


class Affinity(KubernetesValue):
    node_affinity: NodeAffinity = NodeAffinity()
    pod_affinity: PodAffinity = PodAffinity()
    pod_anti_affinity: PodAffinity = PodAffinity()


class ClaimSource(KubernetesValue):
    claim_name: str


class Volume(KubernetesValue):
    persistent_volume_claim: ClaimSource | None = None


class PodSpec(KubernetesValue):
    containers: tuple[Container, ...] = Field(min_length=1)
    init_containers: tuple[Container, ...] = ()
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    affinity: Affinity = Affinity()
    tolerations: tuple[Toleration, ...] = ()
    overhead: dict[LabelKey, NonNegativeQuantity] = Field(default_factory=dict)
    resources: ContainerResources | None = None
    host_network: bool = False
    restart_policy: RestartPolicy | None = None
    node_name: str = ""
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    volumes: tuple[Volume, ...] = ()

    @model_validator(mode="after")
    def _constraints_are_unique(self) -> Self:
        seen = {(item.topology_key, item.when_unsatisfiable) for item in self.topology_spread_constraints}
        if len(seen) < len(self.topology_spread_constraints):
            raise ValueError("two topologySpreadConstraints have the same topologyKey and whenUnsatisfiable")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        seen: set[str] = set()
        for container in (*self.init_containers, *self.containers):
            if container.name in seen:
                raise ValueError(f"container name {container.name!r} is used twice")
            seen.add(container.name)
        return self

    def requests(self) -> dict[str, int]:
        pod_level = self.resources
        return effective_requests(
            (container.request() for container in self.containers),
            (container.request() for container in self.init_containers),
            self.overhead,
            ContainerRequest(pod_level.requests, pod_level.limits) if pod_level else None,
        )

    def host_ports(self) -> tuple[HostPort, ...]:
        """The ports taken on the node; with `hostNetwork` these are the container's own."""
        ports = {
            HostPort(port.protocol, port.host_port or port.container_port, port.host_ip or ANY_ADDRESS)
            for container in (*self.init_containers, *self.containers)
            for port in container.ports
            if port.host_port or self.host_network
        }
        return tuple(sorted(ports))

    def claims(self) -> frozenset[str]:
        """The names of the persistent volume claims that the pod's volumes are."""
        sources = (volume.persistent_volume_claim for volume in self.volumes)
        return frozenset(source.claim_name for source in sources if source is not None)

    def shape(
        self,
        *,
        gpu_milli: int = WHOLE_DEVICE,
        node_selector: dict[str, str] | None = None,
        tolerations: tuple[Toleration, ...] = (),
        images: bool = False,
        claims: tuple[str, ...] = (),
    ) -> PodShape:
        """The shape of this pod with further node selectors and tolerations merged in."""
        node_affinity = self.affinity.node_affinity
        return PodShape(
            requests=tuple(sorted(self.requests().items())),
            gpu_milli=gpu_milli,
            host_ports=self.host_ports(),
            node_selector=tuple(sorted({**self.node_selector, **(node_selector or {})}.items())),
            affinity=node_affinity.required_during_scheduling_ignored_during_execution,
            preferred=node_affinity.preferred_during_scheduling_ignored_during_execution,
            tolerations=(*self.tolerations, *tolerations),
            images=tuple(item.image for item in (*self.init_containers, *self.containers)) if images else (),
            claims=claims,
        )
