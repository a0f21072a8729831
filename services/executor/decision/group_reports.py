"""What to say of a node group after a look, and whether it is news."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.executor.decision.group_orders import Held
from services.executor.decision.node_groups import GroupPlan, Look, Resize
from shared.events.v1.results import CommandReported, NodeGroupReport, ObjectResult, Outcome
from shared.model.identities import NODE_GROUP_SUBJECT

WAITING_FOR_BUDGET = "DisruptionBudget"
_MAX_FAILURES = 32
# Attempts in a row that are told one by one: who gives the order may go elsewhere after some.
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class GroupNews:
    """How a group stands. `size` is None as long as its provider never answered."""

    size: int | None = None
    ready: int = 0
    removing: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""
    failures: tuple[ObjectResult, ...] = field(default=())
    attempt: int = 1

    def failed(self, reason: str, message: str, attempt: int) -> GroupNews:
        """The same, as far as it is known, and what went wrong for the how manieth time in a row."""
        return GroupNews(self.size, self.ready, self.removing, reason, message, attempt=attempt)


def news_of(look: Look, plan: GroupPlan) -> GroupNews:
    """After the plan's steps were taken."""
    sizes = [step.size for step in plan.steps if isinstance(step, Resize)]
    state, removing = look.state, frozenset(plan.removing)
    reason, message = state.reason, state.message
    if not reason and plan.waits:
        reason, message = WAITING_FOR_BUDGET, plan.waits[0].message
    return GroupNews(
        size=sizes[-1] if sizes else state.size,
        ready=sum(node.ready for name, node in look.nodes.items() if name not in removing),
        removing=tuple(sorted(removing)),
        reason=reason,
        message=message,
        failures=tuple(plan.failures[:_MAX_FAILURES]),
    )


def report_of(cluster: str, held: Held, news: GroupNews, outcome: Outcome, now_ms: int) -> CommandReported | None:
    """None if it differs from the last one in nothing that matters; remembered if it does. Messages do not matter."""
    known = (news.size, news.ready, news.removing, news.reason, _named(news.failures))
    said = (held.fence, outcome, min(news.attempt, _MOST_TOLD), *known)
    if said == held.said:
        return None
    held.said = said
    command = held.command
    first = news.failures[0] if news.failures else None
    return CommandReported(
        cluster=cluster,
        subject=command.subject,
        epoch=command.epoch,
        generation=command.generation,
        digest=command.digest,
        outcome=outcome,
        reported_at=now_ms,
        attempt=news.attempt,
        reason="" if outcome != "failed" else (news.reason or (first.reason if first else "")),
        message=""
        if outcome != "failed"
        else (news.message or (f"Node {first.name}: {first.message}" if first else "")),
        failures=news.failures,
        node_group=NodeGroupReport(
            group=command.subject.removeprefix(NODE_GROUP_SUBJECT),
            size=news.size,
            ready=news.ready,
            removing=news.removing,
            reason=news.reason,
            message=news.message,
        ),
    )


def _named(failures: Sequence[ObjectResult]) -> frozenset[tuple[str, str]]:
    return frozenset((item.name, item.reason) for item in failures)
