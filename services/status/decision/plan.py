"""What a placement promises, in the few facts that a status needs.

Ten thousand placements with their manifests would fill the memory; a plan keeps replicas, reasons and how each pod set
is to be judged, and lets the manifests go.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Self

from msgspec import Struct


class Mode(Enum):
    """How to tell whether a pod set does what it should."""

    PODS = "pods"  # as many ready pods as placed replicas
    COMPLETION = "completion"  # pods that end: ready or succeeded
    JOB = "job"  # what the Job's own conditions say
    DAEMON = "daemon"  # as many ready pods as the DaemonSet wants in its cluster
    NO_PODS = "no-pods"  # applied is all that there is to know


class Share(Struct, frozen=True, gc=False):
    """The replicas of one pod set in one cluster; shares are equal when the cluster has nothing new to do. `requested`
    is what containers request in place of what the workload states.
    """

    cluster: str
    replicas: int
    bindings: tuple[tuple[int, str], ...] = ()
    overrides: tuple[str, ...] = ()
    requested: bytes = b""


class SetPlan(Struct, frozen=True, kw_only=True, gc=False):
    """`placed` are the replicas of all shares. `template` changes when the pods have to be made anew, and not when only
    their number changes.

    `rolled`: a controller makes the pods and publishes how far it is, and pods of a former specification may be left.
    """

    name: str
    mode: Mode
    desired: int
    shares: tuple[Share, ...]
    placed: int
    reason: str = ""
    message: str = ""
    template: str = ""
    rolled: bool = False


class Refusal(Struct, frozen=True, gc=False):
    """A request that was refused: `reason` is the first error's, `message` names every field."""

    request_id: str
    requested_at: int
    reason: str
    message: str


class Plan(Struct, frozen=True, kw_only=True, gc=False):
    """The latest accepted placement of a workload.

    What follows from its sets is computed once, by `of`, since it is asked for whenever something of the workload is
    told: `waiting` is the first pod set with replicas that have no place, `clusters` should run something, sorted.
    `withdrawn` are those where nothing counts any more, though it may be asked for until it is replaced elsewhere.
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
    desired: int
    placed: int
    waiting: SetPlan | None
    clusters: tuple[str, ...]

    @classmethod
    def of(cls, *, sets: tuple[SetPlan, ...], **facts: Any) -> Self:
        clusters = {share.cluster for item in sets for share in item.shares}
        return cls(
            sets=sets,
            desired=sum(item.desired for item in sets),
            placed=sum(item.placed for item in sets),
            waiting=next((item for item in sets if item.placed < item.desired), None),
            clusters=tuple(sorted(clusters)),
            **facts,
        )

    def shares_in(self, cluster: str) -> tuple[tuple[str, Share], ...]:
        return tuple((item.name, share) for item in self.sets for share in item.shares if share.cluster == cluster)

    def same_line(self, other: Plan) -> bool:
        """Whether both are of one accepted specification: a change of it begins the main line anew."""
        return self.uid == other.uid and self.workload_generation == other.workload_generation


class Placement(Struct, frozen=True, kw_only=True, gc=False):
    """A record of `fleet.placements`: the plan, unless a request was refused for a workload that is not there."""

    generation: int
    plan: Plan | None
    refusal: Refusal | None
    traceparent: str = ""
