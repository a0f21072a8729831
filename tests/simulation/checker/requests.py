"""Every request has its answer, and what exists at the end is what the last accepted request of its key wants."""

from __future__ import annotations

from collections.abc import Iterable

from shared.events.registry import DecodeError, decode
from shared.events.v1.decisions import RequestRejected, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.workloads import DeleteWorkload, Workload
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.checker.journal import Outcome
from tests.simulation.history import Appended


def check(evidence: Evidence) -> list[Violation]:
    evidence.take()
    violations: list[Violation] = []
    living: dict[str, Workload | None] = {}
    for append in evidence.requests:
        violations += _one(append, evidence, living)
    return violations + _ends(evidence, living)


def _one(append: Appended, evidence: Evidence, living: dict[str, Workload | None]) -> Iterable[Violation]:
    position = f"{append.topic}/{append.partition}/{append.offset}"
    outcomes = evidence.journal.outcomes.get(position, [])
    placed = [outcome for outcome in outcomes if isinstance(outcome.decision, WorkloadPlaced)]
    rejected = [outcome for outcome in outcomes if isinstance(outcome.decision, RequestRejected)]
    if placed and rejected:
        yield Violation("answered twice", position, "one request was both accepted and refused")
    if len(rejected) > 1:
        yield Violation("answered twice", position, f"refused {len(rejected)} times")
    try:
        request = decode(WorkloadRequested, append.value)
    except DecodeError as error:
        if not rejected:
            yield Violation("unanswered", position, f"malformed, and not refused: {error}")
        return
    key = str(request.key)
    if append.key != key.encode():
        if not rejected:
            yield Violation("unanswered", position, "under a wrong key, and not refused")
        return
    yield from _valid(request, position, placed, rejected, living)


def _valid(
    request: WorkloadRequested,
    position: str,
    placed: list[Outcome],
    rejected: list[Outcome],
    living: dict[str, Workload | None],
) -> Iterable[Violation]:
    key, body = str(request.key), request.root
    live = living.get(key)
    if isinstance(body, DeleteWorkload):
        if live is not None and not any(_placed(outcome).deleting for outcome in placed):
            yield Violation("unanswered", position, f"{key} was to be deleted, and nothing was decided")
        living[key] = None
        return
    misplaced = (body.operation == "create" and live is not None) or (body.operation == "change" and live is None)
    if placed:
        if misplaced:
            yield Violation("wrong answer", position, f"{body.operation} of {key} was accepted")
        living[key] = body.workload
    elif not rejected and live != body.workload:
        yield Violation("unanswered", position, f"{body.operation} of {key}: neither accepted nor refused")
    elif rejected and not misplaced:
        decision = rejected[0].decision
        reasons = {item.reason for item in decision.errors} if isinstance(decision, RequestRejected) else set()
        if reasons & {"AlreadyExists", "NotFound", "InternalError"}:
            yield Violation("wrong answer", position, f"{body.operation} of {key} was refused: {sorted(reasons)}")


def _placed(outcome: Outcome) -> WorkloadPlaced:
    assert isinstance(outcome.decision, WorkloadPlaced)
    return outcome.decision


def _ends(evidence: Evidence, living: dict[str, Workload | None]) -> list[Violation]:
    latest = evidence.journal.latest
    violations = []
    for key, workload in living.items():
        decided = latest.get(key)
        if workload is None:
            if decided is not None:
                violations.append(Violation("not ended", key, "deleted, and not forgotten"))
        elif decided is None:
            violations.append(Violation("lost", key, "accepted, and unknown to the journal"))
        elif decided[1].deleting or decided[1].workload != workload:
            violations.append(
                Violation("not ended", key, "the journal's newest decision is not about the last request")
            )
    violations += [Violation("unasked", key, "nobody asked for it") for key in latest.keys() - living.keys()]
    return violations
