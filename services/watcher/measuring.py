"""Asks a cluster for what workloads are scaled by beside cpu and memory (`fleet.sampling`), and publishes the answers.

Where a query of the operator is for a metric, it is what Prometheus says; else what the metrics APIs of the cluster
say. A metric that a cluster does not have is asked for again more rarely: most metrics are of few clusters. What
cannot be measured is published with its reason, so that it is seen on the workload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from services.watcher import metrics
from services.watcher.followed import Followed
from services.watcher.metric_apis import MetricApis
from services.watcher.outlet import Outlet
from services.watcher.prometheus import PrometheusServer, connected
from services.watcher.queries import QueryError, QueryServer
from services.watcher.usage import ABSENT_FACTOR, SAMPLES_IN_A_RECORD, batches
from shared.events.topics import ASKED_METRICS_SAMPLED, SAMPLING
from shared.events.v1.metrics import AskedMetricsSampled, MetricSampled, SampledValue
from shared.events.v1.sampling import SampledMetric, SamplingRequested
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ClusterApi
from shared.ports.event_log import EventLog

log = get_logger(__name__)

MOST_METRICS: Final = 2000
MOST_SERIES: Final = 1000
_AT_ONCE: Final = 8
_RETRY_S: Final = 10.0
_ERROR_LENGTH: Final = 300
_NOT_FOUND: Final = 404


class Sampling(Followed[SamplingRequested]):
    """What all workloads together ask for; nothing until the topic is there."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log, SAMPLING, SamplingRequested, "sampling", _RETRY_S)

    def metrics(self) -> list[SampledMetric]:
        """Each once, in an order of their own."""
        found = {metric for asked in self.known.values() for metric in asked.metrics}
        return sorted(found, key=lambda metric: metric.to_json())


class MetricsPoller:
    def __init__(
        self,
        cluster: str,
        api: ClusterApi,
        outlet: Outlet,
        clock: Clock,
        interval_s: float,
        sampling: Sampling,
        servers: Sequence[QueryServer] = (),
    ) -> None:
        self._cluster = cluster
        self._api = api
        self._outlet = outlet
        self._clock = clock
        self._interval_s = interval_s
        self._sampling = sampling
        self._servers = servers
        self._due: dict[SampledMetric, float] = {}

    async def run(self) -> None:
        """Polls until cancelled. Raises LogError."""
        async with connected(self._servers) as servers:
            while True:
                version = self._sampling.version
                due = self._chosen()
                if due:
                    await self._publish(await self._ask(due, servers))
                with suppress(TimeoutError):
                    # What is new is asked for at once.
                    async with asyncio.timeout(self._rest_s()):
                        await self._sampling.newer(version)

    def _chosen(self) -> list[SampledMetric]:
        wanted = self._sampling.metrics()
        if len(wanted) > MOST_METRICS:
            log.warning("metrics left out", cluster=self._cluster, asked=len(wanted), limit=MOST_METRICS)
            wanted = wanted[:MOST_METRICS]
        now = self._clock.monotonic()
        self._due = {metric: self._due.get(metric, now) for metric in wanted}
        return [metric for metric, at in self._due.items() if at <= now]

    def _rest_s(self) -> float:
        now = self._clock.monotonic()
        return max(0.0, min(self._due.values(), default=now + self._interval_s) - now)

    async def _ask(self, due: Sequence[SampledMetric], servers: Sequence[PrometheusServer]) -> list[MetricSampled]:
        apis, slots, began = MetricApis(self._api), asyncio.Semaphore(_AT_ONCE), self._clock.monotonic()
        queried = {
            metric: (server, query)
            for server in reversed(servers)
            for metric in due
            if (query := server.query_of(metric)) is not None
        }
        await apis.prepare(metric for metric in due if metric not in queried)

        async def ask(metric: SampledMetric) -> MetricSampled:
            async with slots:
                if metric not in queried:
                    return await _answer(metric, lambda: apis.read(metric))
                server, query = queried[metric]
                return await _answer(metric, lambda: server.read(query, metric))

        answers = await asyncio.gather(*(ask(metric) for metric in due))
        for answer in answers:
            metrics.ASKED.labels(self._cluster, _result(answer)).inc()
            self._due[answer.metric] = began + self._interval_s * (ABSENT_FACTOR if answer.absent else 1.0)
        return answers

    async def _publish(self, answers: Iterable[MetricSampled]) -> None:
        now = self._clock.now_ms()
        for some in _records(answers):
            body = AskedMetricsSampled(cluster=self._cluster, sampled_at=now, metrics=some)
            await self._outlet.sample(ASKED_METRICS_SAMPLED, f"{self._cluster}/asked", body)


async def _answer(metric: SampledMetric, read: Callable[[], Awaitable[list[SampledValue]]]) -> MetricSampled:
    try:
        values = await read()
    except ApiError as error:
        reason = f"{error.reason}: {error.message}"[:_ERROR_LENGTH]
        return MetricSampled(metric=metric, absent=error.code == _NOT_FOUND, error=reason)
    except QueryError as error:
        return MetricSampled(metric=metric, error=str(error)[:_ERROR_LENGTH])
    if not values:
        return MetricSampled(metric=metric, absent=True, error="no values")
    if metric.type != "Pods" and len(values) > MOST_SERIES:
        return MetricSampled(metric=metric, error=f"{len(values)} series, more than {MOST_SERIES}: use a selector")
    return MetricSampled(metric=metric, values=tuple(values))


def _result(answer: MetricSampled) -> str:
    return "measured" if answer.values else "absent" if answer.absent else "failed"


def _records(answers: Iterable[MetricSampled]) -> Iterator[tuple[MetricSampled, ...]]:
    """As many answers together as are a record; of many pods in several parts."""
    return batches((part for answer in answers for part in _parts(answer)), lambda part: 1 + len(part.values))


def _parts(answer: MetricSampled) -> Iterator[MetricSampled]:
    if len(answer.values) <= SAMPLES_IN_A_RECORD:
        yield answer
        return
    for start in range(0, len(answer.values), SAMPLES_IN_A_RECORD):
        yield answer.model_copy(update={"values": answer.values[start : start + SAMPLES_IN_A_RECORD]})
