"""The functions and methods of the subset, over plain values and quantities."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

from services.simulator.core.quantities import QuantityError
from shared.model.quantities import parse_quantity


class CelError(Exception):
    """An expression has no value for this input, for example because a field is missing."""


class Quantity:
    __slots__ = ("value",)

    def __init__(self, value: Decimal) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def _quantity(text: Any) -> Quantity:
    try:
        return Quantity(parse_quantity(text))
    except (QuantityError, TypeError) as error:
        raise CelError(str(error)) from error


def _is_quantity(text: Any) -> bool:
    try:
        _quantity(text)
    except CelError:
        return False
    return True


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _integer(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise CelError(f"no integer: {value!r}") from error


def _double(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise CelError(f"no number: {value!r}") from error


def _size(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise CelError("no size")
    return len(value)


def _matches(text: Any, pattern: Any) -> bool:
    try:
        return re.search(pattern, text) is not None
    except (re.error, TypeError) as error:
        raise CelError(f"no match possible: {error}") from error


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "size": _size,
    "string": _string,
    "int": _integer,
    "uint": _integer,
    "double": _double,
    "matches": _matches,
    "quantity": _quantity,
    "isQuantity": _is_quantity,
    "dyn": lambda value: value,
}


def _compare(one: Quantity, other: Quantity) -> int:
    return (one.value > other.value) - (one.value < other.value)


def _position(text: Any, other: Any) -> int:
    return text.find(other) if isinstance(text, str) else text.index(other) if other in text else -1


METHODS: dict[str, Callable[..., Any]] = {
    "size": _size,
    "matches": _matches,
    "contains": lambda text, part: part in text,
    "startsWith": lambda text, part: text.startswith(part),
    "endsWith": lambda text, part: text.endswith(part),
    "lowerAscii": lambda text: text.lower(),
    "upperAscii": lambda text: text.upper(),
    "trim": lambda text: text.strip(),
    "split": lambda text, separator, limit=-1: text.split(separator, limit - 1 if limit > 0 else -1),
    "join": lambda parts, separator="": separator.join(parts),
    "replace": lambda text, old, new, limit=-1: text.replace(old, new, limit),
    "substring": lambda text, start, end=None: text[start:end],
    "charAt": lambda text, at: text[at : at + 1],
    "indexOf": _position,
    "isSorted": lambda values: all(one <= two for one, two in pairwise(values)),
    "sum": sum,
    "min": min,
    "max": max,
    "compareTo": _compare,
    "isGreaterThan": lambda one, other: _compare(one, other) > 0,
    "isLessThan": lambda one, other: _compare(one, other) < 0,
    "sign": lambda one: (one.value > 0) - (one.value < 0),
    "isInteger": lambda one: one.value == one.value.to_integral_value(),
    "asInteger": lambda one: int(one.value),
    "asApproximateFloat": lambda one: float(one.value),
    "add": lambda one, other: Quantity(one.value + (other.value if isinstance(other, Quantity) else other)),
    "sub": lambda one, other: Quantity(one.value - (other.value if isinstance(other, Quantity) else other)),
}
