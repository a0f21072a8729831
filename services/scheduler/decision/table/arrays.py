"""Array types, and growing them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Rows of the node table that are one domain's, see `nodes`.
BLOCK = 32

A = TypeVar("A", bound=npt.NDArray[Any])


def grown(array: A, shape: tuple[int, ...], fill: float = 0) -> A:
    """A copy of `shape`, at least as large in every dimension; what is new holds `fill`."""
    larger = np.full(shape, fill, array.dtype)
    larger[tuple(slice(0, length) for length in array.shape)] = array
    return larger  # type: ignore[return-value] # of the type of `array`, which numpy's stubs cannot say
