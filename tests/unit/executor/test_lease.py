"""What runs by the executor's lease is started with it alone, and stopped when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.decision.backoff import CallFailed
from services.executor.decision.identity import GroupKind, ObjectId
from services.executor.decision.instructions import Apply, Delete
from services.executor.decision.lease import FIRST_ANSWER_MS
from services.executor.decision.stimuli import CommandSeen, LeaseLooked
from shared.events.v1.commands import CommandIssued
from shared.events.v1.leases import LEASE_MS, LEASE_SUBJECT, RENEW_MS, LeaseAsked, LeaseGranted
from tests.unit.executor.builders import CLUSTER, SUBJECT, command, config_map, deployment, job, withdrawal
from tests.unit.executor.model import Rig

WEB = ObjectId(GroupKind("apps", "Deployment"), "shop", "web-main")
SETTINGS = ObjectId(GroupKind("", "ConfigMap"), "shop", "settings")
JOB = ObjectId(GroupKind("batch", "Job"), "shop", "once")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def asked(rig: Rig) -> list[LeaseAsked]:
    return [report.lease for report in rig.reports if report.lease is not None]


def grant(rig: Rig, request: LeaseAsked, *subjects: str) -> None:
    """The answer stands in the topic now."""
    granted = LeaseGranted(cluster=CLUSTER, life=request.life, number=request.number, subjects=subjects)
    answer = CommandIssued(
        cluster=CLUSTER, subject=LEASE_SUBJECT, namespace=LEASE_SUBJECT, epoch=1, generation=9, digest="", action="run"
    ).model_copy(update={"lease": granted})
    rig.handle(CommandSeen(id="g", at_ms=rig.clock.now_ms(), subject=LEASE_SUBJECT, command=answer))
    rig.settle()


def passes(rig: Rig, milliseconds: int, *, answered: bool = False) -> None:
    """Time passes, with a look at the lease each second; the control plane answers or is not heard."""
    for _ in range(0, milliseconds, 1000):
        before = len(asked(rig))
        rig.pass_time(1)
        rig.handle(LeaseLooked(id="l", at_ms=rig.clock.now_ms()))
        rig.settle()
        for request in asked(rig)[before:] if answered else ():
            grant(rig, request, *request.subjects)


def issue(rig: Rig, generation: int, *objects: dict[str, Any]) -> None:
    rig.issue(command(generation, *(objects or (deployment(), config_map())), leased=True))
    rig.settle()


def start(rig: Rig) -> None:
    issue(rig, 1)
    grant(rig, asked(rig)[-1], SUBJECT)
    assert WEB in rig.cluster.objects


def test_nothing_starts_without_a_lease_which_is_asked_for_at_once(rig: Rig) -> None:
    issue(rig, 1)
    assert [request.subjects for request in asked(rig)] == [(SUBJECT,)]
    assert not rig.made(Apply)
    grant(rig, asked(rig)[-1], SUBJECT)
    assert {WEB, SETTINGS} <= rig.cluster.objects.keys()


def test_what_does_not_run_by_it_needs_none(rig: Rig) -> None:
    rig.issue(command(1, deployment()))
    rig.settle()
    passes(rig, 10 * LEASE_MS)
    assert WEB in rig.cluster.objects
    assert asked(rig) == []


def test_while_the_control_plane_answers_it_goes_on(rig: Rig) -> None:
    start(rig)
    passes(rig, 10 * LEASE_MS, answered=True)
    assert WEB in rig.cluster.objects
    assert not rig.made(Delete)


def test_it_is_stopped_when_the_lease_is_over_counted_from_when_that_was_asked_for(rig: Rig) -> None:
    start(rig)
    passes(rig, RENEW_MS)
    late = asked(rig)[-1]
    assert late.number > 1
    passes(rig, LEASE_MS - 2 * RENEW_MS)
    grant(rig, late, SUBJECT)
    passes(rig, RENEW_MS + 1000)
    assert WEB in rig.cluster.objects, "the late answer counts"
    passes(rig, RENEW_MS)
    assert WEB not in rig.cluster.objects, "from when it was asked for, not from when it came"
    assert SETTINGS in rig.cluster.objects, "what has no pods stays"


def test_it_starts_again_with_a_new_lease(rig: Rig) -> None:
    start(rig)
    passes(rig, 2 * LEASE_MS)
    assert WEB not in rig.cluster.objects
    grant(rig, asked(rig)[-1], SUBJECT)
    assert WEB in rig.cluster.objects


def test_it_is_stopped_at_once_when_the_answer_does_not_name_it(rig: Rig) -> None:
    start(rig)
    passes(rig, RENEW_MS)
    grant(rig, asked(rig)[-1])
    assert WEB not in rig.cluster.objects


def test_answers_to_another_life_and_to_earlier_requests_count_for_nothing(rig: Rig) -> None:
    start(rig)
    first = asked(rig)[-1]
    passes(rig, LEASE_MS - 1000)
    newest = asked(rig)[-1]
    grant(rig, newest.model_copy(update={"life": "another"}), SUBJECT)
    grant(rig, first, SUBJECT)
    passes(rig, 3000)
    assert WEB not in rig.cluster.objects


def test_a_process_that_begins_stops_what_it_finds_unless_it_is_answered(rig: Rig) -> None:
    start(rig)
    old = asked(rig)[-1]
    rig.restart()
    issue(rig, 1)
    passes(rig, FIRST_ANSWER_MS - 1000)
    assert WEB in rig.cluster.objects
    assert not any(isinstance(call, Delete) for call in rig.cluster.calls)
    grant(rig, old, SUBJECT)
    passes(rig, 3000)
    assert WEB not in rig.cluster.objects, "its predecessor's lease is not its own"


def test_a_process_that_begins_and_is_answered_leaves_it_running(rig: Rig) -> None:
    start(rig)
    rig.restart()
    issue(rig, 1)
    grant(rig, asked(rig)[-1], SUBJECT)
    passes(rig, 5 * LEASE_MS, answered=True)
    assert WEB in rig.cluster.objects
    assert not rig.made(Delete)


def test_what_begins_to_run_by_it_is_not_stopped_before_that_is_answered(rig: Rig) -> None:
    """An answer to an earlier request, which did not name it, says nothing of it."""
    other = "workload/shop/other"
    rig.issue(command(1, deployment("other-main"), subject=other, leased=True), command(1, deployment()))
    rig.settle()
    grant(rig, asked(rig)[-1], other)
    issue(rig, 2)
    assert WEB in rig.cluster.objects
    grant(rig, asked(rig)[-1], other, SUBJECT)
    passes(rig, 5 * LEASE_MS, answered=True)
    assert WEB in rig.cluster.objects
    assert not rig.made(Delete)


def test_a_deletion_that_fails_is_tried_until_it_is_done(rig: Rig) -> None:
    start(rig)
    refused = CallFailed(503, "ServiceUnavailable", "not now", None)
    rig.cluster.fault = lambda call: refused if isinstance(call, Delete) else None
    passes(rig, 4 * LEASE_MS)
    assert WEB in rig.cluster.objects
    rig.cluster.fault = lambda _: None
    passes(rig, 60_000)
    assert WEB not in rig.cluster.objects


def test_a_job_that_has_ended_is_left_alone(rig: Rig) -> None:
    issue(rig, 1, job())
    grant(rig, asked(rig)[-1], SUBJECT)
    rig.cluster.change(JOB, lambda found: found.update(status={"conditions": [{"type": "Complete", "status": "True"}]}))
    rig.settle()
    passes(rig, 2 * LEASE_MS)
    assert JOB in rig.cluster.objects


def test_a_withdrawal_needs_no_lease(rig: Rig) -> None:
    start(rig)
    rig.issue(withdrawal(2))
    rig.settle()
    rig.cluster.confirm_deletions()
    rig.settle()
    assert WEB not in rig.cluster.objects
    assert rig.reports[-1].outcome == "withdrawn"


def test_a_call_whose_turn_comes_when_the_lease_is_over_is_not_made(rig: Rig) -> None:
    start(rig)
    call = next(call for call in rig.made(Apply) if call.target == WEB)
    now = rig.clock.now_ms()
    assert rig.reconciler.may_carry_out(call, now)
    assert not rig.reconciler.may_carry_out(call, now + LEASE_MS)


def test_what_has_no_lease_is_not_looked_at_again_and_again_when_it_is_to_be_checked(rig: Rig) -> None:
    start(rig)
    passes(rig, 2 * LEASE_MS)
    assert WEB not in rig.cluster.objects
    # Long after it should have been compared with what is wanted.
    rig.pass_time(2 * rig.policy.resync_ms / 1000)
    rig.settle()
    grant(rig, asked(rig)[-1], SUBJECT)
    passes(rig, 2 * RENEW_MS, answered=True)
    assert WEB in rig.cluster.objects
