"""The status of a Workload resource: `WorkloadStatus` in the form that kubectl users expect, and the condition Synced.

Synced says whether the fleet works on what the specification says now: True; False with reason Invalid, Rejected,
ChangedElsewhere or DeletedElsewhere; Unknown with reason Requested while nobody has answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.hub.decision.conditions import ConditionWriter, format_seconds
from services.hub.decision.resources import (
    ConditionView,
    PodSetStatusView,
    WorkloadClusterView,
    WorkloadStatusView,
    WorkloadSummary,
)
from services.hub.decision.views import Json, Refusal, WorkloadView, deletion_id
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.status import Condition, Counts, Phase, WorkloadStatus
from shared.events.v1.workloads import FieldError

SYNCED = "Synced"
_SHOWN_CLUSTERS = 3


def answers(request_id: str, placement: PlacementPublished | None, status: WorkloadStatus | None) -> bool:
    """Whether the fleet says that it has taken or refused this very request."""
    if placement is not None:
        if placement.placement is not None and placement.placement.request.id == request_id:
            return True
        if placement.rejection is not None and placement.rejection.request.id == request_id:
            return True
    return status is not None and status.request_id == request_id


def status_of(
    view: WorkloadView,
    placement: PlacementPublished | None,
    status: WorkloadStatus | None,
    now_ms: int,
    *,
    patient: bool,
    answered: bool,
) -> Json:
    """The wanted status. While `patient`, an answer may be on its way and is not missed yet.

    `answered` says that the fleet did answer the present wish, whatever became of it since.
    """
    if status is not None and not _concerns(view, placement, status, answered=answered):
        status = None
    return _Status(view, placement, status, now_ms, patient=patient, answered=answered).document()


def _concerns(
    view: WorkloadView, placement: PlacementPublished | None, status: WorkloadStatus, *, answered: bool
) -> bool:
    """Whether a status is about this object, and not about an earlier one of its name, long deleted or refused."""
    if status.phase not in {Phase.DELETED, Phase.REJECTED} or view.mirrors:
        return True
    if placement is not None and placement.placement is not None:
        return True
    mine = {view.wish.id, deletion_id(view.meta.uid)}
    return status.request_id in mine or answered


class _Status:
    def __init__(
        self,
        view: WorkloadView,
        placement: PlacementPublished | None,
        status: WorkloadStatus | None,
        now_ms: int,
        *,
        patient: bool,
        answered: bool,
    ) -> None:
        self._view = view
        self._placed = placement.placement if placement is not None else None
        self._rejection = placement.rejection if placement is not None else None
        self._answering = answers(view.wish.id, placement, status)
        self._answered = answered
        self._status = status
        self._patient = patient
        # Whether the fleet, and not only this hub, has something to say of the present wish.
        self._before = view.status
        self._acknowledged = isinstance(view.wish, Refusal) or view.mirrors or self._answering or answered
        generation = view.meta.generation if self._acknowledged else int(self._before.get("observedGeneration", 0))
        self._generation = generation
        self._writer = ConditionWriter(self._before.get("conditions") or (), view.meta.generation, now_ms)

    def document(self) -> Json:
        if self._status is None and self._placed is None and self._answered and not self._answering:
            # Nothing is known any more of what was answered once: what was said last stays.
            return self._before
        synced = self._synced()
        if self._status is None and synced is None:
            return self._before
        waits = self._patient and self._answering and self._status is None and not self._refused()
        if waits:
            # The status follows at once; one write for both.
            return self._before
        request_id = self._view.wish.id if self._acknowledged else self._before.get("requestId")
        status = self._status
        view = WorkloadStatusView(
            observed_generation=self._generation,
            request_id=request_id,
            uid=status.uid or None if status else None,
            phase=self._phase(),
            reason=(status.reason or None) if status else None,
            message=self._message(synced),
            ready=f"{status.ready}/{status.desired}" if status else None,
            replicas=status.desired if status else None,
            ready_replicas=status.ready if status else None,
            summary=_summary(status) if status else None,
            pod_sets=_pod_sets(status) if status else (),
            clusters=_clusters(status) if status else (),
            conditions=(*self._fleet_conditions(), *((synced,) if synced else ())),
        )
        document = view.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {name: value for name, value in document.items() if value not in ([], {}, 0) or name == "replicas"}

    def _phase(self) -> str | None:
        if self._status is not None:
            return self._status.phase.value
        return Phase.REJECTED.value if self._refused() else None

    def _message(self, synced: ConditionView | None) -> str | None:
        if self._status is not None and self._status.message:
            return self._status.message
        if synced is not None and synced.status != "True" and synced.message:
            return synced.message
        return None

    def _refused(self) -> bool:
        if isinstance(self._view.wish, Refusal):
            return True
        return self._rejection is not None and self._rejection.request.id == self._view.wish.id

    def _synced(self) -> ConditionView | None:
        wish, status = self._view.wish, self._status
        if isinstance(wish, Refusal):
            return self._writer.make(SYNCED, "False", "Invalid", _in_words(wish.errors))
        if self._rejection is not None and (self._view.mirrors or self._rejection.request.id == wish.id):
            return self._writer.make(SYNCED, "False", "Rejected", _in_words(self._rejection.errors))
        if status is not None and status.phase is Phase.REJECTED and status.request_id == wish.id:
            return self._writer.make(SYNCED, "False", "Rejected", status.message)
        placed = self._placed
        mine = placed is not None and (placed.request.id == wish.id or placed.workload == wish.workload)
        if mine or self._view.mirrors:
            return self._writer.make(SYNCED, "True", "Accepted")
        return self._unanswered()

    def _unanswered(self) -> ConditionView | None:
        present = self._present()
        if self._view.meta.deleting:
            return present
        if self._answered:
            return self._elsewhere(present)
        if self._patient:
            return present
        message = "no answer yet: the request waits in the log for the scheduler"
        return self._writer.make(SYNCED, "Unknown", "Requested", message)

    def _elsewhere(self, present: ConditionView | None) -> ConditionView | None:
        """The wish had been answered; what the fleet has now is not from it."""
        if present is not None and present.reason == "Rejected":
            return present
        if self._placed is not None:
            message = (
                f"request {self._placed.request.id} changed the workload; change or re-create this object to return"
            )
            return self._writer.make(SYNCED, "False", "ChangedElsewhere", message)
        if self._status is not None and self._status.phase is Phase.DELETED:
            message = "the workload was deleted elsewhere; change this object to run it again, or delete it"
            return self._writer.make(SYNCED, "False", "DeletedElsewhere", message)
        return present

    def _present(self) -> ConditionView | None:
        found = next((c for c in self._before.get("conditions") or () if c.get("type") == SYNCED), None)
        return ConditionView.model_validate(found) if found else None

    def _fleet_conditions(self) -> Sequence[ConditionView]:
        if self._status is None:
            return ()
        return [_condition(item, self._generation) for item in self._status.conditions if item.type != SYNCED]


def _condition(condition: Condition, generation: int) -> ConditionView:
    return ConditionView(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=condition.message,
        last_transition_time=format_seconds(condition.last_transition_at),
        observed_generation=generation,
    )


def _summary(status: WorkloadStatus) -> WorkloadSummary | None:
    names = sorted(part.cluster for part in status.clusters if part.counts.desired or part.counts.pods)
    if not names:
        return None
    shown = ",".join(names[:_SHOWN_CLUSTERS])
    hidden = len(names) - _SHOWN_CLUSTERS
    return WorkloadSummary(clusters=f"{shown},+{hidden}" if hidden > 0 else shown)


def _pod_sets(status: WorkloadStatus) -> tuple[PodSetStatusView, ...]:
    return tuple(PodSetStatusView(name=item.name, **_numbers(item.counts)) for item in status.pod_sets)


def _clusters(status: WorkloadStatus) -> tuple[WorkloadClusterView, ...]:
    return tuple(
        WorkloadClusterView(
            cluster=item.cluster,
            applied=item.applied,
            reason=item.reason or None,
            message=item.message or None,
            **_numbers(item.counts),
        )
        for item in status.clusters
    )


def _numbers(counts: Counts) -> dict[str, Any]:
    return {name: getattr(counts, name) for name in Counts.model_fields}


def _in_words(errors: Sequence[FieldError]) -> str:
    return "; ".join(f"{error.field}: {error.message}" if error.field else error.message for error in errors)
