"""Nodes and pods as their records hold them, as far as node counts depend on it: msgspec skips all else.

Of pods that are alike the demand is one object. Whatever a cluster's own scheduler keeps (selectors, affinity,
tolerations, rules between pods) is part of it, since it is that scheduler which places what is evicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from services.autoscaler.decision.nodes.scheduling import Demand, PodFacts, ShareKey, Term, rules_of, share_of, terms_of
from services.autoscaler.decision.nodes.seen import (
    ANNOTATED,
    BY_VOLUME,
    LOCAL_STORAGE,
    UNKNOWN,
    UNOWNED,
    NodeKey,
    PodSet,
)
from shared.events.envelope import EnvelopeError, parse_time
from shared.events.registry import DecodeError
from shared.events.v1.workloads import FieldError
from shared.model.identities import ObjectKey
from shared.model.pod_objects import MIRROR_ANNOTATION, SAFE_TO_EVICT_ANNOTATION, PodSpecObject, gpu_milli
from shared.model.pods import PodShape, PodSpec
from shared.model.quantities import QuantityError

# As cluster-autoscaler and Karpenter read them.
DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"
KEEP_NODE: Final = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
_ENDED: Final = frozenset({"Succeeded", "Failed"})
_MOST_KINDS = 4096
_IN_MEMORY = "Memory"


class _Struct(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Read once and dropped; without cycles, so the collector need not look."""


class _Owner(_Struct, frozen=True):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class _Metadata(_Struct, frozen=True):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None


class _Source(_Struct, frozen=True):
    """Of a volume, of whatever kind."""

    medium: str = ""


class _Volume(_Struct, frozen=True):
    empty_dir: _Source | None = None
    host_path: _Source | None = None
    persistent_volume_claim: _Source | None = None
    ephemeral: _Source | None = None


class _Spec(PodSpecObject, frozen=True):
    node_selector: msgspec.Raw = msgspec.Raw(b"null")
    affinity: msgspec.Raw = msgspec.Raw(b"null")
    tolerations: msgspec.Raw = msgspec.Raw(b"null")
    topology_spread_constraints: msgspec.Raw = msgspec.Raw(b"null")
    volumes: list[_Volume] | None = None
    priority: int | None = None


class _Condition(_Struct, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""


class _Status(_Struct, frozen=True):
    phase: str = "Pending"
    conditions: list[_Condition] | None = None

    def has(self, kind: str, status: str, reason: str = "") -> bool:
        found = (item for item in self.conditions or () if item.type == kind and item.status == status)
        return any(not reason or item.reason == reason for item in found)


class _Pod(_Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()


_DECODER: Final = msgspec.json.Decoder(_Pod)


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """One that has not ended. `waits`: its cluster's scheduler finds no node for it. `owner` is its controller, or its
    own name; `share` is None where it belongs to no workload of the fleet.
    """

    cluster: str
    namespace: str
    name: str
    node: str
    owner: str
    demand: Demand
    labels: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] = ()
    share: ShareKey | None = None
    daemon: bool = False
    pinned: str = ""
    ready: bool = False
    leaving: bool = False
    waits: bool = False
    priority: int = 0
    created_ms: int = 0

    @property
    def key(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.name}"

    @property
    def at(self) -> NodeKey:
        return NodeKey(self.cluster, self.node)


class PodReader:
    """Reads pods; remembers the demands of those that are alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[Demand, tuple[Term, ...], bool]] = {}

    def read(self, key: ObjectKey, raw: bytes) -> ObservedPod | None:
        """None of one that has ended. Raises DecodeError."""
        try:
            pod = _DECODER.decode(raw)
            if pod.status.phase in _ENDED:
                return None
            return self._observed(key, pod)
        except (msgspec.MsgspecError, UnicodeDecodeError, QuantityError, EnvelopeError) as error:
            raise DecodeError((FieldError(field="", reason="Invalid", message=str(error)[:512]),)) from error

    def _observed(self, key: ObjectKey, pod: _Pod) -> ObservedPod:
        meta, spec, status = pod.metadata, pod.spec, pod.status
        labels, annotations = meta.labels or {}, meta.annotations or {}
        demand, terms, known = self._demand(key, pod, labels)
        owner = next((item for item in meta.owner_references or () if item.controller), None)
        daemon = (owner is not None and owner.kind == "DaemonSet") or MIRROR_ANNOTATION in annotations
        pinned = "" if daemon else next(_pins(spec, annotations, owned=owner is not None), "")
        leaving = meta.deletion_timestamp is not None
        return ObservedPod(
            cluster=key.cluster,
            namespace=key.namespace,
            name=key.name,
            node=spec.node_name,
            owner=f"{owner.kind}/{owner.name}" if owner is not None else key.name,
            demand=demand,
            labels=tuple(labels.items()),
            terms=terms,
            share=share_of(key.cluster, labels),
            daemon=daemon,
            pinned=pinned or ("" if known or daemon else UNKNOWN),
            ready=status.has("Ready", "True") and not leaving,
            leaving=leaving,
            waits=known and not spec.node_name and not leaving and status.has("PodScheduled", "False", "Unschedulable"),
            priority=spec.priority or 0,
            created_ms=parse_time(meta.creation_timestamp) if meta.creation_timestamp else 0,
        )

    def _demand(self, key: ObjectKey, pod: _Pod, labels: Mapping[str, str]) -> tuple[Demand, tuple[Term, ...], bool]:
        """The demand, what it wants of other pods, and whether all that it asks for could be read."""
        spec = pod.spec
        parts = (spec.node_selector, spec.affinity, spec.tolerations, spec.topology_spread_constraints)
        raw = tuple(map(bytes, parts))
        amounts = tuple(sorted(spec.requests().items()))
        milli, ports = gpu_milli(pod.metadata.annotations), spec.host_ports()
        # Only rules between pods know of labels.
        named = (key.namespace, tuple(labels.items())) if b"opology" in raw[3] or b"pod" in raw[1] else ()
        kind = (key.cluster, raw, amounts, milli, ports, named)
        found = self._known.get(kind)
        if found is None:
            if len(self._known) >= _MOST_KINDS:
                self._known.clear()
            plain = PodShape(requests=amounts, gpu_milli=milli, host_ports=ports)
            found = self._known[kind] = _asked(key, raw, plain, labels)
        return found


class PodKnowledge:
    """What pods may know of each other, made anew for each look: a trial keeps its own notes on it. Where nobody asks
    anything of others (`asked`) nothing is made.
    """

    def __init__(self, pods: Iterable[ObservedPod], pending: Iterable[tuple[PodSet, ...]]) -> None:
        asked = any(pod.terms or pod.demand.rules is not None for pod in pods)
        self.asked = asked or any(item.demand.rules is not None for each in pending for item in each)
        self._known: dict[tuple[str, tuple[tuple[str, str], ...], tuple[Term, ...], bool], PodFacts] = {}

    def of(self, pod: ObservedPod) -> PodFacts | None:
        if not self.asked:
            return None
        key = (pod.namespace, pod.labels, pod.terms, pod.leaving)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = PodFacts(pod.namespace, dict, pod.labels, pod.terms, ending=pod.leaving)
        return found

    def waiting(self, pod: ObservedPod) -> PodFacts | None:
        return PodFacts(pod.namespace, dict, pod.labels, pod.terms) if self.asked else None


def _asked(
    key: ObjectKey, raw: tuple[bytes, ...], plain: PodShape, labels: Mapping[str, str]
) -> tuple[Demand, tuple[Term, ...], bool]:
    names = ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints")
    document: dict[str, Any] = {name: msgspec.json.decode(part) for name, part in zip(names, raw, strict=True)}
    # What it asks for was read already, from all of its containers.
    document["containers"] = [{"name": "all", "image": "all"}]
    try:
        spec = PodSpec.model_validate(document)
    except ValidationError:
        # What an API server took and we cannot read, such as an operator that is new.
        return Demand(plain, (key.cluster,)), (), False
    shape = replace(
        spec.shape(), requests=plain.requests, gpu_milli=plain.gpu_milli, host_ports=plain.host_ports, images=()
    )
    affinity = spec.affinity
    rules = rules_of(affinity, spec.topology_spread_constraints, key.namespace, labels)
    terms = terms_of(affinity.pod_affinity, affinity.pod_anti_affinity, key.namespace, labels)
    return Demand(shape, (key.cluster,), rules=rules), terms, True


def _pins(spec: _Spec, annotations: Mapping[str, str], *, owned: bool) -> Iterator[str]:
    """Why it may not be evicted. What says that it is safe to evict may be without an owner and lose its storage."""
    safe = annotations.get(SAFE_TO_EVICT_ANNOTATION)
    if safe == "false" or annotations.get(DO_NOT_DISRUPT) == "true":
        yield ANNOTATED
    volumes = spec.volumes or ()
    if any(item.persistent_volume_claim is not None or item.ephemeral is not None for item in volumes):
        yield BY_VOLUME
    if safe == "true":
        return
    if any(
        item.host_path is not None or (item.empty_dir is not None and item.empty_dir.medium != _IN_MEMORY)
        for item in volumes
    ):
        yield LOCAL_STORAGE
    if not owned:
        yield UNOWNED
