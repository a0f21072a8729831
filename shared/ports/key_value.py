"""The read model: named tables of keys and values, derived from the log and rebuilt from it at will."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol


class KeyValueError(Exception):
    """The store refused or could not be reached within the deadline."""


class KeyValue(Protocol):
    async def write(self, table: str, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        """Puts and deletes in one step. Raises KeyValueError."""

    async def get(self, table: str, key: str) -> bytes | None: ...

    def items(self, table: str) -> AsyncIterator[tuple[str, bytes]]:
        """All items, in no order; what changes meanwhile may or may not be seen."""

    async def clear(self, table: str) -> None: ...

    async def close(self) -> None: ...
