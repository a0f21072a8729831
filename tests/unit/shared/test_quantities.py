"""Quantities as k8s.io/apimachinery reads them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.quantities import (
    QuantityError,
    format_amount,
    parse_quantity,
    quantity_milli,
    quantity_units,
    resource_amount,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"), ("1", "1"), ("+1", "1"), ("-1", "-1"), ("1.", "1"), (".5", "0.5"), ("100m", "0.1"),
        ("1500m", "1.5"), ("1k", "1000"), ("1Ki", "1024"), ("1.5Gi", "1610612736"), ("2Mi",
     "2097152"), ("1e3", "1000"), ("1E3", "1000"),
        ("12e-1", "1.2"), ("1E", "1e18"), ("7Ei", "8070450532247928832"), ("1n", "1e-9"), ("3u", "3e-6"),
        ("0.1n", "1e-9"), ("9223372036854775807", "9223372036854775807"),
    ],
)  # fmt: skip
def test_what_is_a_quantity(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    ["", " ", "1 ", " 1", "1 Gi", "Gi", "1gi", "1KI", "1K", "1Mb", "0x1", "1e", "1ee3", "--1", "1.2.3", "NaN", "inf",
     "1_000", "\u0661", "1e99", "8Ei", "9223372036854775808", "1" * 65],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)


@pytest.mark.parametrize(("text", "milli"), [("1", 1000), ("0.5", 500), ("100u", 1), ("1n", 1), ("1.0001", 1001)])
def test_thousandths_round_up(text: str, milli: int) -> None:
    assert quantity_milli(text) == milli


def test_whole_units_round_up_and_cpu_counts_in_thousandths() -> None:
    assert quantity_units("1500m") == 2
    assert resource_amount("cpu", "1500m") == 1500
    assert resource_amount("memory", "1Ki") == 1024
    assert resource_amount("nvidia.com/gpu", "2") == 2


@given(st.sampled_from(["cpu", "memory", "pods", "nvidia.com/gpu"]), st.integers(0, 2**50))
def test_formatting_is_the_inverse(resource: str, amount: int) -> None:
    assert resource_amount(resource, format_amount(resource, amount)) == amount


@given(st.text(max_size=20))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        parse_quantity(text)
    except QuantityError as error:
        assert str(error)  # noqa: PT017 - either outcome is right, neither may be anything else
