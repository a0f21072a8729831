"""What only the Redis adapter must do: deadlines, reconnects, wrong settings.

TLS is in `tests/integration/test_secure_connections.py`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.ports.key_value import KeyValueError
from shared.runtime.embedded import EmbeddedValkey


async def test_a_wrong_url_names_the_setting() -> None:
    with pytest.raises(KeyValueError, match="FLOTILLA_REDIS_URL"):
        RedisKeyValue.open(RedisOptions("ftp://nowhere"))


async def test_nobody_there_is_an_error_within_the_deadline() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    store = RedisKeyValue.open(RedisOptions(f"redis://127.0.0.1:{port}", timeout_s=0.5))
    began = time.monotonic()
    with pytest.raises(KeyValueError):
        await store.get("t", "a")
    assert time.monotonic() - began < 2
    await store.close()


async def test_a_server_that_does_not_answer_is_an_error_within_the_deadline() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = RedisKeyValue.open(RedisOptions(f"redis://127.0.0.1:{port}", timeout_s=0.3))
    began = time.monotonic()
    with pytest.raises(KeyValueError, match=r"0\.3 s"):
        await store.write("t", {"a": b"1"})
    assert time.monotonic() - began < 2
    await store.close()
    server.close()


@pytest.mark.redis
async def test_a_server_that_comes_back_is_found_again(tmp_path: Path, redis_url: str) -> None:
    assert redis_url, "the parts are there"
    valkey = EmbeddedValkey(tmp_path)
    await valkey.start()
    store = RedisKeyValue.open(RedisOptions(valkey.url, prefix=f"{uuid4()}:", timeout_s=3))
    try:
        await store.write("t", {"a": b"1"})
        await valkey.stop()
        with pytest.raises(KeyValueError):
            await store.write("t", {"a": b"2"})
        await valkey.start()
        await store.write("t", {"a": b"3"})
        assert await store.get("t", "a") == b"3"
    finally:
        await store.close()
        await valkey.stop()


@pytest.mark.redis
async def test_another_type_under_the_tables_name_is_an_error(redis_url: str) -> None:
    prefix = f"{uuid4()}:"
    store = RedisKeyValue.open(RedisOptions(redis_url, prefix=prefix))
    await store._client.set(f"{prefix}t", b"a string")
    with pytest.raises(KeyValueError, match="WRONGTYPE"):
        await store.write("t", {"a": b"1"})
    await store.close()
