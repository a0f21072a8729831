"""From settings to the read model's connection; apart from the log's, since the agents' image has no Redis client."""

from __future__ import annotations

from contextlib import AsyncExitStack

from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.runtime.settings import CommonSettings


def redis_options(settings: CommonSettings, *, timeout_s: float = 5.0) -> RedisOptions:
    return RedisOptions(
        settings.redis_url,
        timeout_s=timeout_s,
        ca_file=settings.redis_ca,
        certificate=settings.redis_certificate,
        key=settings.redis_key,
        username=settings.redis_username,
        password=settings.redis_password.get_secret_value(),
    )


def open_store(settings: CommonSettings, stack: AsyncExitStack, *, timeout_s: float = 5.0) -> RedisKeyValue:
    """The read model, which connects with its first call. Raises KeyValueError for settings that make no sense."""
    store = RedisKeyValue.open(redis_options(settings, timeout_s=timeout_s))
    stack.push_async_callback(store.close)
    return store
