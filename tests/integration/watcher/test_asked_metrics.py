"""What workloads ask to be measured: from metrics APIs, and from Prometheus' HTTP API.

The metrics APIs are those of a simulated cluster, and the same behind the aggregation layer of a real API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import orjson
import pytest
from aiohttp import web

from services.simulator.asked_metrics import MetricValue, MetricValues
from services.simulator.faults import FaultSpec
from services.simulator.simulator import Simulator
from services.watcher.bootstrap import TOPICS
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import METRICS, SAMPLING
from shared.events.v1.metrics import AskedMetricsSampled, MetricSampled
from shared.events.v1.sampling import SampledMetric, SampledObject, SamplingRequested
from shared.model.identities import Resource
from shared.ports.event_log import NewRecord
from tests.integration.watcher.test_clusters import spec, watching
from tests.testbed.cluster import RealCluster

LAG = SampledMetric(type="External", namespace="default", name="lag", selector="topic=orders")
HITS = SampledMetric(type="Pods", namespace="default", name="hits", pods="app=web")
SERVICE = SampledObject(kind="Service", name="web")
RATE = SampledMetric(type="Object", namespace="default", name="rate", object=SERVICE)
CLAIM = SampledMetric(
    type="Object",
    namespace="default",
    name="depth",
    object=SampledObject(api_version="apps/v1", kind="Deployment", name="web"),
)
SPACE = SampledMetric(
    type="Object", namespace="default", name="quota", object=SampledObject(kind="Namespace", name="default")
)


@pytest.fixture
async def log() -> MemoryLog:
    log = MemoryLog()
    await log.ensure_topics([*TOPICS, SAMPLING])
    return log


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator(kubeconfig_dir=tmp_path) as running:
        await running.add_cluster(spec("east"))
        yield running


class Bed(Protocol):
    """A cluster called `east` with its kubeconfig in the test's directory, and what its metrics APIs say."""

    async def measure(self, *values: MetricValue) -> None: ...

    async def fail(self) -> None:
        """Those who would answer are away."""

    async def heal(self) -> None: ...


class SimulatedBed:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def measure(self, *values: MetricValue) -> None:
        self._simulator.measure("east", values)

    async def fail(self) -> None:
        self._simulator.inject("east", FaultSpec(error_rate=1.0, error_status=503, path_contains="external.metrics"))

    async def heal(self) -> None:
        self._simulator.inject("east", None)


class RealBed:
    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster

    async def measure(self, *values: MetricValue) -> None:
        await self._cluster.measure(MetricValues(values=values))

    async def fail(self) -> None:
        self._cluster.kill("metrics-server")

    async def heal(self) -> None:
        await self._cluster.restart("metrics-server")


@pytest.fixture(params=["simulated", "real"])
async def bed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bed]:
    if request.param == "simulated":
        async with Simulator(kubeconfig_dir=tmp_path) as running:
            await running.add_cluster(spec("east"))
            yield SimulatedBed(running)
        return
    request.getfixturevalue("testbed_binaries")
    async with RealCluster("east", nodes=1, with_metrics=True) as cluster:
        (tmp_path / "east.kubeconfig").symlink_to(cluster.kubeconfig)
        yield RealBed(cluster)


def ask(log: MemoryLog, *metrics: SampledMetric, workload: str = "default/web") -> None:
    body = SamplingRequested(metrics=metrics).to_json() if metrics else None
    log.append(NewRecord(SAMPLING.name, workload.encode(), body))


def answers(log: MemoryLog, metric: SampledMetric) -> list[MetricSampled]:
    found = []
    for record in log.records(METRICS.name):
        if record.key == b"east/asked":
            assert record.value is not None
            sample = AskedMetricsSampled.model_validate_json(record.value)
            found += [answer for answer in sample.metrics if answer.metric == metric]
    return found


def last_asked(log: MemoryLog) -> list[SampledMetric]:
    """What the last answer is about."""
    last = [record.value for record in log.records(METRICS.name) if record.key == b"east/asked"][-1]
    assert last is not None
    return [answer.metric for answer in AskedMetricsSampled.model_validate_json(last).metrics]


async def until(log: MemoryLog, metric: SampledMetric, is_so: Callable[[MetricSampled], bool]) -> MetricSampled:
    """The first answer from now on of which that is true."""
    known = len(answers(log, metric))
    async with asyncio.timeout(60):
        while True:
            for answer in answers(log, metric)[known:]:
                if is_so(answer):
                    return answer
            await asyncio.sleep(0.05)


def value(kind: str, name: str, amount: str, **more: object) -> MetricValue:
    return MetricValue.model_validate({"type": kind, "metric": name, "value": amount, **more})


async def run_pods(directory: Path, count: int) -> None:
    api = await KubernetesApi.from_kubeconfig(directory / "east.kubeconfig")
    for number in range(count):
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"web-{number}", "labels": {"app": "web" if number else "other"}},
            "spec": {"containers": [{"name": "main", "image": "nginx"}]},
        }
        await api.create(Resource("", "v1", "pods"), "default", body)
    await api.close()


async def test_it_reads_what_is_asked_for_from_the_metrics_apis(log: MemoryLog, bed: Bed, tmp_path: Path) -> None:
    await run_pods(tmp_path, 3)
    await bed.measure(
        value("External", "lag", "1500m", labels={"topic": "orders", "partition": "0"}),
        value("External", "lag", "3", labels={"topic": "orders", "partition": "1"}, age=40),
        value("External", "lag", "99", labels={"topic": "other"}),
        value("External", "lag", "99", labels={"topic": "orders"}, namespace="elsewhere"),
        value("Pods", "hits", "7"),
        value("Object", "rate", "12", object="services/web"),
        value("Object", "depth", "4k", object="deployments.apps/web"),
        value("Object", "quota", "0.5", object="namespaces/default"),
    )
    async with watching(log, tmp_path):
        ask(log, LAG, HITS, RATE, CLAIM, SPACE)
        lag = await until(log, LAG, lambda answer: bool(answer.values))
        assert sorted(value.milli for value in lag.values) == [1500, 3000]
        old, new = sorted((value.at for value in lag.values), key=lambda at: at or 0)
        assert old is not None
        assert new is not None
        assert 30_000 <= new - old <= 50_000
        assert lag.values[0].labels["topic"] == "orders"
        hits = await until(log, HITS, lambda answer: len(answer.values) == 2)
        assert {(value.pod, value.milli) for value in hits.values} == {("web-1", 7000), ("web-2", 7000)}
        for metric, milli in ((RATE, 12_000), (CLAIM, 4_000_000), (SPACE, 500)):
            answer = await until(log, metric, lambda answer: bool(answer.values))
            assert [value.milli for value in answer.values] == [milli]
        # Who asks no more is not told any more.
        ask(log, LAG)
        async with asyncio.timeout(60):
            while last_asked(log) != [LAG]:  # noqa: ASYNC110 - what is awaited is in the log
                await asyncio.sleep(0.05)
        count = len(answers(log, HITS))
        await until(log, LAG, lambda _: True)
        assert len(answers(log, HITS)) == count


async def test_what_cannot_be_measured_is_said_with_its_reason(log: MemoryLog, bed: Bed, tmp_path: Path) -> None:
    ask(log, LAG, RATE)
    async with watching(log, tmp_path):
        absent = await until(log, LAG, lambda answer: answer.absent)
        assert absent.error == "NotFound: external.metrics.k8s.io is not served"
        await bed.measure(value("External", "other", "1"))
        # Whoever installs an adapter later is found, though asked more rarely.
        nothing = await until(log, LAG, lambda answer: "not served" not in answer.error)
        assert (nothing.absent, nothing.error) == (True, "no values")
        unknown = await until(log, RATE, lambda answer: "not served" not in answer.error)
        assert unknown.absent
        assert "could not find the metric rate" in unknown.error
        await bed.fail()
        failed = await until(log, LAG, lambda answer: not answer.absent)
        assert "503" in failed.error or "ServiceUnavailable" in failed.error
        assert not failed.values
        await bed.heal()
        await bed.measure(value("External", "lag", "many", labels={"topic": "orders"}))
        broken = await until(log, LAG, lambda answer: "does not parse" in answer.error)
        assert not broken.absent


@asynccontextmanager
async def prometheus(directory: Path, results: dict[str, object]) -> AsyncIterator[list[str]]:
    """Answers each query with what is in `results`; the queries that it was asked, and the file that names them."""
    asked: list[str] = []

    async def query(request: web.Request) -> web.Response:
        text = str((await request.post())["query"])
        asked.append(text)
        if request.headers.get("Authorization") != "Bearer secret":
            return web.Response(status=401, text="who are you")
        result = results[text.partition("(")[0]]
        if isinstance(result, str):
            return web.json_response({"status": "error", "errorType": "bad_data", "error": result}, status=400)
        return web.json_response({"status": "success", "data": result})

    application = web.Application()
    application.router.add_post("/api/v1/query", query)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    (directory / "token").write_text("secret\n")
    queries = [
        {"type": "External", "metric": "lag", "query": "sum(lag{$matchers})"},
        {"type": "Pods", "metric": "hits", "query": "avg(hits{$matchers})"},
        {"type": "Object", "metric": "rate", "query": 'max(rate{service="$name",$matchers})'},
    ]
    server = {"url": f"http://{host}:{port}", "bearerTokenFile": str(directory / "token"), "queries": queries}
    await asyncio.to_thread((directory / "queries.json").write_bytes, orjson.dumps({"servers": [server]}))
    try:
        yield asked
    finally:
        await runner.cleanup()


def vector(*series: tuple[dict[str, str], str]) -> dict[str, object]:
    return {"resultType": "vector", "result": [{"metric": labels, "value": [1.5, text]} for labels, text in series]}


async def test_queries_of_the_operator_come_before_the_metrics_apis(
    log: MemoryLog, simulator: Simulator, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    simulator.measure("east", (value("External", "lag", "99", labels={"topic": "orders"}),))
    results: dict[str, object] = {
        "sum": vector(({"partition": "0"}, "1.5e3"), ({"partition": "1"}, "0.25")),
        "avg": vector(({"pod": "web-1"}, "7"), ({"pod": "web-2"}, "NaN")),
        "max": {"resultType": "scalar", "result": [2.0, "12"]},
    }
    async with prometheus(elsewhere, results) as asked:
        ask(log, LAG, HITS, RATE)
        async with watching(log, tmp_path, watcher_queries=elsewhere / "queries.json"):
            lag = await until(log, LAG, lambda answer: bool(answer.values))
            told = [(value.milli, value.at, value.labels) for value in lag.values]
            assert told == [(1_500_000, 1500, {"partition": "0"}), (250, 1500, {"partition": "1"})]
            # A pod that has no number has no value, and is judged as one that lacks it.
            hits = await until(log, HITS, lambda answer: bool(answer.values))
            assert [(value.pod, value.milli) for value in hits.values] == [("web-1", 7000)]
            rate = await until(log, RATE, lambda answer: bool(answer.values))
            assert [(value.milli, value.at) for value in rate.values] == [(12_000, 2000)]
            assert {'sum(lag{topic="orders"})', 'avg(hits{namespace="default"})'} <= set(asked)
            assert 'max(rate{service="web",namespace="default"})' in asked
            # A sum without what is no number would be another number.
            results["sum"] = vector(({"partition": "0"}, "1"), ({"partition": "1"}, "NaN"))
            nan = await until(log, LAG, lambda answer: not answer.values)
            assert (nan.absent, nan.error) == (False, "Prometheus says NaN or infinity")
            results["sum"] = "1:2: parse error"
            wrong = await until(log, LAG, lambda answer: "parse error" in answer.error)
            assert wrong.error == "Prometheus: 400 1:2: parse error"
            results["sum"] = vector()
            nothing = await until(log, LAG, lambda answer: answer.absent)
            assert nothing.error == "no values"
            results["max"] = vector(({"a": "1"}, "1"), ({"a": "2"}, "1"))
            several = await until(log, RATE, lambda answer: not answer.values)
            assert several.error == "the query gives 2 values, and of an object there is one"
