"""The collector rests while a state is built, and is left afterwards as it was found."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from shared.runtime.heap import building


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    on = gc.isenabled()
    yield
    gc.unfreeze()
    if on:
        gc.enable()
    else:
        gc.disable()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was_found(on: bool) -> None:
    if on:
        gc.enable()
    else:
        gc.disable()
    with building():
        assert not gc.isenabled()
        with building():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() == on
