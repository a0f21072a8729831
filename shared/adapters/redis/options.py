"""How to reach Redis: one value, from which the client's connections are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError

from shared.adapters.tls import ClientTls
from shared.ports.key_value import KeyValueError

T = TypeVar("T")

_RECONNECTS = 5
_BACKOFF_BASE_S = 0.05
_BACKOFF_CAP_S = 1.0
_IDLE_CHECK_S = 15


class _TlsConnection(SSLConnection):
    """By our context, whose files are renewed, where redis-py reads them once for each connection of its pool."""

    def __init__(self, *, tls: ClientTls, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context.context = tls


class _Retry(Retry):
    """Opens a connection that broke again; who is refused by his password is told so at once."""

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[[Exception], Any] | Callable[[Exception, int], Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        def again(error: Exception) -> bool:
            return not isinstance(error, AuthenticationError) and (is_retryable is None or is_retryable(error))

        return await super().call_with_retry(do, fail, again, with_failure_count)


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """`url` as redis-py reads it: `redis://`, `rediss://` for TLS, `unix://`.

    With options of TLS in the URL's query (`ssl_check_hostname=false` and others) redis-py's own context is used, whose
    files are read once for each connection of its pool. `timeout_s` is the deadline of one call. `prefix` keeps the
    tables apart from what else lives in the server.
    """

    url: str
    timeout_s: float = 5.0
    prefix: str = "flotilla:"
    ca_file: str = ""
    certificate: str = ""
    key: str = ""
    username: str = ""
    password: str = ""

    @property
    def tls(self) -> bool:
        return self.url.startswith("rediss://")

    def client_arguments(self) -> dict[str, str]:
        """What is not in the URL, as redis-py names it. TLS below 1.2 is refused by Python's own defaults."""
        named = {
            "ssl_ca_certs": self.ca_file,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
            "username": self.username,
            "password": self.password,
        }
        return {name: value for name, value in named.items() if value}

    def pool(self) -> ConnectionPool:
        """Connections that are opened when they are needed. Raises KeyValueError for what makes no sense."""
        try:
            in_url = dict(parse_url(self.url))
            arguments: dict[str, Any] = {**self.client_arguments(), **in_url}
            if self.tls and not any(name.startswith("ssl_") for name in in_url):
                arguments |= {"connection_class": _TlsConnection, "tls": self._client_tls()}
            return ConnectionPool(
                socket_timeout=self.timeout_s,
                socket_connect_timeout=self.timeout_s,
                health_check_interval=_IDLE_CHECK_S,
                retry=_Retry(ExponentialWithJitterBackoff(_BACKOFF_CAP_S, _BACKOFF_BASE_S), _RECONNECTS),
                **arguments,
            )
        except (ValueError, TypeError) as error:
            raise KeyValueError(f"FLOTILLA_REDIS_URL: {error}") from error

    def _client_tls(self) -> ClientTls:
        try:
            return ClientTls.opened(self.ca_file, self.certificate, self.key, settings="FLOTILLA_REDIS")
        except OSError as error:
            raise KeyValueError(str(error)) from error
