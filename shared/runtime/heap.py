"""The garbage collector and large states.

Whoever folds a whole log into memory makes millions of objects that stay. The cyclic collector walks all of them again
and again meanwhile, for a third of the time and more, and afterwards each of its full collections stops the process,
the longer the larger the state is. So it rests while a state is built, and leaves out from then on what was built.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_building = 0
_was_on = False


@contextmanager
def building() -> Iterator[None]:
    """Around the building of a state that stays. What an earlier one left in cycles is collected again afterwards.

    A collector that somebody else has switched off stays off.
    """
    global _building, _was_on  # noqa: PLW0603 - the collector is the process'
    if not _building:
        _was_on = gc.isenabled()
    gc.unfreeze()
    gc.disable()
    _building += 1
    try:
        yield
    finally:
        _building -= 1
        if not _building:
            gc.freeze()
            if _was_on:
                gc.enable()


def relax() -> None:
    """Lets the collector look less often: what dies here dies by its reference count, and cycles are rare.

    By Python's default it looks whenever 700 more containers live than before, which is every few messages for whoever
    keeps what it reads: a sixth of the scheduler's time.
    """
    gc.set_threshold(50_000, 20, 100)
