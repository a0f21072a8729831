"""What to say of a turn that has nothing left to do, and whether it is news."""

from __future__ import annotations

from services.executor.decision.fence import Fence
from services.executor.decision.instructions import Report
from services.executor.decision.plan import Plan
from services.executor.decision.stimuli import CommandMalformed, CommandSeen
from services.executor.decision.subject import Reported, Subject
from shared.events.v1.results import CommandReported, Outcome

_MAX_FAILURES = 32
_MAX_MESSAGE = 512


def report_of(plan: Plan) -> CommandReported | None:
    """The outcome of a plan without calls; None while it waits for what should happen by itself.

    Waiting beyond the deadline is a failure that says what is waited for. It stays one until the wait is over.
    """
    subject, command = plan.subject, plan.subject.command
    if plan.failures:
        subject.waiting_since_ms = None
        attempts = [subject.retries[key].attempt for key in subject.retries]
        first, more = plan.failures[0], len(plan.failures) - 1
        message = f"{first.kind} {first.name}: {first.message}" + (f" (and {more} more)" if more else "")
        return _report(plan, "failed", first.reason, message, attempt=max(attempts, default=1))
    if plan.waits:
        since = plan.now_ms if subject.waiting_since_ms is None else subject.waiting_since_ms
        subject.waiting_since_ms = since
        deadline = since + plan.policy.progress_deadline_ms
        if plan.now_ms < deadline:
            plan.wake(deadline)
            return None
        more = len(plan.waits) - 1
        message = f"waiting: {plan.waits[0]}" + (f" (and {more} more)" if more else "")
        return _report(plan, "failed", "ProgressDeadlineExceeded", message)
    subject.waiting_since_ms = None
    return _report(plan, "withdrawn" if command.action == "withdraw" else "applied")


def refusal_of(cluster: str, subject: str, stale: Fence, digest: str, applied: Fence, now_ms: int) -> CommandReported:
    """A command or a tombstone that is older than what was applied: its writer should publish the newest again."""
    return CommandReported(
        cluster=cluster,
        subject=subject,
        epoch=stale.epoch,
        generation=stale.generation,
        digest=digest,
        outcome="refused",
        reported_at=now_ms,
        reason="Stale",
        message=f"epoch {applied.epoch}, generation {applied.generation} was applied before",
        applied_generation=applied.generation,
    )


def malformed_of(cluster: str, stimulus: CommandMalformed) -> Report:
    """A record that is no command; what is in force stays so."""
    report = CommandReported(
        cluster=cluster,
        subject=stimulus.subject,
        epoch=stimulus.epoch,
        generation=stimulus.generation,
        digest=stimulus.digest,
        outcome="failed",
        reported_at=stimulus.at_ms,
        reason="Malformed",
        message=stimulus.message[:_MAX_MESSAGE],
    )
    return Report(cause=stimulus.id, report=report, traceparent=stimulus.traceparent)


def as_malformed(stimulus: CommandSeen, message: str) -> CommandMalformed:
    """A command that says something that cannot be."""
    command = stimulus.command
    return CommandMalformed(
        id=stimulus.id,
        at_ms=stimulus.at_ms,
        subject=stimulus.subject,
        message=message,
        epoch=command.epoch,
        generation=command.generation,
        digest=command.digest,
        traceparent=stimulus.traceparent,
    )


def failure_of(subject: Subject, reason: str, message: str, now_ms: int) -> CommandReported:
    """A subject that failed as a whole."""
    command = subject.command
    return CommandReported(
        cluster=command.cluster,
        subject=command.subject,
        epoch=command.epoch,
        generation=command.generation,
        digest=command.digest,
        outcome="failed",
        reported_at=now_ms,
        reason=reason,
        message=message[:_MAX_MESSAGE],
    )


def is_news(subject: Subject, report: CommandReported) -> bool:
    """Whether the report differs from the last one in what matters; remembers it if so. Times and counts do not."""
    reported = Reported(
        generation=report.generation,
        outcome=report.outcome,
        reason=report.reason,
        failures=frozenset((f"{item.kind}/{item.namespace}/{item.name}", item.reason) for item in report.failures),
    )
    if reported == subject.reported:
        return False
    subject.reported = reported
    return True


def _report(plan: Plan, outcome: Outcome, reason: str = "", message: str = "", attempt: int = 1) -> CommandReported:
    command = plan.subject.command
    return CommandReported(
        cluster=command.cluster,
        subject=command.subject,
        epoch=command.epoch,
        generation=command.generation,
        digest=command.digest,
        outcome=outcome,
        reported_at=plan.now_ms,
        attempt=attempt,
        reason=reason,
        message=message[:_MAX_MESSAGE],
        objects=plan.as_desired,
        failures=tuple(plan.failures[:_MAX_FAILURES]),
    )
