"""What a pod takes of its node, from the pod as API servers write it: msgspec skips all else.

For whoever reads pods by the thousand. What people write is read, and checked, by `shared.model.pods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from shared.model.pods import ANY_ADDRESS, GPU_MILLI_ANNOTATION, WHOLE_DEVICE, HostPort
from shared.model.resources import Amounts, ContainerRequest, effective_requests

# cluster-autoscaler's: whether a pod may be evicted, "true" or "false".
SAFE_TO_EVICT_ANNOTATION: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
# Of a pod that its kubelet made from a file: it goes with its node.
MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"


class _Struct(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Read once and dropped; without cycles, so the collector need not look."""


class ResourcesObject(_Struct, frozen=True):
    requests: dict[str, str] | None = None
    limits: dict[str, str] | None = None

    def request(self, *, sidecar: bool = False) -> ContainerRequest:
        return ContainerRequest(self.requests or {}, self.limits or {}, sidecar)


class PortObject(_Struct, frozen=True):
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = "TCP"


class ContainerObject(_Struct, frozen=True):
    resources: ResourcesObject = ResourcesObject()
    ports: list[PortObject] | None = None
    restart_policy: str | None = None

    def request(self) -> ContainerRequest:
        return self.resources.request(sidecar=self.restart_policy == "Always")


class PodSpecObject(_Struct, frozen=True):
    node_name: str = ""
    restart_policy: str = "Always"
    containers: list[ContainerObject] = []
    init_containers: list[ContainerObject] | None = None
    overhead: dict[str, str] | None = None
    resources: ResourcesObject | None = None

    def requests(self) -> Amounts:
        """What the pod takes of its node, `pods: 1` included. Raises QuantityError."""
        return effective_requests(
            (container.request() for container in self.containers),
            (container.request() for container in self.init_containers or ()),
            self.overhead,
            self.resources.request() if self.resources else None,
        )

    def host_ports(self) -> tuple[HostPort, ...]:
        return tuple(
            sorted(
                HostPort(port.protocol, port.host_port, port.host_ip or ANY_ADDRESS)
                for container in (*self.containers, *(self.init_containers or ()))
                for port in container.ports or ()
                if port.host_port
            )
        )


def gpu_milli(annotations: Mapping[str, str] | None) -> int:
    """The part of each of its GPUs that a pod takes, in thousandths.

    One that makes no sense counts as the whole device: too much held rather than too little.
    """
    text = (annotations or {}).get(GPU_MILLI_ANNOTATION, "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(WHOLE_DEVICE)) else 0
    return number if 0 < number < WHOLE_DEVICE else WHOLE_DEVICE
