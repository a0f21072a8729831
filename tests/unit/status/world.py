"""A small world around the machine: speaks as scheduler, executors and watchers would, remembers what was told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.status.decision.facts import NodesFacts, OwnedFacts, PodFacts, PodPhase, ScalingFacts
from services.status.decision.machine import StatusMachine
from services.status.decision.messages import (
    BatchEnded,
    CaughtUp,
    HeartbeatSeen,
    InventorySeen,
    NodesAwaitedSeen,
    OwnedObjectSeen,
    PhaseRestored,
    PlacementSeen,
    PodSeen,
    PublishPhaseChange,
    PublishStatus,
    ResultSeen,
    ScalingSeen,
    StatusInstruction,
    StatusRestored,
    StatusStimulus,
    TimeAdvanced,
    WriteCluster,
)
from services.status.decision.values import Condition, WorkloadStatus
from services.status.placed import placement_of
from shared.events.v1.decisions import ClusterShare, PodSetPlacement, RequestRef, RequestRejected, WorkloadPlaced
from shared.events.v1.inventories import HeldSubject, InventoryReported
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.read_model import ClusterView
from shared.events.v1.results import CommandReported, ObjectResult
from shared.events.v1.status import WorkloadPhaseChanged
from shared.events.v1.workloads import FieldError, PodSet, Workload

KEY = "shop/cart"
START_MS = 1_700_000_000_000


def placement(
    shares: dict[str, int] | None = None,
    *,
    key: str = KEY,
    generation: int = 1,
    workload_generation: int = 1,
    desired: int | None = None,
    uid: str = "u1",
    request: str = "r1",
    reason: str = "",
    message: str = "",
    withdrawn: Iterable[str] = (),
    deleting: bool = False,
    rejection: RequestRejected | None = None,
    pod_set: dict[str, Any] | None = None,
    binding: str = "cluster",
    clusters: Iterable[str] = (),
    at_ms: int = START_MS,
    leaving: dict[str, int] | None = None,
) -> PlacementPublished:
    """A placement of one pod set `web`, `shares` by cluster, and how many of them are `leaving`."""
    namespace, name = key.split("/")
    given = {} if shares is None else shares
    nodes = {c: tuple(f"n{i}" for i in range(n)) if binding == "node" else () for c, n in given.items()}
    ordinals = {c: tuple(range(n)) if binding == "node" else () for c, n in given.items()}
    spec = PodSet.model_validate({"name": "web", **(pod_set or {"image": "nginx"})})
    terms = {"binding": binding, "clusters": list(clusters)}
    workload = Workload.model_validate(
        {"namespace": namespace, "name": name, "podSets": [spec.model_dump()], "placement": terms}
    )
    left = leaving or {}
    parts = tuple(
        ClusterShare(cluster=c, replicas=n, nodes=nodes[c], ordinals=ordinals[c], leaving=left.get(c))
        for c, n in given.items()
    )
    total = sum(given.values()) - sum(left.values()) if desired is None else desired
    placed = WorkloadPlaced(
        workload=workload,
        uid=uid,
        workload_generation=workload_generation,
        request=RequestRef(id=request, published_at=at_ms - 20),
        pod_sets=()
        if deleting
        else (PodSetPlacement(name="web", desired=total, shares=parts, reason=reason, message=message),),
        withdrawn=tuple(withdrawn),
        deleting=deleting,
    )
    return PlacementPublished(
        epoch=1, generation=generation, decided_at=at_ms - 10, placement=placed, rejection=rejection
    )


def rejected(key: str = KEY, *, request: str = "bad", field_name: str = "workload.podSets.0.image") -> RequestRejected:
    error = FieldError(field=field_name, reason="Invalid", message="must not be empty")
    return RequestRejected(key=key, request=RequestRef(id=request, published_at=START_MS - 20), errors=(error,))


def refusal(key: str = KEY, *, generation: int = 1, request: str = "bad") -> PlacementPublished:
    """The record of a request that was refused, where there is no workload."""
    return PlacementPublished(
        epoch=1, generation=generation, decided_at=START_MS - 10, rejection=rejected(key, request=request)
    )


@dataclass
class World:
    """Drives one machine; `live` unless a test restores first."""

    machine: StatusMachine = field(default_factory=lambda: StatusMachine(retention_ms=3_600_000))
    live: bool = True
    now_ms: int = START_MS
    events: list[WorkloadPhaseChanged] = field(default_factory=list)
    statuses: dict[str, WorkloadStatus | None] = field(default_factory=dict)
    published: list[tuple[str, WorkloadStatus | None]] = field(default_factory=list)
    instructions: list[StatusInstruction] = field(default_factory=list)
    views: dict[str, ClusterView | None] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        if self.live:
            self.feed(CaughtUp(id="start", at_ms=self.now_ms))

    def feed(self, stimulus: StatusStimulus) -> Sequence[StatusInstruction]:
        out = self.machine.handle(stimulus)
        self.instructions += out
        for instruction in out:
            match instruction:
                case PublishPhaseChange(event=event):
                    self.events.append(event)
                case PublishStatus(key=key, status=status):
                    self.statuses[key] = status
                    self.published.append((key, status))
                case WriteCluster(cluster=cluster, view=view):
                    self.views[cluster] = view
        return out

    def _next(self) -> str:
        self.number += 1
        self.now_ms += 1
        return f"t/{self.number}"

    def place(
        self,
        published: PlacementPublished | None,
        *,
        key: str = KEY,
        restored: bool = False,
        ended_at: int | None = None,
    ) -> None:
        seen = placement_of(published.to_json()) if published is not None else None
        stimulus = PlacementSeen(
            id=self._next(), at_ms=self.now_ms, key=key, placement=seen, restored=restored, ended_at=ended_at
        )
        self.feed(stimulus)

    def report(
        self,
        cluster: str,
        generation: int = 1,
        outcome: str = "applied",
        *,
        key: str = KEY,
        digest: str = "",
        reason: str = "",
        message: str = "",
        failures: tuple[ObjectResult, ...] = (),
        applied_generation: int | None = None,
        offset: int = 0,
        skew_ms: int = 0,
    ) -> None:
        identity = self._next()
        reported = CommandReported.model_validate(
            {
                "cluster": cluster,
                "subject": f"workload/{key}",
                "epoch": 1,
                "generation": generation,
                "digest": digest,
                "outcome": outcome,
                "reported_at": self.now_ms + skew_ms,
                "reason": reason,
                "message": message,
                "failures": failures,
                "applied_generation": applied_generation,
            }
        )
        self.feed(ResultSeen(id=identity, at_ms=self.now_ms, key=key, report=reported, partition=0, offset=offset))

    def pod(
        self,
        cluster: str,
        name: str,
        *,
        key: str = KEY,
        phase: PodPhase = PodPhase.RUNNING,
        ready: bool = True,
        terminating: bool = False,
        generation: int | None = None,
        trouble: str = "",
    ) -> None:
        pod = PodFacts(key, "web", phase, ready, terminating, generation, trouble)
        self.feed(PodSeen(id=self._next(), at_ms=self.now_ms, key=f"{cluster}/{name}", cluster=cluster, pod=pod))

    def pod_gone(self, cluster: str, name: str) -> None:
        self.feed(PodSeen(id=self._next(), at_ms=self.now_ms, key=f"{cluster}/{name}", cluster=cluster, pod=None))

    def owned(self, cluster: str, kind: str, *, key: str = KEY, gone: bool = False, **facts: Any) -> None:
        owned = None if gone else OwnedFacts(key, "web", kind, **{"ready": facts.get("updated", 0), **facts})
        self.feed(
            OwnedObjectSeen(id=self._next(), at_ms=self.now_ms, key=f"{cluster}/{kind}", cluster=cluster, owned=owned)
        )

    def beat(self, *clusters: str, ready: bool = True, reason: str = "", interval_ms: int = 5_000, **more: Any) -> None:
        for cluster in clusters:
            observed = ClusterObserved(
                cluster=cluster,
                epoch=1,
                observed_at=self.now_ms,
                interval_ms=interval_ms,
                ready=ready,
                reason=reason,
                **more,
            )
            self.feed(HeartbeatSeen(id=self._next(), at_ms=self.now_ms, cluster=cluster, observed=observed))

    def inventory(self, cluster: str, *held: HeldSubject, interval_ms: int = 60_000) -> None:
        """The executor of a cluster says what it holds now."""
        reported = InventoryReported(
            cluster=cluster, reported_at=self.now_ms, interval_ms=interval_ms, digest="", subjects=held
        )
        self.feed(InventorySeen(id=self._next(), at_ms=self.now_ms, cluster=cluster, inventory=reported))

    def scaling(self, *conditions: tuple[str, bool, str, str], key: str = KEY, uid: str = "u1") -> None:
        """The autoscaler says these conditions; without any its record is gone."""
        facts = ScalingFacts(uid, conditions) if conditions else None
        self.feed(ScalingSeen(id=self._next(), at_ms=self.now_ms, key=key, scaling=facts))

    def nodes(self, *said: bool | str, key: str = KEY, uid: str = "u1") -> None:
        """The autoscaler says whether nodes come, with a reason and a message; without these its record is gone."""
        coming, reason, message = said or (False, "", "")
        facts = NodesFacts(uid, bool(coming), str(reason), str(message)) if said else None
        self.feed(NodesAwaitedSeen(id=self._next(), at_ms=self.now_ms, key=key, nodes=facts))

    def end(self) -> None:
        """The batch ends."""
        self.feed(BatchEnded(id=self._next(), at_ms=self.now_ms))

    def wait(self, milliseconds: int) -> None:
        self.now_ms += milliseconds
        self.feed(TimeAdvanced(id=self._next(), at_ms=self.now_ms))

    def restore(self, others: World) -> None:
        """Feeds what another world had published, as a restarted service would read it from `fleet.status`."""
        for key, status in others.statuses.items():
            self.feed(StatusRestored(id=self._next(), at_ms=self.now_ms, key=key, status=status))

    def restore_events(self, events: Iterable[WorkloadPhaseChanged]) -> None:
        for event in events:
            key = f"{event.namespace}/{event.name}"
            self.feed(PhaseRestored(id=self._next(), at_ms=self.now_ms, key=key, event=event))

    def caught_up(self) -> None:
        self.feed(CaughtUp(id=self._next(), at_ms=self.now_ms))

    def run(self, shares: dict[str, int], **arguments: Any) -> None:
        """Takes a workload all the way to Running."""
        self.beat(*shares)
        self.place(placement(shares, **arguments))
        for cluster, replicas in shares.items():
            self.report(cluster, arguments.get("generation", 1))
            for number in range(replicas):
                self.pod(cluster, f"web-{number}")
        self.end()

    @property
    def phases(self) -> list[str]:
        return [event.phase.value for event in self.events]

    def status(self, key: str = KEY) -> WorkloadStatus:
        status = self.statuses[key]
        assert status is not None
        return status

    def condition(self, kind: str, key: str = KEY) -> Condition:
        return next(item for item in self.status(key).conditions if item.type == kind)
