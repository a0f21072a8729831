"""Nodes, pods and jobs as their records hold them, decoded to the few fields that decide placements.

msgspec skips all else: 5 µs for a pod of 3.5 KB. A record that does not have the shape that every API server
writes raises DecodeError, and the shell sends it to the dead letters.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from shared.events.registry import DecodeError
from shared.events.v1.workloads import FieldError
from shared.model.identities import Resource
from shared.model.pods import ANY_ADDRESS, GPU_MILLI_ANNOTATION, WHOLE_DEVICE, HostPort
from shared.model.quantities import QuantityError
from shared.model.resources import ContainerRequest, amount_of, effective_requests

NODES = Resource("", "v1", "nodes")
PODS = Resource("", "v1", "pods")
JOBS = Resource("batch", "v1", "jobs")

T = TypeVar("T")

TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})


class _Struct(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Read once and dropped; without cycles, so the collector need not look."""


class Metadata(_Struct, frozen=True):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class TaintObject(_Struct, frozen=True):
    key: str
    effect: str
    value: str = ""


class Condition(_Struct, frozen=True):
    type: str
    status: str
    reason: str = ""


class NodeSpecObject(_Struct, frozen=True):
    unschedulable: bool = False
    taints: list[TaintObject] | None = None


class NodeStatusObject(_Struct, frozen=True):
    allocatable: dict[str, str] | None = None
    conditions: list[Condition] | None = None


class NodeObject(_Struct, frozen=True):
    metadata: Metadata = Metadata()
    spec: NodeSpecObject = NodeSpecObject()
    status: NodeStatusObject = NodeStatusObject()

    @property
    def ready(self) -> bool:
        return any(item.type == "Ready" and item.status == "True" for item in self.status.conditions or ())


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


class PodStatusObject(_Struct, frozen=True):
    phase: str = "Pending"
    conditions: list[Condition] | None = None


class PodObject(_Struct, frozen=True):
    metadata: Metadata = Metadata()
    spec: PodSpecObject = PodSpecObject()
    status: PodStatusObject = PodStatusObject()

    def requests(self) -> tuple[tuple[str, int], ...]:
        spec = self.spec
        amounts = effective_requests(
            (container.request() for container in spec.containers),
            (container.request() for container in spec.init_containers or ()),
            spec.overhead,
            spec.resources.request() if spec.resources else None,
        )
        return tuple(sorted(amounts.items()))

    def gpu_milli(self) -> int:
        """A shared part that makes no sense counts as the whole device: too much held rather than too little."""
        text = (self.metadata.annotations or {}).get(GPU_MILLI_ANNOTATION, "")
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(WHOLE_DEVICE)) else 0
        return number if 0 < number < WHOLE_DEVICE else WHOLE_DEVICE

    def host_ports(self) -> tuple[HostPort, ...]:
        return tuple(
            sorted(
                HostPort(port.protocol, port.host_port, port.host_ip or ANY_ADDRESS)
                for container in (*self.spec.containers, *(self.spec.init_containers or ()))
                for port in container.ports or ()
                if port.host_port
            )
        )

    @property
    def unschedulable(self) -> bool:
        """Whether its cluster's scheduler finds no node for it."""
        return any(
            item.type == "PodScheduled" and item.status == "False" and item.reason == "Unschedulable"
            for item in self.status.conditions or ()
        )


class JobStatusObject(_Struct, frozen=True):
    conditions: list[Condition] | None = None


class JobObject(_Struct, frozen=True):
    metadata: Metadata = Metadata()
    status: JobStatusObject = JobStatusObject()

    @property
    def finished(self) -> bool:
        return any(
            item.type in {"Complete", "Failed"} and item.status == "True" for item in self.status.conditions or ()
        )


_NODE_DECODER = msgspec.json.Decoder(NodeObject)
_POD_DECODER = msgspec.json.Decoder(PodObject)
_JOB_DECODER = msgspec.json.Decoder(JobObject)


def decode_node(raw: bytes) -> NodeObject:
    """Raises DecodeError."""
    return _decode(_NODE_DECODER, raw)


def decode_pod(raw: bytes) -> PodObject:
    """Raises DecodeError."""
    return _decode(_POD_DECODER, raw)


def decode_job(raw: bytes) -> JobObject:
    """Raises DecodeError."""
    return _decode(_JOB_DECODER, raw)


def allocatable(node: NodeObject) -> dict[str, int]:
    """Raises DecodeError."""
    try:
        return {name: max(amount_of(name, text), 0) for name, text in (node.status.allocatable or {}).items()}
    except QuantityError as error:
        raise _error(str(error)) from error


def pod_requests(pod: PodObject) -> tuple[tuple[str, int], ...]:
    """Raises DecodeError."""
    try:
        return pod.requests()
    except QuantityError as error:
        raise _error(str(error)) from error


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise _error(str(error)) from error
    except UnicodeDecodeError as error:
        raise _error("not UTF-8") from error


def _error(message: str) -> DecodeError:
    return DecodeError((FieldError(field="", reason="Invalid", message=message[:512]),))
