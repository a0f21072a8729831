"""What a placement promises, in the few facts that a status needs.

Ten thousand placements with their manifests would fill the memory; a plan keeps replicas, reasons and how each pod set
is to be judged, and lets the manifests go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b

from shared.events.v1.decisions import ClusterShare, PodSetPlacement, RequestRejected, WorkloadPlaced
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.workloads import Binding, PodSet, Workload
from shared.model.pods import GPU_MILLI_ANNOTATION

# Kinds whose controllers roll pods out, and tell how far they are.
_ROLLED = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
_RUN_TO_COMPLETION = frozenset({"Never", "OnFailure"})
_MAX_MESSAGE = 1024


class Mode(Enum):
    """How to tell whether a pod set does what it should."""

    PODS = "pods"  # as many ready pods as placed replicas
    COMPLETION = "completion"  # pods that end: ready or succeeded
    JOB = "job"  # what the Job's own conditions say
    DAEMON = "daemon"  # as many ready pods as the DaemonSet wants in its cluster
    NO_PODS = "no-pods"  # applied is all that there is to know


@dataclass(frozen=True, slots=True)
class Share:
    """The replicas of one pod set in one cluster; shares are equal when the cluster has nothing new to do."""

    cluster: str
    replicas: int
    bindings: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SetPlan:
    """`template` changes when the pods have to be made anew, and not when only their number changes.

    `rolled`: a controller makes the pods and publishes how far it is, and pods of a former specification may be left.
    """

    name: str
    mode: Mode
    desired: int
    shares: tuple[Share, ...]
    reason: str = ""
    message: str = ""
    template: str = ""
    rolled: bool = False
    placed: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "placed", sum(share.replicas for share in self.shares))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused: `reason` is the first error's, `message` names every field."""

    request_id: str
    requested_at: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The latest accepted placement of a workload.

    What follows from its sets is computed once, since it is asked for whenever something of the workload is told:
    `waiting` is the first pod set with replicas that have no place, `clusters` should run something, sorted.
    """

    generation: int
    decided_at: int
    uid: str
    workload_generation: int
    request_id: str
    requested_at: int
    sets: tuple[SetPlan, ...]
    withdrawn: tuple[str, ...] = ()
    deleting: bool = False
    refusal: Refusal | None = None
    desired: int = field(init=False)
    placed: int = field(init=False)
    waiting: SetPlan | None = field(init=False)
    clusters: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        clusters = {share.cluster for item in self.sets for share in item.shares}
        object.__setattr__(self, "desired", sum(item.desired for item in self.sets))
        object.__setattr__(self, "placed", sum(item.placed for item in self.sets))
        object.__setattr__(self, "waiting", next((item for item in self.sets if item.placed < item.desired), None))
        object.__setattr__(self, "clusters", tuple(sorted(clusters)))

    def shares_in(self, cluster: str) -> tuple[tuple[str, Share], ...]:
        return tuple((item.name, share) for item in self.sets for share in item.shares if share.cluster == cluster)

    def same_line(self, other: Plan) -> bool:
        """Whether both are of one accepted specification: a change of it begins the main line anew."""
        return self.uid == other.uid and self.workload_generation == other.workload_generation


def plan_of(published: PlacementPublished, placed: WorkloadPlaced) -> Plan:
    workload = placed.workload
    specifications = {item.name: item for item in workload.pod_sets}
    return Plan(
        generation=published.generation,
        decided_at=published.decided_at,
        uid=placed.uid,
        workload_generation=placed.workload_generation,
        request_id=placed.request.id,
        requested_at=placed.request.published_at,
        sets=tuple(
            _set_plan(item, specifications.get(item.name), workload, first=placed.workload_generation == 1)
            for item in placed.pod_sets
        ),
        withdrawn=placed.withdrawn,
        deleting=placed.deleting,
        refusal=refusal_of(published.rejection) if published.rejection else None,
    )


def refusal_of(rejection: RequestRejected) -> Refusal:
    message = "; ".join(f"{error.field or 'request'}: {error.message}" for error in rejection.errors)
    return Refusal(
        rejection.request.id, rejection.request.published_at, rejection.errors[0].reason, message[:_MAX_MESSAGE]
    )


def _set_plan(placement: PodSetPlacement, specification: PodSet | None, workload: Workload, *, first: bool) -> SetPlan:
    bound = workload.placement.binding is Binding.NODE
    return SetPlan(
        name=placement.name,
        mode=mode_of(specification) if specification else Mode.PODS,
        desired=placement.desired,
        shares=tuple(_share(share, bound=bound) for share in placement.shares),
        reason=placement.reason,
        message=placement.message[:_MAX_MESSAGE],
        template=_template_hash(specification, workload) if specification else "",
        rolled=specification is not None and not (bound or first) and _is_rolled(specification),
    )


def _is_rolled(pod_set: PodSet) -> bool:
    # An image or a template is rendered as a Deployment.
    return pod_set.manifest is None or pod_set.manifest.get("kind") in _ROLLED


def _template_hash(pod_set: PodSet, workload: Workload) -> str:
    """Of all that the scheduler renders into the pods: when this changes, and only then, they are made anew."""
    text = pod_set.model_dump_json(exclude={"replicas"})
    terms = {"binding", "node_selector", "tolerations"}
    text += workload.model_dump_json(include={"labels": True, "placement": terms})
    if pod_set.image is not None:
        text += workload.annotations.get(GPU_MILLI_ANNOTATION, "")
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _share(share: ClusterShare, *, bound: bool) -> Share:
    # With `binding: cluster` the nodes are reservations only: the cluster does not learn of them.
    bindings = tuple(zip(share.ordinals, share.nodes, strict=False)) if bound else ()
    return Share(share.cluster, share.replicas, bindings)


def mode_of(pod_set: PodSet) -> Mode:
    if pod_set.manifest is None:
        return _mode_of_pod(pod_set.template or {})
    match pod_set.manifest.get("kind"):
        case "Pod":
            return _mode_of_pod(pod_set.manifest)
        case "Deployment" | "StatefulSet" | "ReplicaSet":
            return Mode.PODS
        case "Job":
            return Mode.JOB
        case "DaemonSet":
            return Mode.DAEMON
    return Mode.NO_PODS


def _mode_of_pod(pod: dict[str, object]) -> Mode:
    spec = pod.get("spec")
    policy = spec.get("restartPolicy") if isinstance(spec, dict) else None
    return Mode.COMPLETION if policy in _RUN_TO_COMPLETION else Mode.PODS
