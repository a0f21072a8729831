"""What is said of a decision that was derived again: equal, different and in which field, or unchecked.

Unchecked is what cannot be derived exactly any more, and came out otherwise: the log has lost what the leader had seen.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from shared.events.v1.decisions import Decision, WorkloadForgotten, WorkloadPlaced


class Outcome(StrEnum):
    EQUAL = "equal"
    DIFFERENT = "different"
    UNCHECKED = "unchecked"


_MOST_TEXT = 120
# The subject of a verdict on the state as a whole.
STATE = "(state)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`offset` is where the decision stands in the journal; `detail` a field, or a reason."""

    offset: int
    key: str
    kind: str
    outcome: Outcome
    detail: str = ""


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


def difference(one: Decision, other: Decision) -> str:
    """The first field in which they differ, with both values; empty if there is none."""
    first, second = one.to_json(), other.to_json()
    return "" if first == second else _difference(orjson.loads(first), orjson.loads(second), "")


def _difference(one: Any, other: Any, path: str) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            if found := _difference(one.get(name), other.get(name), f"{path}.{name}" if path else name):
                return found
        return ""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            if found := _difference(*pair, f"{path}[{index}]"):
                return found
        return ""
    return "" if one == other else f"{path}: {_short(one)}, not {_short(other)}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
