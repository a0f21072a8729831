"""A hub cluster and a fleet around the bridge's machine, in virtual time and without I/O.

The hub cluster keeps objects by the rules that the bridge depends on: resource versions, generations, finalizers, uids,
a status that only its subresource changes. It gives back every change as a stimulus, as a watch does. The fleet's side
is played by the test, record by record; what the bridge publishes is kept for assertions.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from services.hub.decision.instructions import (
    CaughtUp,
    ClusterSeen,
    CreateObject,
    DeclarationSeen,
    DeleteObject,
    Deprovision,
    Due,
    HeartbeatSeen,
    Item,
    Look,
    PlacementSeen,
    Provision,
    ProvisionSeen,
    PublishAudit,
    PublishDeclaration,
    PublishRequest,
    ReplaceObject,
    RequestAcknowledged,
    SetFinalizers,
    Source,
    StatusSeen,
    WorkloadSeen,
    WriteStatus,
)
from services.hub.decision.machine import Bridge
from services.hub.decision.resources import API_VERSION, CLUSTERS, WORKLOADS
from services.hub.decision.state import Policy
from services.hub.decision.views import cluster_view, workload_view
from shared.events.v1.audit import ActionAudited
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import RequestRef, RequestRejected, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import ClusterStatus, Counts, Phase, WorkloadStatus
from shared.events.v1.workloads import ApplyWorkload, FieldError, Workload
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import Resource, WorkloadKey
from shared.model.provisioning import Standing

Json = dict[str, Any]
Address = tuple[str, str, str]

START_MS = 1_700_000_000_000
# Far more than any test has reason for: what looks more often than this spins.
LOOKS_PER_S = 10


class ConflictError(Exception):
    """What a real server answers with 409."""


@dataclass
class HubCluster:
    """Objects by plural, namespace and name."""

    objects: dict[Address, Json] = field(default_factory=dict)
    events: deque[tuple[Address, Json | None]] = field(default_factory=deque)
    writes: list[str] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def get(self, plural: str, name: str, namespace: str = "") -> Json:
        return self.objects[plural, namespace, name]

    def create(self, plural: str, body: Json, namespace: str = "", manager: str = "kubectl-create") -> Json:
        address = (plural, namespace, body["metadata"]["name"])
        if address in self.objects:
            raise ConflictError(f"{address} exists")
        document = copy.deepcopy(body)
        document.pop("status", None)
        number = next(self._numbers)
        document["metadata"] |= {
            "uid": f"uid-{number}",
            "generation": 1,
            "managedFields": [{"manager": manager, "operation": "Update", "time": "2026-01-01T00:00:00Z"}],
        }
        if namespace:
            document["metadata"]["namespace"] = namespace
        return self._store(address, document)

    def update(self, plural: str, name: str, namespace: str = "", *, spec: Json | None = None, **meta: Any) -> Json:
        """What a user changes; a different specification is a new generation."""
        address = (plural, namespace, name)
        document = copy.deepcopy(self.objects[address])
        if spec is not None and spec != document.get("spec"):
            document["spec"] = copy.deepcopy(spec)
            document["metadata"]["generation"] += 1
        document["metadata"] |= copy.deepcopy(meta)
        return self._store(address, document)

    def delete(self, plural: str, name: str, namespace: str = "") -> None:
        address = (plural, namespace, name)
        document = copy.deepcopy(self.objects[address])
        if document["metadata"].get("finalizers"):
            document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._store(address, document)
        else:
            self._remove(address)

    # What the bridge does

    def carry_out(self, instruction: Instruction) -> None:
        self.writes.append(type(instruction).__name__)
        match instruction:
            case CreateObject():
                if (instruction.resource.plural, instruction.namespace, instruction.body["metadata"]["name"]) not in (
                    self.objects
                ):
                    self.create(
                        instruction.resource.plural, instruction.body, instruction.namespace, manager="flotilla"
                    )
            case ReplaceObject():
                self._replace(instruction)
            case SetFinalizers():
                self._set_finalizers(instruction)
            case DeleteObject():
                document = self.objects.get(_address(instruction.resource, instruction.namespace, instruction.name))
                if document is not None and document["metadata"]["uid"] == instruction.uid:
                    self.delete(instruction.resource.plural, instruction.name, instruction.namespace)
            case WriteStatus():
                self._write_status(instruction)

    def _replace(self, replace: ReplaceObject) -> None:
        address = _address(replace.resource, replace.namespace, replace.name)
        present = self.objects.get(address)
        if present is None:
            return
        metadata = replace.body["metadata"]
        if metadata["resourceVersion"] != present["metadata"]["resourceVersion"]:
            raise ConflictError(f"{address} changed")
        self.update(
            *(address[0], address[2], address[1]),
            spec=replace.body["spec"],
            labels=metadata.get("labels", {}),
            annotations=metadata.get("annotations", {}),
            finalizers=metadata.get("finalizers", []),
        )

    def _set_finalizers(self, wanted: SetFinalizers) -> None:
        address = _address(wanted.resource, wanted.namespace, wanted.name)
        present = self.objects.get(address)
        if present is None:
            return
        if wanted.resource_version != present["metadata"]["resourceVersion"]:
            raise ConflictError(f"{address} changed")
        document = copy.deepcopy(present)
        document["metadata"]["finalizers"] = list(wanted.finalizers)
        if not wanted.finalizers and "deletionTimestamp" in document["metadata"]:
            self._remove(address)
        else:
            self._store(address, document)

    def _write_status(self, wanted: WriteStatus) -> None:
        address = _address(wanted.resource, wanted.namespace, wanted.name)
        present = self.objects.get(address)
        if present is None:
            return
        if present["metadata"]["uid"] != wanted.uid:
            raise ConflictError(f"{address} is another")
        document = copy.deepcopy(present)
        document["status"] = copy.deepcopy(wanted.status)
        self._store(address, document)

    def _store(self, address: Address, document: Json) -> Json:
        present = self.objects.get(address)
        if present is not None and _without_version(present) == _without_version(document):
            return present
        document["metadata"]["resourceVersion"] = str(next(self._numbers))
        self.objects[address] = document
        self.events.append((address, document))
        return document

    def _remove(self, address: Address) -> None:
        del self.objects[address]
        self.events.append((address, None))


class DiedError(Exception):
    """The hub was killed."""


class World:
    """`settle` lets everything happen that is due, and fails if that does not end.

    With `dies_behind` the hub is killed when it has carried out an instruction of that type, before anything else.
    `management` answers for the management cluster; None is no answer yet.
    """

    def __init__(self, policy: Policy | None = None, hub: HubCluster | None = None) -> None:
        self.policy = policy or Policy()
        self.hub = hub or HubCluster()
        self.now_ms = START_MS
        self.requests: list[PublishRequest] = []
        self.audits: list[ActionAudited] = []
        self.declared: dict[str, ClusterDeclared] = {}
        self.declarations: list[tuple[str, ClusterDeclared | None]] = []
        self.placements: dict[WorkloadKey, PlacementPublished] = {}
        self.statuses: dict[WorkloadKey, WorkloadStatus] = {}
        self.heartbeats: dict[str, ClusterObserved] = {}
        self._numbers = count(1)
        self.wishes: list[Provision | Deprovision] = []
        self.management: Callable[[Provision | Deprovision], Standing | None] = lambda _: None
        self.dies_behind: type[Instruction] | None = None
        self.start()

    def start(self) -> None:
        """A new life of the bridge: it lists, reads the compacted topics from the start, and is caught up."""
        self.bridge = Bridge(self.policy)
        self._due: dict[Item, int] = {}
        self.hub.events.clear()
        for address, document in self.hub.objects.items():
            self._watch(address, document)
        for key, placement in self.placements.items():
            self._feed(PlacementSeen(**self._stamp(), key=key, placement=placement))
        for key, status in self.statuses.items():
            self._feed(StatusSeen(**self._stamp(), key=key, status=status))
        for name, declared in self.declared.items():
            self._feed(DeclarationSeen(**self._stamp(), name=name, declared=declared))
        for name, heartbeat in self.heartbeats.items():
            self._feed(HeartbeatSeen(**self._stamp(), cluster=name, heartbeat=heartbeat))
        for source in Source:
            self._feed(CaughtUp(**self._stamp(), source=source))

    def settle(self, steps: int = 200) -> None:
        for _ in range(steps):
            while self.hub.events:
                self._watch(*self.hub.events.popleft())
            ready = sorted(item for item, due_ms in self._due.items() if due_ms <= self.now_ms)
            if not ready:
                return
            for item in ready:
                del self._due[item]
                self._look(item)
        raise AssertionError(f"does not settle: {self.hub.writes[-20:]}")

    def wait(self, seconds: float) -> None:
        """Moves time on from one due look to the next."""
        end_ms = self.now_ms + round(seconds * 1000)
        self.settle()
        looks = 0
        while (soonest := min(self._due.values(), default=end_ms + 1)) <= end_ms:
            self.now_ms = max(self.now_ms, soonest)
            self.settle()
            looks += 1
            assert looks < LOOKS_PER_S * max(seconds, 1), "looks again and again without a reason"
        self.now_ms = end_ms

    # The fleet

    def place(self, key: WorkloadKey, placement: PlacementPublished | None, ended_at: int | None = None) -> None:
        if placement is None:
            self.placements.pop(key, None)
        else:
            self.placements[key] = placement
        self._feed(PlacementSeen(**self._stamp(), key=key, placement=placement, ended_at=ended_at))
        self.settle()

    def report(self, key: WorkloadKey, status: WorkloadStatus | None) -> None:
        if status is None:
            self.statuses.pop(key, None)
        else:
            self.statuses[key] = status
        self._feed(StatusSeen(**self._stamp(), key=key, status=status))
        self.settle()

    def beat(self, name: str, heartbeat: ClusterObserved | None) -> None:
        if heartbeat is None:
            self.heartbeats.pop(name, None)
        else:
            self.heartbeats[name] = heartbeat
        self._feed(HeartbeatSeen(**self._stamp(), cluster=name, heartbeat=heartbeat))
        self.settle()

    def accept(self, published: PublishRequest, *, uid: str = "fleet-uid") -> WorkloadPlaced:
        """Places what was asked for, as a scheduler would."""
        request = WorkloadRequested.model_validate_json(published.body).root
        assert isinstance(request, ApplyWorkload)
        placed = placed_by(request.workload, published.request_id, uid=uid)
        self.place(published.key, PlacementPublished(epoch=1, generation=7, decided_at=self.now_ms, placement=placed))
        return placed

    def refuse(self, published: PublishRequest, message: str = "no") -> None:
        """Refuses it; what was placed before stays."""
        rejected = RequestRejected(
            key=str(published.key),
            request=RequestRef(id=published.request_id, published_at=self.now_ms),
            errors=(FieldError(field="workload.podSets.0", reason="Invalid", message=message),),
        )
        before = self.placements.get(published.key)
        placement = before.placement if before else None
        self.place(
            published.key,
            PlacementPublished(epoch=1, generation=8, decided_at=self.now_ms, placement=placement, rejection=rejected),
        )

    def delete_in_fleet(self, key: WorkloadKey, request_id: str) -> None:
        """Deleting, then gone."""
        before = self.placements[key].placement
        assert before is not None
        request = RequestRef(id=request_id, published_at=self.now_ms)
        deleting = before.model_copy(update={"deleting": True, "request": request})
        self.place(key, PlacementPublished(epoch=1, generation=9, decided_at=self.now_ms, placement=deleting))
        self.report(key, status_of(key, Phase.DELETED, request_id=request_id, at_ms=self.now_ms))
        self.place(key, None)

    # Inside

    def _stamp(self) -> dict[str, Any]:
        return {"id": str(next(self._numbers)), "at_ms": self.now_ms}

    def _feed(self, stimulus: Stimulus) -> None:
        self._note(self.bridge.handle(stimulus))

    def _note(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Look):
                due_ms = self.now_ms + instruction.after_ms
                self._due[instruction.item] = min(due_ms, self._due.get(instruction.item, due_ms))

    def _look(self, item: Item) -> None:
        instructions = self.bridge.handle(Due(**self._stamp(), item=item))
        self._note(instructions)
        for instruction in instructions:
            match instruction:
                case Look():
                    pass
                case PublishRequest():
                    self.requests.append(instruction)
                    self._die(instruction)
                    acknowledged = RequestAcknowledged(
                        **self._stamp(), key=instruction.key, request_id=instruction.request_id
                    )
                    self._feed(acknowledged)
                case PublishDeclaration():
                    self._declare(instruction)
                case Provision() | Deprovision():
                    self._wish(instruction)
                case PublishAudit():
                    self.audits.append(instruction.action)
                    self._die(instruction)
                case _:
                    try:
                        self.hub.carry_out(instruction)
                    except ConflictError:
                        self._due[item] = self.now_ms
                        return
                    self._die(instruction)

    def _wish(self, wish: Provision | Deprovision) -> None:
        self.wishes.append(wish)
        standing = self.management(wish)
        self._die(wish)
        if standing is not None:
            ends = isinstance(wish, Deprovision)
            self._feed(ProvisionSeen(**self._stamp(), name=wish.name, uid=wish.uid, ends=ends, standing=standing))

    def _die(self, instruction: Instruction) -> None:
        if type(instruction) is self.dies_behind:
            self.dies_behind = None
            raise DiedError

    def _declare(self, publish: PublishDeclaration) -> None:
        self.declarations.append((publish.name, publish.declared))
        if publish.declared is None:
            self.declared.pop(publish.name, None)
        else:
            self.declared[publish.name] = publish.declared
        self._die(publish)
        self._feed(DeclarationSeen(**self._stamp(), name=publish.name, declared=publish.declared))

    def _watch(self, address: Address, document: Json | None) -> None:
        plural, namespace, name = address
        if plural == CLUSTERS.plural:
            cluster = cluster_view(document) if document is not None else None
            self._feed(ClusterSeen(**self._stamp(), name=name, view=cluster))
        else:
            assert plural == WORKLOADS.plural
            workload = workload_view(document) if document is not None else None
            self._feed(WorkloadSeen(**self._stamp(), key=WorkloadKey(namespace, name), view=workload))


def workload(name: str = "web", spec: Json | None = None, **meta: Any) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "Workload",
        "metadata": {"name": name, **meta},
        "spec": spec or {"podSets": [{"name": "app", "image": "nginx", "replicas": 3}]},
    }


def cluster(name: str = "mycluster", spec: Json | None = None, **meta: Any) -> Json:
    document: Json = {"apiVersion": API_VERSION, "kind": "Cluster", "metadata": {"name": name, **meta}}
    return document | ({"spec": spec} if spec is not None else {})


def placed_by(wanted: Workload, request_id: str, *, uid: str = "fleet-uid") -> WorkloadPlaced:
    request = RequestRef(id=request_id, published_at=START_MS)
    return WorkloadPlaced(workload=wanted, uid=uid, workload_generation=1, request=request)


def status_of(
    key: WorkloadKey,
    phase: Phase,
    *,
    request_id: str = "",
    ready: int = 0,
    desired: int = 3,
    clusters: Sequence[str] = (),
    at_ms: int = START_MS,
) -> WorkloadStatus:
    return WorkloadStatus(
        namespace=key.namespace,
        name=key.name,
        uid="fleet-uid",
        phase=phase,
        generation=7,
        request_id=request_id,
        desired=desired,
        ready=ready,
        clusters=tuple(ClusterStatus(cluster=name, counts=Counts(desired=1, ready=1)) for name in clusters),
        updated_at=at_ms,
    )


def heartbeat(name: str, at_ms: int = START_MS, **changes: Any) -> ClusterObserved:
    fields: dict[str, Any] = {
        "cluster": name,
        "epoch": 1,
        "observed_at": at_ms,
        "interval_ms": 5_000,
        "kubernetes_version": "v1.36.3",
        "ready": True,
        "labels": {"flotilla.dev/provider": "acme", "topology.kubernetes.io/region": "north"},
        "nodes": 3,
        "nodes_ready": 3,
        "capacity": {"cpu": "24", "memory": "96Gi"},
        "allocatable": {"cpu": "24", "memory": "96Gi"},
        "usage": {"cpu": "6", "memory": "24Gi"},
    }
    return ClusterObserved(**(fields | changes))


def _address(resource: Resource, namespace: str, name: str) -> Address:
    return (resource.plural, namespace, name)


def _without_version(document: Json) -> Json:
    metadata = {name: value for name, value in document["metadata"].items() if name != "resourceVersion"}
    return document | {"metadata": metadata}
