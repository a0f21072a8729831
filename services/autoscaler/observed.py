"""Pods and statuses as the algorithms see them: only the fields that they need are decoded, in one pass."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct, field

from services.autoscaler.decision.horizontal.seen import Container, Pod
from services.autoscaler.decision.workloads import OwnedPod
from shared.events.envelope import EnvelopeError, parse_time
from shared.events.registry import DecodeError
from shared.events.v1.status import Phase
from shared.events.v1.workloads import FieldError
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL
from shared.model.quantities import QuantityError, quantity_milli

_MEASURED: Final = ("cpu", "memory")


class _Labels(Struct):
    workload: str | None = field(default=None, name=WORKLOAD_LABEL)
    namespace: str | None = field(default=None, name=WORKLOAD_NAMESPACE_LABEL)
    pod_set: str | None = field(default=None, name=POD_SET_LABEL)


class _Metadata(Struct, rename="camel"):
    labels: _Labels | None = None
    deletion_timestamp: str | None = None


class _Resources(Struct):
    requests: dict[str, str | int | float] | None = None


class _Container(Struct, rename="camel"):
    name: str = ""
    resources: _Resources | None = None
    restart_policy: str | None = None


class _Spec(Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    resources: _Resources | None = None


class _Condition(Struct, rename="camel"):
    type: str = ""
    status: str = ""
    last_transition_time: str | None = None


class _Status(Struct, rename="camel"):
    phase: str | None = None
    conditions: list[_Condition] | None = None
    start_time: str | None = None


class _Pod(Struct):
    metadata: _Metadata
    spec: _Spec | None = None
    status: _Status | None = None


class _Told(Struct):
    generation: int
    phase: str


_DECODER: Final = msgspec.json.Decoder(_Pod)
_STATUS_DECODER: Final = msgspec.json.Decoder(_Told)


def owned_pod(key: str, value: bytes) -> OwnedPod | None:
    """None if it belongs to no workload. Raises DecodeError."""
    try:
        pod = _DECODER.decode(value)
        labels = pod.metadata.labels
        if labels is None or not labels.workload or not labels.namespace or not labels.pod_set:
            return None
        return OwnedPod(f"{labels.namespace}/{labels.workload}", labels.pod_set, _facts(key, pod))
    except (msgspec.DecodeError, UnicodeDecodeError, QuantityError, EnvelopeError) as error:
        raise DecodeError((FieldError(field="", reason="Malformed", message=str(error)[:512]),)) from error


def running_generation(value: bytes) -> int | None:
    """Which decision a workload's status says to be done: every replica of it is ready. Raises DecodeError."""
    try:
        told = _STATUS_DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError((FieldError(field="", reason="Malformed", message=str(error)[:512]),)) from error
    return told.generation if told.phase == Phase.RUNNING else None


def _facts(key: str, pod: _Pod) -> Pod:
    spec, status = pod.spec or _Spec(), pod.status or _Status()
    lasting = [item for item in spec.init_containers or () if item.restart_policy == "Always"]
    containers = tuple(Container(item.name, _requests(item.resources)) for item in [*lasting, *(spec.containers or ())])
    own = _requests(spec.resources) if spec.resources is not None and spec.resources.requests else None
    if own is not None:
        asked = {name for item in containers for name in item.requests}
        summed = {name: sum(item.requests.get(name, 0) for item in containers) for name in asked}
        own = {**summed, **own}
    ready = next((item for item in status.conditions or () if item.type == "Ready"), None)
    return Pod(
        key=key,
        phase=status.phase or "Pending",
        containers=containers,
        own_requests=own,
        deleting=pod.metadata.deletion_timestamp is not None,
        ready=ready.status if ready is not None else "",
        ready_since_ms=_moment(ready.last_transition_time if ready is not None else None) or 0,
        started_ms=_moment(status.start_time),
    )


def _requests(resources: _Resources | None) -> dict[str, int]:
    """In thousandths."""
    found = (resources.requests or {}) if resources is not None else {}
    return {name: quantity_milli(str(found[name])) for name in _MEASURED if name in found}


def _moment(text: str | None) -> int | None:
    return parse_time(text) if text else None
