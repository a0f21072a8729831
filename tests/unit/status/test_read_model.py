"""The read model: filled, followed, found lost and filled again, and never in anyone's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from services.status.read_model import ReadModel
from shared.adapters.clock import SystemClock
from shared.adapters.memory.key_value import MemoryKeyValue
from shared.events.v1.read_model import WORKLOADS_TABLE


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def writing(store: MemoryKeyValue, contents: dict[str, bytes]) -> AsyncIterator[ReadModel]:
    model = ReadModel(store, SystemClock(), 0.02)

    def latest(table: str) -> Iterable[tuple[str, bytes]]:
        return list(contents.items()) if table == WORKLOADS_TABLE else []

    model.refill(latest)
    task = asyncio.create_task(model.run())
    try:
        yield model
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_is_filled_and_what_should_not_be_there_goes() -> None:
    store = MemoryKeyValue()
    store.tables[WORKLOADS_TABLE] = {"old": b"1", "a": b"old"}
    async with writing(store, {"a": b"1", "b": b"2"}) as model:
        await until(lambda: not model.problem)
        assert store.tables[WORKLOADS_TABLE] == {"a": b"1", "b": b"2"}


async def test_it_follows() -> None:
    store = MemoryKeyValue()
    async with writing(store, {"a": b"1"}) as model:
        await until(lambda: not model.problem)
        model.put(WORKLOADS_TABLE, "a", None)
        model.put(WORKLOADS_TABLE, "b", b"1")
        model.put(WORKLOADS_TABLE, "b", b"2")
        await until(lambda: not model.waiting)
        assert store.tables[WORKLOADS_TABLE] == {"b": b"2"}


async def test_a_store_that_was_wiped_is_filled_again() -> None:
    store, contents = MemoryKeyValue(), {"a": b"1"}
    async with writing(store, contents) as model:
        await until(lambda: not model.problem)
        store.tables.clear()
        await until(lambda: store.tables[WORKLOADS_TABLE] == {"a": b"1"})


class WipedOnce(MemoryKeyValue):
    """Loses everything when the workloads have just been written for the first time."""

    wiped = False

    async def write(self, table: str, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        await super().write(table, puts, deletes)
        if table == WORKLOADS_TABLE and not self.wiped:
            self.wiped = True
            self.tables.clear()


async def test_a_store_that_is_wiped_while_it_is_filled_is_filled_again() -> None:
    store = WipedOnce()
    async with writing(store, {"a": b"1"}) as model:
        await until(lambda: not model.problem)
        assert store.wiped
        assert store.tables[WORKLOADS_TABLE] == {"a": b"1"}


async def test_a_wipe_just_before_a_write_is_not_hidden_by_it() -> None:
    store, contents = MemoryKeyValue(), {"a": b"1"}
    async with writing(store, contents) as model:
        await until(lambda: not model.problem)
        store.tables.clear()
        contents["b"] = b"2"
        model.put(WORKLOADS_TABLE, "b", b"2")
        await until(lambda: store.tables[WORKLOADS_TABLE] == {"a": b"1", "b": b"2"})


async def test_an_old_copy_that_came_back_is_recognised() -> None:
    store, contents = MemoryKeyValue(), {"a": b"1"}
    async with writing(store, contents) as model:
        await until(lambda: not model.problem)
        copy = {table: dict(items) for table, items in store.tables.items()}
        contents["a"] = b"2"
        model.put(WORKLOADS_TABLE, "a", b"2")
        await until(lambda: store.tables[WORKLOADS_TABLE] == {"a": b"2"})
        await until(lambda: not model.waiting)
        await asyncio.sleep(0.01)
        store.tables.clear()
        store.tables.update(copy)
        await until(lambda: store.tables[WORKLOADS_TABLE] == {"a": b"2"})


async def test_a_store_that_is_away_is_waited_for_and_only_the_latest_value_kept() -> None:
    store, contents = MemoryKeyValue(), {"a": b"0"}
    async with writing(store, contents) as model:
        await until(lambda: not model.problem)
        store.fail = "connection refused"
        for number in range(1_000):
            model.put(WORKLOADS_TABLE, "a", b"%d" % number)
        contents["a"] = b"999"
        await until(lambda: model.problem == "connection refused")
        assert model.waiting == 1
        store.fail = ""
        await until(lambda: store.tables[WORKLOADS_TABLE] == {"a": b"999"})
        await until(lambda: not model.problem)


async def test_at_the_end_what_waits_is_written() -> None:
    store = MemoryKeyValue()
    async with writing(store, {"a": b"1"}) as model:
        await until(lambda: not model.problem)
    model.put(WORKLOADS_TABLE, "b", b"2")
    await model.drain(1)
    assert store.tables[WORKLOADS_TABLE] == {"a": b"1", "b": b"2"}
