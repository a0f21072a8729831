"""What every `KeyValue` must do, on the one in memory and on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from shared.adapters.memory.key_value import MemoryKeyValue
from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.ports.key_value import KeyValue


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def url(request: pytest.FixtureRequest) -> str:
    """The server's URL; empty for the store in memory."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else ""


@pytest.fixture
async def store(url: str) -> AsyncIterator[KeyValue]:
    opened: KeyValue = (
        RedisKeyValue.open(RedisOptions(url, prefix=f"test-{uuid4()}:", timeout_s=30)) if url else MemoryKeyValue()
    )
    yield opened
    await opened.close()


async def everything(store: KeyValue, table: str) -> dict[str, bytes]:
    return {key: value async for key, value in store.items(table)}


async def test_what_is_put_is_got(store: KeyValue) -> None:
    await store.write("t", {"a": b"1", "b/c": b"\x00\xff"})
    assert await store.get("t", "a") == b"1"
    assert await store.get("t", "b/c") == b"\x00\xff"
    assert await store.get("t", "missing") is None
    assert await store.get("other", "a") is None


async def test_a_put_replaces(store: KeyValue) -> None:
    await store.write("t", {"a": b"1"})
    await store.write("t", {"a": b"2"})
    assert await everything(store, "t") == {"a": b"2"}


async def test_puts_and_deletes_go_together(store: KeyValue) -> None:
    await store.write("t", {"a": b"1", "b": b"1"})
    await store.write("t", {"c": b"1"}, ["a", "never"])
    assert await everything(store, "t") == {"b": b"1", "c": b"1"}


async def test_a_key_that_is_put_and_deleted_at_once_is_there(store: KeyValue) -> None:
    await store.write("t", {"a": b"1"})
    await store.write("t", {"a": b"2"}, ["a"])
    assert await store.get("t", "a") == b"2"


async def test_nothing_to_do_is_no_error(store: KeyValue) -> None:
    await store.write("t", {})
    await store.write("t", {}, ["never"])
    assert await everything(store, "t") == {}


async def test_tables_are_apart_and_cleared_apart(store: KeyValue) -> None:
    await store.write("t", {"a": b"1"})
    await store.write("u", {"a": b"2"})
    await store.clear("t")
    await store.clear("t")
    assert await everything(store, "t") == {}
    assert await everything(store, "u") == {"a": b"2"}


async def test_all_items_of_a_large_table_come(store: KeyValue) -> None:
    puts = {f"key-{number}": str(number).encode() for number in range(5_000)}
    await store.write("large", puts)
    assert await everything(store, "large") == puts


async def test_calls_at_once_do_not_mix(store: KeyValue) -> None:
    await asyncio.gather(*(store.write("t", {f"k{number}": b"%d" % number}) for number in range(100)))
    values = await asyncio.gather(*(store.get("t", f"k{number}") for number in range(100)))
    assert values == [b"%d" % number for number in range(100)]


async def test_empty_values_and_keys_beyond_ascii(store: KeyValue) -> None:
    await store.write("t", {"é": b""})
    assert await everything(store, "t") == {"é": b""}
