"""Event ids: UUIDv7, so that they sort by time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from uuid_utils import uuid7


def _random_id() -> str:
    return str(uuid7())


_source: Callable[[], str] = _random_id


def new_id() -> str:
    return _source()


@contextmanager
def ids_from(source: Callable[[], str]) -> Iterator[None]:
    """Inside, ids come from `source`: a simulation has to repeat them."""
    global _source  # noqa: PLW0603 - one source for the process, as the random one is
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before
