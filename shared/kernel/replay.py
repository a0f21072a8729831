"""What is said of a decision that was derived again: equal, different and in which field, or unchecked.

Unchecked is what cannot be derived exactly any more: what it was decided from is not all there, or the configuration
was another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from shared.model.base import Value

_MOST_TEXT = 120


class Outcome(StrEnum):
    EQUAL = "equal"
    DIFFERENT = "different"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`offset` is where the decision stands in the journal; `detail` a field, or a reason."""

    offset: int
    key: str
    kind: str
    outcome: Outcome
    detail: str = ""

    def line(self) -> str:
        """As a replay prints it."""
        line = f"{self.offset}\t{self.key}\t{self.kind}\t{self.outcome}"
        return f"{line}: {self.detail}" if self.detail else line


def difference(one: Value, other: Value) -> str:
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
