"""What was observed: pods, the objects that own them, and the executors' reports, as far as a status needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from msgspec import UNSET, Struct

from services.status.decision.values import ClusterStatus
from shared.events.v1.results import CommandReported

# Reasons with which a document is refused for good: the same bytes will never be accepted.
PERMANENT_REASONS = frozenset(
    {
        *(
            "Invalid",
            "BadRequest",
            "RequestEntityTooLarge",
            "UnsupportedMediaType",
            "NotAcceptable",
            "MethodNotAllowed",
        ),
        "Malformed",  # the executor could not read the command
    }
)
# Why a pod does not start for which its cluster's scheduler finds no node.
UNSCHEDULABLE: Final = "Unschedulable"


class PodPhase(Enum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class PodFacts(Struct, frozen=True, gc=False):
    """One pod of a workload. `generation` is what the executor wrote on it, if it wrote it itself."""

    workload: str
    pod_set: str
    phase: PodPhase
    ready: bool = False
    terminating: bool = False
    generation: int | None = None
    trouble: str = ""


class ScalingFacts(Struct, frozen=True, gc=False):
    """What the autoscaler says of the workload `uid`: each condition's type, state, reason and message."""

    uid: str
    conditions: tuple[tuple[str, bool, str, str], ...]


class NodesFacts(Struct, frozen=True, gc=False):
    """Whether nodes come for replicas of the workload `uid` that have no place, as the autoscaler says."""

    uid: str
    coming: bool
    reason: str
    message: str


class OwnedFacts(Struct, frozen=True, gc=False):
    """One Deployment, StatefulSet, DaemonSet or Job of a workload.

    `current` says that its controller has seen the latest specification and updated `wanted` replicas to it;
    `outdated` are replicas of former ones that it has yet to take away.
    """

    workload: str
    pod_set: str
    kind: str
    generation: int | None = None
    digest: str = ""
    current: bool = False
    wanted: int = 0
    updated: int = 0
    outdated: int = 0
    ready: int = 0
    active: int = 0
    succeeded: int = 0
    complete: bool = False
    failed: bool = False
    reason: str = ""
    message: str = ""


class ReportFacts(Struct, frozen=True, gc=False):
    """The newest report of one cluster's executor.

    `permanent`: trying again cannot help. `hearsay`: a refusal that mentions what was applied; a report knows better.
    """

    generation: int
    applied: bool
    failed: bool = False
    permanent: bool = False
    hearsay: bool = False
    digest: str = ""
    reported_at: int = 0
    attempt: int = 0
    reason: str = ""
    message: str = ""

    def supersedes(self, known: ReportFacts) -> bool:
        """Whether this, read later in the log than `known`, is news: of a later generation, or a word on the same.

        What an executor's clock says of the two does not matter: clocks are set back.
        """
        return self.generation > known.generation or (self.generation == known.generation and not self.hearsay)


def restored_reports(clusters: Iterable[ClusterStatus]) -> dict[str, ReportFacts]:
    """The reports that a published status was made from, as far as it tells them."""
    return {
        part.cluster: ReportFacts(
            generation=part.generation,
            applied=part.applied,
            failed=not part.applied and part.reason in PERMANENT_REASONS,
            permanent=not part.applied and part.reason in PERMANENT_REASONS,
            digest=part.digest,
            reason=part.reason,
            message=part.message,
        )
        for part in clusters
        if part.generation is not UNSET
    }


def declined(before: ReportFacts | None, after: ReportFacts) -> bool:
    """Whether a report may take a workload backwards."""
    return before is not None and before.applied and not after.applied


def report_of(report: CommandReported) -> ReportFacts:
    if report.outcome == "refused" and report.applied_generation is not None:
        return ReportFacts(report.applied_generation, applied=True, hearsay=True, reported_at=report.reported_at)
    failure = report.failures[0] if report.failures else None
    reason = report.reason or (failure.reason if failure else "")
    message = report.message or (f"{failure.kind} {failure.name}: {failure.message}" if failure else "")
    reasons = {report.reason, *(item.reason for item in report.failures)}
    failed = report.outcome == "failed"
    return ReportFacts(
        generation=report.generation,
        applied=report.outcome == "applied",
        failed=failed,
        permanent=failed and not reasons.isdisjoint(PERMANENT_REASONS),
        digest=report.digest,
        reported_at=report.reported_at,
        attempt=report.attempt,
        reason=reason if failed else "",
        message=message[:1024] if failed else "",
    )


@dataclass(slots=True)
class Tally:
    """The pods of one pod set in one cluster, counted as they come and go.

    `generations` counts living pods by what the executor wrote on them, `unmarked` the ready ones that a controller
    made; `troubles` by what keeps them from starting.
    """

    pods: int = 0
    running: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    unmarked: int = 0
    generations: Counter[int] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)

    def count(self, pod: PodFacts, step: int) -> None:
        """Adds (`step` 1) or removes (-1) one pod."""
        self.pods += step
        if pod.phase is PodPhase.SUCCEEDED:
            self.succeeded += step
        elif pod.phase is PodPhase.FAILED:
            self.failed += step
        elif not pod.terminating:
            self.running += step * (pod.phase is PodPhase.RUNNING)
            self.ready += step * pod.ready
            if pod.generation is None:
                self.unmarked += step * pod.ready
            else:
                _bump(self.generations, pod.generation, step)
            if pod.trouble:
                _bump(self.troubles, pod.trouble, step)


def _bump(counter: Counter[Any], key: object, step: int) -> None:
    counter[key] += step
    if not counter[key]:
        del counter[key]


def worsened(before: PodFacts | None, after: PodFacts | None) -> bool:
    """Whether a pod's change can take a workload backwards, so that what was reached before must be told first."""
    if before is None:
        return False
    if after is None or after.terminating:
        return True
    return (before.ready and not after.ready) or (after.phase is PodPhase.FAILED)
