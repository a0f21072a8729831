"""Quantities by the rules of Kubernetes.

Source: k8s.io/apimachinery/pkg/api/resource. A quantity is a signed decimal with an optional suffix:
binary (Ki … Ei), decimal (n u m k M G T P E) or a decimal exponent (e3, E-2). Values round up to a
billionth, and away from zero, as there. The value must fit 64 bits when counted in whole units.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Context, Decimal, localcontext
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d{1,3})?"
)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_MAX_TEXT = 64
_MAX_VALUE = Decimal(2**63 - 1)
_NANO = Decimal("1e-9")
_CONTEXT = Context(prec=80, rounding=ROUND_UP, Emax=9999, Emin=-9999)


class QuantityError(ValueError):
    """The text is not a quantity of Kubernetes; the message says why."""


@lru_cache(maxsize=4096)
def parse_quantity(text: str) -> Decimal:
    """The value of a quantity in its base unit (cores, bytes, counts), exact to a billionth.

    Raises:
        QuantityError: not a quantity, or beyond 64 bits.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_TEXT and text.isascii() else None
    if match is None:
        raise QuantityError(f"{text[:_MAX_TEXT]!r} is not a quantity: want for example 500m, 2, 1.5Gi or 1e3")
    suffix = match["suffix"] or ""
    with localcontext(_CONTEXT):
        value = Decimal(match["number"])
        if suffix in _BINARY:
            value *= 1024 ** _BINARY[suffix]
        elif suffix in _DECIMAL:
            value = value.scaleb(_DECIMAL[suffix])
        elif suffix:
            value = value.scaleb(int(suffix[1:]))
        if abs(value) > _MAX_VALUE:
            raise QuantityError(f"{text!r} is larger than a quantity can be")
        return value.quantize(_NANO, rounding=ROUND_UP).normalize() + 0


def quantity_milli(text: str) -> int:
    """A quantity in thousandths of its base unit, rounded up: the unit for cpu."""
    return int(parse_quantity(text).scaleb(3).to_integral_value(rounding=ROUND_UP))


def quantity_units(text: str) -> int:
    """A quantity in whole base units, rounded up: bytes of memory, devices, pods."""
    return int(parse_quantity(text).to_integral_value(rounding=ROUND_UP))


def resource_amount(resource: str, text: str) -> int:
    """The scheduler's integer for an amount of a resource: cpu in thousandths, all else in whole units."""
    return quantity_milli(text) if resource == "cpu" else quantity_units(text)


def format_amount(resource: str, amount: int) -> str:
    """The inverse of `resource_amount`, in the form that `kubectl` shows."""
    if resource == "cpu":
        return f"{amount // 1000}" if amount % 1000 == 0 else f"{amount}m"
    if resource in {"memory", "ephemeral-storage"} or resource.startswith("hugepages-"):
        for suffix, power in (("Gi", 3), ("Mi", 2), ("Ki", 1)):
            if amount and amount % 1024**power == 0:
                return f"{amount // 1024**power}{suffix}"
    return str(amount)


def _as_text(value: object) -> object:
    if isinstance(value, bool):
        return value
    return str(value) if isinstance(value, int | float) else value


def _check(text: str) -> str:
    parse_quantity(text)
    return text


def _check_not_negative(text: str) -> str:
    if parse_quantity(text) < 0:
        raise QuantityError(f"{text!r} is negative")
    return text


# The format lets schemas that are made from a model (custom resources) tell a quantity from any other text.
_schema = Field(json_schema_extra={"format": "quantity"})
Quantity = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check), _schema]
NonNegativeQuantity = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_not_negative), _schema]
