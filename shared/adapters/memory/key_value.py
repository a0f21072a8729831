"""The `KeyValue` port in memory, for tests and for services without a read model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping

from shared.ports.key_value import KeyValueError


class MemoryKeyValue:
    """`fail` makes every call fail until it is empty again, as a server that is away."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.fail = ""
        self.closed = False

    async def write(self, table: str, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        self._check()
        for key in deletes:
            self.tables[table].pop(key, None)
        self.tables[table].update(puts)

    async def get(self, table: str, key: str) -> bytes | None:
        self._check()
        return self.tables[table].get(key)

    async def items(self, table: str) -> AsyncIterator[tuple[str, bytes]]:
        self._check()
        for item in list(self.tables[table].items()):
            yield item

    async def clear(self, table: str) -> None:
        self._check()
        self.tables.pop(table, None)

    async def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.closed:
            raise KeyValueError("the store is closed")
        if self.fail:
            raise KeyValueError(self.fail)
