"""Metrics that workloads are scaled by, from the HTTP API of a Prometheus server, by the operator's queries.

What a query gives is as of the moment at which it was evaluated; how far back Prometheus looks for a sample is its own
setting (`--query.lookback-delta`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import aiohttp
import orjson

from services.watcher.metric_apis import DEADLINE_S, milli_of
from services.watcher.queries import Query, QueryError, QueryServer
from shared.events.v1.metrics import SampledValue
from shared.events.v1.sampling import SampledMetric

MOST_BYTES: Final = 16 * 1024 * 1024
_OK: Final = 200
_POD: Final = "pod"


class PrometheusServer:
    """One server; `read` raises QueryError and nothing else."""

    def __init__(self, server: QueryServer, session: aiohttp.ClientSession | None, problem: str = "") -> None:
        self._server = server
        self._session = session
        self._problem = problem

    def query_of(self, metric: SampledMetric) -> Query | None:
        return self._server.query_of(metric)

    async def read(self, query: Query, metric: SampledMetric) -> list[SampledValue]:
        """Empty where Prometheus has nothing."""
        text = query.rendered(metric)
        try:
            async with asyncio.timeout(DEADLINE_S):
                document = await self._fetch(text)
        except TimeoutError as error:
            raise QueryError(f"Prometheus: no answer within {DEADLINE_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise QueryError(f"Prometheus: {error}") from error
        try:
            values = [_value(metric, labels, sample) for labels, sample in _series(document)]
        except (KeyError, TypeError, ValueError, IndexError, InvalidOperation) as error:
            raise QueryError(f"Prometheus: a value does not parse: {error!r}") from error
        found = [value for value in values if value is not None]
        if len(found) < len(values) and metric.type != "Pods":
            raise QueryError("Prometheus says NaN or infinity")
        if metric.type == "Object" and len(found) > 1:
            raise QueryError(f"the query gives {len(found)} values, and of an object there is one")
        return found

    async def _fetch(self, text: str) -> Mapping[str, Any]:
        if self._session is None:
            raise QueryError(self._problem)
        url = f"{self._server.url.rstrip('/')}/api/v1/query"
        async with self._session.post(url, data={"query": text}, headers=await self._headers()) as answer:
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise QueryError(f"Prometheus: the answer is larger than {MOST_BYTES} bytes")
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise QueryError(f"Prometheus: {answer.status}, and what it says is not JSON") from error
        if answer.status != _OK or not isinstance(document, dict) or document.get("status") != "success":
            said = document.get("error") if isinstance(document, dict) else None
            raise QueryError(f"Prometheus: {answer.status} {said or ''}".rstrip()[:512])
        return document

    async def _headers(self) -> dict[str, str]:
        """The token is read each time: it is rotated."""
        path = self._server.bearer_token_file
        if path is None:
            return {}
        token = await asyncio.to_thread(path.read_text)
        return {"Authorization": f"Bearer {token.strip()}"}


def _series(document: Mapping[str, Any]) -> Sequence[tuple[Mapping[str, str], Sequence[Any]]]:
    data = document["data"]
    if data["resultType"] == "scalar":
        return [({}, data["result"])]
    if data["resultType"] != "vector":
        raise ValueError(f"want an instant vector or a scalar, got a {data['resultType']}")
    return [(item["metric"], item["value"]) for item in data["result"]]


def _value(metric: SampledMetric, labels: Mapping[str, str], sample: Sequence[Any]) -> SampledValue | None:
    """None of what is no number."""
    at, text = round(float(sample[0]) * 1000), str(sample[1])
    number = Decimal(text)
    if not number.is_finite():
        return None
    milli = milli_of(f"{number:f}"[:64])
    if metric.type == "Pods":
        return SampledValue(milli=milli, at=at, pod=labels[_POD])
    return SampledValue(milli=milli, at=at, labels=dict(labels) if metric.type == "External" else {})


@asynccontextmanager
async def connected(servers: Sequence[QueryServer]) -> AsyncIterator[list[PrometheusServer]]:
    """A session for each server, closed at the end. An authority that cannot be read is said at every question."""
    found: list[PrometheusServer] = []
    async with AsyncExitStack() as stack:
        for server in servers:
            try:
                trust = await _trust(server)
            except (OSError, ssl.SSLError) as error:
                found.append(PrometheusServer(server, None, f"{server.ca_file}: {error}"))
                continue
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust))
            found.append(PrometheusServer(server, await stack.enter_async_context(session)))
        yield found


async def _trust(server: QueryServer) -> ssl.SSLContext | bool:
    if server.ca_file is None:
        return True
    return await asyncio.to_thread(ssl.create_default_context, cafile=str(server.ca_file))
