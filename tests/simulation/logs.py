"""What services log, in virtual time: errors are kept as complaints, the rest is shown only when asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from tests.simulation.loop import OWNER

if TYPE_CHECKING:
    from tests.simulation.world import World

_current: list[World] = []
_ERRORS = frozenset({"error", "exception", "critical"})


def configure(*, verbose: bool) -> None:
    """Once for each process: loggers are made when they are first used."""
    level = logging.INFO if verbose else logging.ERROR
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _take],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


@contextmanager
def captured(world: World, *, verbose: bool) -> Iterator[None]:
    _current.append(world)
    world.verbose = verbose
    try:
        yield
    finally:
        _current.remove(world)


def _take(_: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if _current:
        world = _current[-1]
        what = str(event.pop("event"))
        if method in _ERRORS and getattr(OWNER.get(), "alive", True):
            world.complain(f"{what} {dict(event)}"[:4000])
        if world.verbose:
            print(f"{world.loop.time():9.3f} {OWNER.get()!s:22} {method:8} {what} {dict(event)}"[:2000])
    raise structlog.DropEvent
