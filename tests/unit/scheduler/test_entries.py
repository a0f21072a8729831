"""Rounds of decisions as entries of the journal: a generation names one decision of a workload."""

from __future__ import annotations

from services.scheduler.entries import Round, Seen
from shared.events.topics import REQUESTS
from shared.events.v1.decisions import Decision, RequestRef, RequestRejected, WorkloadForgotten, WorkloadPlaced
from shared.events.v1.workloads import FieldError, Workload
from tests.scheduling import workload

REF = RequestRef(id="r", published_at=0)


def placed(name: str, *, deleting: bool = False) -> WorkloadPlaced:
    body = Workload.model_validate(workload(name))
    return WorkloadPlaced(workload=body, uid=name, workload_generation=1, request=REF, deleting=deleting)


def rejected(name: str) -> RequestRejected:
    error = FieldError(field="x", reason="Invalid", message="no")
    return RequestRejected(key=f"default/{name}", request=REF, errors=(error,))


def at(offset: int) -> Seen:
    return Seen({REQUESTS.name: {0: offset}})


def filled(*decisions: Decision) -> Round:
    made = Round()
    for offset, decision in enumerate(decisions):
        made.add([decision], lambda offset=offset: at(offset))  # type: ignore[misc]
    return made


def test_a_round_without_decisions_has_no_entries() -> None:
    assert filled().entries() == []


def test_different_workloads_share_an_entry() -> None:
    (entry,) = filled(placed("a"), rejected("b"), placed("c")).entries()
    assert len(entry.decisions) == 3
    assert entry.seen is None


def test_a_second_decision_on_a_workload_begins_an_entry_that_knows_which_requests_stand_before_it() -> None:
    decisions = rejected("a"), placed("b"), placed("a"), placed("a")
    first, second, third = filled(*decisions).entries()
    assert first.decisions == [decisions[0], decisions[1]]
    assert (second.decisions, third.decisions) == ([decisions[2]], [decisions[3]])
    assert (first.seen, second.seen, third.seen) == (at(2), at(3), None)


def test_the_end_of_a_workload_stands_with_the_decision_that_ends_it_and_what_follows_does_not() -> None:
    last, end = placed("a", deleting=True), WorkloadForgotten(key="default/a", uid="a")
    anew = placed("a")
    first, second = filled(last, end, anew).entries()
    assert first.decisions == [last, end]
    assert second.decisions == [anew]


def test_an_end_that_retires_commands_has_an_entry_and_so_a_generation_of_its_own() -> None:
    last, end = placed("a", deleting=True), WorkloadForgotten(key="default/a", uid="a", retired=("east",))
    first, second = filled(last, end).entries()
    assert (first.decisions, second.decisions) == ([last], [end])
