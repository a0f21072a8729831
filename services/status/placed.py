"""Placements as plans: only what a status needs is decoded, in one pass over the bytes.

Validating a placement with its whole workload takes four times as long, and at a start there is one for each.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct

from services.status.decision.plan import Mode, Placement, Plan, Refusal, SetPlan, Share
from services.status.decoding import decode_message
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.workloads import Binding
from shared.model.pods import GPU_MILLI_ANNOTATION

# Kinds whose controllers roll pods out, and tell how far they are.
_ROLLED: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
_RUN_TO_COMPLETION: Final = frozenset({"Never", "OnFailure"})
_MAX_MESSAGE: Final = 1024


class _Part(Struct, frozen=True, gc=False, rename="camel"):
    """A part of a message."""


class _Error(_Part, frozen=True):
    field: str
    reason: str
    message: str


class _Request(_Part, frozen=True):
    id: str
    published_at: int
    traceparent: str = ""


class _Rejected(_Part, frozen=True):
    request: _Request
    errors: Annotated[tuple[_Error, ...], Meta(min_length=1)]


class _Share(_Part, frozen=True):
    cluster: str
    replicas: int
    nodes: tuple[str, ...] = ()
    ordinals: tuple[int, ...] = ()
    overrides: tuple[str, ...] = ()
    leaving: int = 0

    @property
    def kept(self) -> int:
        return self.replicas - self.leaving


class _Requested(_Part, frozen=True):
    containers: Raw


class _SetPlacement(_Part, frozen=True):
    name: str
    desired: int
    shares: tuple[_Share, ...] = ()
    reason: str = ""
    message: str = ""
    requested: _Requested | None = None


class PodSetShape(_Part, frozen=True):
    """All of a pod set but its number of replicas: when this changes, its pods are made anew."""

    name: str
    image: str | None = None
    command: Raw = Raw()
    args: Raw = Raw()
    env: Raw = Raw()
    ports: Raw = Raw()
    resources: Raw = Raw()
    template: dict[str, Any] | None = None
    manifest: dict[str, Any] | None = None


class _Terms(_Part, frozen=True):
    binding: Binding = Binding.CLUSTER
    node_selector: Raw = Raw()
    tolerations: Raw = Raw()


class _Workload(_Part, frozen=True):
    pod_sets: tuple[PodSetShape, ...]
    labels: Raw = Raw()
    annotations: dict[str, str] = {}
    placement: _Terms = _Terms()


class _Placed(_Part, frozen=True):
    workload: _Workload
    uid: str
    workload_generation: int
    request: _Request
    pod_sets: tuple[_SetPlacement, ...] = ()
    withdrawn: tuple[str, ...] = ()
    deleting: bool = False


class _Published(_Part, frozen=True):
    generation: int
    decided_at: int
    placement: _Placed | None = None
    rejection: _Rejected | None = None


_DECODER: Final = msgspec.json.Decoder(_Published)


def placement_of(value: bytes) -> Placement:
    """What a record of `fleet.placements` says. Raises DecodeError."""
    published = decode_message(_DECODER, PlacementPublished, value)
    placed, rejected = published.placement, published.rejection
    refusal = _refusal(rejected) if rejected is not None else None
    request = placed.request if placed is not None else rejected.request if rejected is not None else None
    return Placement(
        generation=published.generation,
        plan=_plan(published, placed, refusal) if placed is not None else None,
        refusal=refusal,
        traceparent=request.traceparent if request is not None else "",
    )


def _refusal(rejected: _Rejected) -> Refusal:
    message = "; ".join(f"{error.field or 'request'}: {error.message}" for error in rejected.errors)
    request = rejected.request
    return Refusal(request.id, request.published_at, rejected.errors[0].reason, message[:_MAX_MESSAGE])


def _plan(published: _Published, placed: _Placed, refusal: Refusal | None) -> Plan:
    shapes = {shape.name: shape for shape in placed.workload.pod_sets}
    first = placed.workload_generation == 1
    return Plan.of(
        generation=published.generation,
        decided_at=published.decided_at,
        uid=placed.uid,
        workload_generation=placed.workload_generation,
        request_id=placed.request.id,
        requested_at=placed.request.published_at,
        sets=tuple(_set_plan(item, shapes.get(item.name), placed.workload, first=first) for item in placed.pod_sets),
        withdrawn=_left(placed),
        deleting=placed.deleting,
        refusal=refusal,
    )


def _left(placed: _Placed) -> tuple[str, ...]:
    """Where nothing counts any more: what is there has yet to be withdrawn, or to be replaced elsewhere until it is."""
    shares = [share for placement in placed.pod_sets for share in placement.shares]
    kept = {share.cluster for share in shares if share.kept}
    leaving = {share.cluster for share in shares if share.leaving} - kept
    return (*placed.withdrawn, *sorted(leaving))


def _set_plan(placement: _SetPlacement, shape: PodSetShape | None, workload: _Workload, *, first: bool) -> SetPlan:
    bound, requested = workload.placement.binding is Binding.NODE, placement.requested
    # Requests are applied to pods that run, without another generation of the workload.
    unchanged, said = first and requested is None, bytes(requested.containers) if requested is not None else b""
    return SetPlan(
        name=placement.name,
        mode=_mode(shape) if shape is not None else Mode.PODS,
        desired=placement.desired,
        shares=tuple(_share(share, said, bound=bound) for share in placement.shares if share.kept or not share.leaving),
        placed=sum(share.kept for share in placement.shares),
        reason=placement.reason,
        message=placement.message[:_MAX_MESSAGE],
        template=_template_hash(shape, workload, requested) if shape is not None else "",
        rolled=shape is not None and not (bound or unchanged) and _is_rolled(shape),
    )


def _is_rolled(shape: PodSetShape) -> bool:
    # An image or a template is rendered as a Deployment.
    return shape.manifest is None or _kind(shape.manifest) in _ROLLED


def _share(share: _Share, requested: bytes, *, bound: bool) -> Share:
    # With `binding: cluster` the nodes are reservations only: the cluster does not learn of them.
    bindings = tuple(zip(share.ordinals, share.nodes, strict=False)) if bound else ()
    return Share(share.cluster, share.kept, bindings[: share.kept], share.overrides, requested)


def _template_hash(shape: PodSetShape, workload: _Workload, requested: _Requested | None) -> str:
    """Of all that the scheduler renders into the pods: when this changes, and only then, they are made anew.

    It is published, and compared after a restart: what it is made from changes with the schema only.
    """
    terms = workload.placement
    rendered = [terms.binding.encode(), workload.labels, terms.node_selector, terms.tolerations]
    if shape.image is None:
        rendered.append(msgspec.json.encode([shape.template, shape.manifest]))
    else:
        gpu = workload.annotations.get(GPU_MILLI_ANNOTATION, "")
        rendered += (shape.image.encode(), gpu.encode())
        rendered += (shape.command, shape.args, shape.env, shape.ports, shape.resources)
    if requested is not None:
        rendered.append(requested.containers)
    return blake2b(b"\0".join(rendered), digest_size=8).hexdigest()


def _mode(shape: PodSetShape) -> Mode:
    if shape.manifest is None:
        return _mode_of_pod(shape.template or {})
    match _kind(shape.manifest):
        case "Pod":
            return _mode_of_pod(shape.manifest)
        case "Deployment" | "StatefulSet" | "ReplicaSet":
            return Mode.PODS
        case "Job":
            return Mode.JOB
        case "DaemonSet":
            return Mode.DAEMON
    return Mode.NO_PODS


def _mode_of_pod(pod: dict[str, Any]) -> Mode:
    spec = pod.get("spec")
    policy = spec.get("restartPolicy") if isinstance(spec, dict) else None
    return Mode.COMPLETION if isinstance(policy, str) and policy in _RUN_TO_COMPLETION else Mode.PODS


def _kind(manifest: dict[str, Any]) -> str:
    kind = manifest.get("kind")
    return kind if isinstance(kind, str) else ""
