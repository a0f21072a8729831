"""What the kernel rounds is what Python rounds, to the last bit, or the kernel says that it is not sure."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from services.scheduler.decision.scoring.kernel import rounded_as_python
from services.scheduler.decision.scoring.profiles import DIGITS

# Near the middle between two decimal numbers as well.
NUMBERS = st.one_of(
    st.floats(allow_nan=True),
    st.floats(0, 20),
    st.integers(0, 10**9).map(lambda number: number / 1e7),
    st.integers(0, 10**12).map(lambda number: (number + 0.5) / 1e6),
)


@given(NUMBERS)
@example(0.0000005)
@example(2.0000015)
@example(1e300)
@example(-0.25)
def test_the_kernel_rounds_as_python_or_leaves_it_to_python(number: float) -> None:
    rounded, sure = rounded_as_python(number)
    if sure:
        assert rounded == round(number, DIGITS)
    else:
        assert repr(rounded) == repr(number)


@given(st.floats(0.01, 20))
def test_most_numbers_are_for_the_kernel(number: float) -> None:
    rest = number * 1e6 % 1
    assert rounded_as_python(number)[1] == (abs(rest - 0.5) >= 1e-3)
