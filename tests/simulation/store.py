"""The read model's store: one for the world, a connection for each process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TypeVar

from shared.ports.key_value import KeyValueError
from tests.simulation.futures import fail, resolve
from tests.simulation.links import PATIENCE_S, Link, Mishap
from tests.simulation.loop import WORLD
from tests.simulation.process import Process

T = TypeVar("T")


class Store:
    """The server's state; `wipe` loses it."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, bytes]] = {}

    def table(self, name: str) -> dict[str, bytes]:
        return self.tables.setdefault(name, {})

    def wipe(self) -> None:
        self.tables.clear()


class SimKeyValue:
    def __init__(self, process: Process, store: Store, link: Link) -> None:
        self._process = process
        self._store = store
        self._link = link

    async def write(self, table: str, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        given, gone = dict(puts), list(deletes)

        def do() -> None:
            rows = self._store.table(table)
            for key in gone:
                rows.pop(key, None)
            rows.update(given)

        await self._ask("write", do)

    async def get(self, table: str, key: str) -> bytes | None:
        return await self._ask("get", lambda: self._store.table(table).get(key))

    async def items(self, table: str) -> AsyncIterator[tuple[str, bytes]]:
        for item in await self._ask("items", lambda: list(self._store.table(table).items())):
            yield item

    async def clear(self, table: str) -> None:
        await self._ask("clear", lambda: self._store.table(table).clear())

    async def close(self) -> None:
        """The process's connections end with it."""

    async def _ask(self, what: str, do: Callable[[], T]) -> T:
        process, link, loop = self._process, self._link, self._process.loop
        process.effect(f"store: {what}")
        answer: asyncio.Future[T] = loop.create_future()
        wait, mishap = link.arrival(), link.mishap()
        if wait > PATIENCE_S or mishap in (Mishap.LOST, Mishap.REFUSED):
            loop.call_later(min(wait, PATIENCE_S), fail, answer, KeyValueError("the store is away"), context=WORLD)
            return await answer

        def arrive() -> None:
            result = do()
            if mishap is None:
                resolve(answer, result)
            else:
                fail(answer, KeyValueError("no answer"))

        loop.call_later(wait, arrive, context=WORLD)
        return await answer
