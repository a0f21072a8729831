"""Quantities in the form in which Kubernetes stores them: `0.5` becomes `500m`, `1024Mi` becomes `1Gi`."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from shared.model.quantities import QuantityError, parse_quantity, quantity_milli, quantity_units

__all__ = ["QuantityError", "canonical", "quantity_milli", "quantity_units"]

_BINARY = (("Ei", 6), ("Pi", 5), ("Ti", 4), ("Gi", 3), ("Mi", 2), ("Ki", 1))
_DECIMAL = (("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9))


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The canonical form: no fraction, and the largest suffix that allows it.

    Raises:
        QuantityError: not a quantity.
    """
    value = parse_quantity(text)
    if value == 0:
        return "0"
    if text.endswith("i"):
        for suffix, power in _BINARY:
            scaled = value / 1024**power
            if scaled == scaled.to_integral_value():
                return f"{int(scaled)}{suffix}"
    if "e" in text or ("E" in text and not text.endswith("E")):
        digits = value.normalize().as_tuple()
        exponent = int(digits.exponent) // 3 * 3
        return f"{int(value.scaleb(-exponent))}" + (f"e{exponent}" if exponent else "")
    for suffix, power in _DECIMAL:
        scaled = value.scaleb(-power)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return str(Decimal(value))
