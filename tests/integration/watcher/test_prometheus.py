"""The operator's queries on a real Prometheus, which scrapes itself: its own words, types and mistakes."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.watcher.prometheus import PrometheusServer, connected
from services.watcher.queries import QueryError, QueryServer
from shared.events.v1.metrics import SampledValue
from shared.events.v1.sampling import SampledMetric, SampledObject
from shared.runtime.embedded.network import LOOPBACK, free_ports
from tests.fixtures.prometheus import PrometheusTools

QUERIES = [
    {"type": "External", "metric": "scrapes", "query": "sum by (job) (up{$matchers})"},
    {"type": "Object", "metric": "up", "query": 'scalar(up{job="$name"})'},
    {"type": "Pods", "metric": "up", "query": 'label_replace(up, "pod", "web-0", "job", ".*")'},
    {"type": "External", "metric": "nothing", "query": "vector(0) / 0"},
    {"type": "External", "metric": "broken", "query": "sum(("},
]


@pytest_asyncio.fixture
async def server(prometheus_tools: PrometheusTools, tmp_path: Path) -> AsyncIterator[PrometheusServer]:
    (port,) = free_ports(1)
    address = f"{LOOPBACK}:{port}"
    config = tmp_path / "prometheus.yml"
    job = f"[{{job_name: self, static_configs: [{{targets: ['{address}']}}]}}]"
    config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs: {job}\n")
    process = await asyncio.create_subprocess_exec(
        str(prometheus_tools.prometheus),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        known = QueryServer.model_validate({"url": f"http://{address}", "queries": QUERIES})
        async with connected([known]) as (found,):
            await _scraped(found)
            yield found
    finally:
        process.kill()
        await process.wait()


async def _scraped(server: PrometheusServer) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if await ask(server, "scrapes"):
                    return
            except QueryError:
                pass  # it does not listen yet
            await asyncio.sleep(0.2)


async def ask(server: PrometheusServer, name: str, kind: str = "External", **more: object) -> list[SampledValue]:
    metric = SampledMetric.model_validate({"type": kind, "namespace": "shop", "name": name, **more})
    query = server.query_of(metric)
    assert query is not None
    return await server.read(query, metric)


async def test_what_it_answers_is_understood(server: PrometheusServer) -> None:
    selected = await ask(server, "scrapes", selector="!zone,instance,job in (other,self),job notin (a.b)")
    assert [(value.milli, value.labels) for value in selected] == [(1000, {"job": "self"})]
    assert await ask(server, "scrapes", selector="job=other") == []
    (scalar,) = await ask(server, "up", "Object", object=SampledObject(kind="Service", name="self"))
    assert (scalar.milli, scalar.labels) == (1000, {})
    (pod,) = await ask(server, "up", "Pods")
    assert (pod.pod, pod.milli) == ("web-0", 1000)


async def test_what_is_no_number_or_no_query_is_said(server: PrometheusServer) -> None:
    with pytest.raises(QueryError, match="says NaN"):
        await ask(server, "nothing")
    with pytest.raises(QueryError, match=r"400 .*parse error"):
        await ask(server, "broken")
    # A name cannot break out of its quotes: there is no such job, and no value.
    outside = SampledObject(kind="Service", name='x"} or vector(3) or up{job="')
    with pytest.raises(QueryError, match="says NaN"):
        await ask(server, "up", "Object", object=outside)
