"""The few calls that the test bed itself makes to its API server: JSON in, JSON out, a deadline on each.

It does not use the project's own adapters, because it must be able to say that they are wrong.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.testbed.pki import KeyPair

TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
MERGE_PATCH: Final = "application/merge-patch+json"


class ApiError(RuntimeError):
    """The API server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One API server, reached as one client; holds no connection, so it belongs to no event loop."""

    def __init__(self, server: str, authority: Path, client: KeyPair) -> None:
        self.server = server
        self._ssl = ssl.create_default_context(cafile=str(authority))
        self._ssl.load_cert_chain(client.certificate, client.key)
        self._anonymous_ssl = ssl.create_default_context(cafile=str(authority))

    async def call(self, method: str, path: str, body: Any = None, *, content: str = "application/json") -> Any:
        """The decoded answer; raises ApiError on a status of 400 or more and aiohttp.ClientError without one."""
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.request(
                method, self.server + path, json=body, headers={"Content-Type": content}, ssl=self._ssl
            ) as response,
        ):
            if response.status >= 400:
                raise ApiError(response.status, await response.text())
            return await response.json()

    async def healthy(self, url: str) -> bool:
        """Whether a health endpoint of this cluster answers 200 to anybody now."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(url, ssl=self._anonymous_ssl) as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
