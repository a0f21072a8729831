"""Named tables as Redis hashes: one hash for each table, one transaction for each write.

Every call has one deadline, reconnects included. A connection that broke is opened again within it, with back-off and
jitter; after it, or if the server refuses, the caller gets a `KeyValueError` and decides. A write may have happened
though it failed: puts and deletes are idempotent, so its caller repeats it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.adapters.redis.options import RedisOptions
from shared.ports.key_value import KeyValueError

_SCAN_COUNT = 500


class RedisKeyValue:
    def __init__(self, client: Redis, options: RedisOptions) -> None:
        self._client = client
        self._options = options

    @classmethod
    def open(cls, options: RedisOptions) -> RedisKeyValue:
        """Connects with the first call, so that a service can start while Redis is away. Raises KeyValueError."""
        return cls(Redis.from_pool(options.pool()), options)

    async def write(self, table: str, puts: Mapping[str, bytes], deletes: Iterable[str] = ()) -> None:
        gone = [key for key in deletes if key not in puts]
        mapping: dict[Any, Any] = dict(puts)
        if not puts and not gone:
            return

        async def transact() -> None:
            async with self._client.pipeline(transaction=True) as pipeline:
                if puts:
                    pipeline.hset(self._name(table), mapping=mapping)
                if gone:
                    pipeline.hdel(self._name(table), *gone)
                await pipeline.execute()

        await self._call(f"write to {table}", transact)

    async def get(self, table: str, key: str) -> bytes | None:
        value: bytes | None = await self._call(f"read of {table}", lambda: self._client.hget(self._name(table), key))
        return value

    async def items(self, table: str) -> AsyncIterator[tuple[str, bytes]]:
        """A key may come twice while the table grows or shrinks: HSCAN promises no better."""
        cursor = 0
        while True:
            page_at = partial(self._client.hscan, self._name(table), cursor, count=_SCAN_COUNT)
            cursor, page = await self._call(f"scan of {table}", page_at)
            for key, value in page.items():
                yield key.decode(), value
            if cursor == 0:
                return

    async def clear(self, table: str) -> None:
        await self._call(f"clear of {table}", lambda: self._client.unlink(self._name(table)))

    async def close(self) -> None:
        await self._client.aclose()

    def _name(self, table: str) -> str:
        return f"{self._options.prefix}{table}"

    async def _call(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await call()
        except TimeoutError as error:
            raise KeyValueError(f"{what}: no answer within {self._options.timeout_s:g} s") from error
        except (RedisError, OSError) as error:
            told = f"{what}: {type(error).__name__}: {error}"
            raise KeyValueError(f"{told} ({settings})" if (settings := self._settings_of(error)) else told) from error

    def _settings_of(self, error: BaseException) -> str:
        """The settings to look at, where the error is about one of them."""
        text = f"{error} {error.__cause__!r} {error.__context__!r}"
        if isinstance(error, AuthenticationError | NoPermissionError) or "NOAUTH" in text or "WRONGPASS" in text:
            return "FLOTILLA_REDIS_USERNAME, FLOTILLA_REDIS_PASSWORD"
        if "certificate is not valid for" in text:
            return "FLOTILLA_REDIS_URL"
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return "FLOTILLA_REDIS_CA"
        connected = isinstance(error, RedisConnectionError) and "connecting to" not in text
        if "SSL" in text or (self._options.tls and connected):
            # With TLS 1.3 a client learns behind the handshake that its certificate was not taken, or is just cut off.
            return "FLOTILLA_REDIS_URL, FLOTILLA_REDIS_CERTIFICATE, FLOTILLA_REDIS_KEY"
        # Nobody is there, or somebody who expects TLS.
        return "FLOTILLA_REDIS_URL" if isinstance(error, RedisConnectionError) else ""
