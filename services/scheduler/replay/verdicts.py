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

from shared.events.v1.decisions import Decision, WorkloadPlaced


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
    for item in decided:
        others = left[key_of(item.decision)]
        other = others.popleft() if others else None
        yield item, other, difference(item.decision, other) if other is not None else "nothing was decided"
    for decisions in left.values():
        for decision in decisions:
            yield None, decision, "nothing had been decided"


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
