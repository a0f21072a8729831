"""What was decided beside what was derived. Unchecked is what came out otherwise where the log has lost what the leader
had seen.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.events.v1.decisions import Decision, WorkloadForgotten, WorkloadPlaced
from shared.kernel.replay import difference

# The subject of a verdict on the state as a whole.
STATE = "(state)"


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision in the journal."""

    offset: int
    decision: Decision


def key_of(decision: Decision) -> str:
    return str(decision.workload.key) if isinstance(decision, WorkloadPlaced) else decision.key


def paired(
    decided: Sequence[Decided], derived: Sequence[Decision]
) -> Iterator[tuple[Decided | None, Decision | None, str]]:
    """What was decided beside what was derived, and where they differ: workload by workload, each in its order."""
    left: dict[str, deque[Decision]] = defaultdict(deque)
    for decision in derived:
        left[key_of(decision)].append(decision)
    for item in _ends_as_one(decided):
        others = left[key_of(item.decision)]
        other = others.popleft() if others else None
        yield item, other, difference(item.decision, other) if other is not None else "nothing was decided"
    for decisions in left.values():
        for decision in decisions:
            yield None, decision, "nothing had been decided"


def _ends_as_one(decided: Sequence[Decided]) -> Iterator[Decided]:
    """Before a `WorkloadForgotten` had `retired`, a leader told of an end that was confirmed by two decisions, of which
    the first retired the last clusters. Together they say what the one says now.
    """
    before: WorkloadPlaced | None = None
    for item, following in zip(decided, (*decided[1:], None), strict=False):
        decision, after = item.decision, following.decision if following is not None else None
        if (
            isinstance(decision, WorkloadPlaced)
            and decision.deleting
            and decision.retired
            and isinstance(after, WorkloadForgotten)
            and following is not None
            and (after.uid, after.retired, following.offset) == (decision.uid, (), item.offset)
        ):
            before = decision
            continue
        if before is not None:
            item = Decided(item.offset, decision.model_copy(update={"retired": before.retired}))  # noqa: PLW2901
            before = None
        yield item
