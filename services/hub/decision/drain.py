"""What of the fleet's is still in a cluster that is to go: nothing of it may be there when the cluster goes.

By placements, which the scheduler writes, and by what was seen of pods, which is later: both have to say that it is
empty. What has no pods, what ran to its end, and copies of what is in other clusters as well, is nothing to be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.hub.decision.state import State
from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced
from shared.events.v1.status import Phase
from shared.events.v1.workloads import PodSet
from shared.model.identities import WorkloadKey

_OVER: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED})
# Kinds whose pods move: the scheduler puts replicas of these elsewhere.
_MOVED: Final = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Job", "Pod"})
_EVERYWHERE: Final = "DaemonSet"


@dataclass(frozen=True, slots=True)
class Holder:
    """A workload that is still there, and whether all of it is on its way out."""

    key: WorkloadKey
    leaves: bool


def holders(name: str, state: State) -> Iterator[Holder]:
    """Those that a cluster still has; may name one twice."""
    for key in sorted(state.counts.there(name), key=str):
        placement = state.placements.get(key)
        placed = placement.placement if placement is not None else None
        if _has_pods(name, state, key, placed):
            yield Holder(key, leaves=placed is None or _all_leave(name, placed))
    # Of a cluster that left nobody confirms what was withdrawn.
    confirms = name in state.pulses
    for key, published in state.placements.items():
        placed = published.placement
        if placed is None or _is_over(state, key, published.generation):
            continue
        if (confirms and name in placed.withdrawn) or any(_holds(name, item, placed) for item in placed.pod_sets):
            yield Holder(key, leaves=_all_leave(name, placed))


def _is_over(state: State, key: WorkloadKey, generation: int) -> bool:
    status = state.statuses.get(key)
    return status is not None and status.generation == generation and status.phase in _OVER


def _has_pods(name: str, state: State, key: WorkloadKey, placed: WorkloadPlaced | None) -> bool:
    """By what was seen last. Of a cluster that is not heard nothing is known: then placements alone say it."""
    kept = {item.name for item in placed.pod_sets if not _matters(name, item, placed)} if placed is not None else set()
    for part in state.statuses[key].clusters:
        if part.cluster != name or part.stale:
            continue
        counted = [item.counts for item in part.pod_sets if item.name not in kept] if part.pod_sets else [part.counts]
        if any(counts.pods > counts.succeeded + counts.failed for counts in counted):
            return True
    return False


def _holds(name: str, placement: PodSetPlacement, placed: WorkloadPlaced) -> bool:
    return any(share.cluster == name and share.replicas for share in placement.shares) and _matters(
        name, placement, placed
    )


def _all_leave(name: str, placed: WorkloadPlaced) -> bool:
    """Whether none of its replicas that matter still counts there."""
    return not any(
        share.cluster == name and share.kept and _matters(name, item, placed)
        for item in placed.pod_sets
        for share in item.shares
    )


def _matters(name: str, placement: PodSetPlacement, placed: WorkloadPlaced) -> bool:
    pod_set = next((item for item in placed.workload.pod_sets if item.name == placement.name), None)
    kind = _kind(pod_set) if pod_set is not None else "Deployment"
    if kind != _EVERYWHERE and kind not in _MOVED:
        return False
    if kind == _EVERYWHERE or placed.workload.placement.division == "duplicated":
        return not any(share.cluster != name and share.replicas for share in placement.shares)
    return True


def _kind(pod_set: PodSet) -> str:
    if pod_set.manifest is None:
        return "Deployment"
    return str(pod_set.manifest.get("kind", ""))
