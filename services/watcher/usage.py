"""Measured use of nodes and pods: polls `metrics.k8s.io`, publishes samples, tells the machine the sum.

A cluster without the metrics API is no error: it is asked again, rarely, since a metrics server may be installed later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from services.watcher.decision.stimuli import UsageMeasured
from services.watcher.outlet import Outlet
from shared.events.envelope import EnvelopeError, parse_time
from shared.events.topics import NODE_METRICS_SAMPLED, POD_METRICS_SAMPLED
from shared.events.v1.metrics import ContainerUsage, NodeMetricsSampled, NodeUsage, PodMetricsSampled, PodUsage
from shared.model.identities import Resource
from shared.model.quantities import QuantityError, quantity_milli, quantity_units
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ClusterApi, Object

log = get_logger(__name__)

T = TypeVar("T")

NODE_METRICS: Final = Resource("metrics.k8s.io", "v1beta1", "nodes")
POD_METRICS: Final = Resource("metrics.k8s.io", "v1beta1", "pods")
# A pod's sample takes about a hundred bytes, and as much for each container: a record stays below the topic's limit.
SAMPLES_IN_A_RECORD: Final = 2000
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_DURATION: Final = re.compile(r"(\d+(\.\d+)?(h|ms|m|s))+")
_UNITS: Final = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0}
# How much more rarely a cluster without metrics is asked.
ABSENT_FACTOR: Final = 4.0


class UsagePoller:
    def __init__(self, cluster: str, api: ClusterApi, outlet: Outlet, clock: Clock, interval_s: float) -> None:
        self._cluster = cluster
        self._api = api
        self._outlet = outlet
        self._clock = clock
        self._interval_s = interval_s
        self._absent = False

    async def run(self) -> None:
        """Polls until cancelled. Raises LogError."""
        while True:
            try:
                nodes, pods = await self._api.list(NODE_METRICS), await self._api.list(POD_METRICS)
            except ApiError as error:
                await self._be_absent(error)
                await self._clock.sleep(self._interval_s * ABSENT_FACTOR)
                continue
            self._absent = False
            await self._publish(node_usages(nodes), pod_usages(pods))
            await self._clock.sleep(self._interval_s)

    async def _be_absent(self, error: ApiError) -> None:
        if not self._absent:
            log.info("no metrics", cluster=self._cluster, code=error.code, reason=error.reason)
        self._absent = True
        # An old measurement is no measurement.
        await self._outlet.feed(UsageMeasured)

    async def _publish(self, nodes: Sequence[NodeUsage], pods: Sequence[PodUsage]) -> None:
        now = self._clock.now_ms()
        sample = NodeMetricsSampled(cluster=self._cluster, sampled_at=now, nodes=tuple(nodes))
        await self._outlet.sample(NODE_METRICS_SAMPLED, f"{self._cluster}/nodes", sample)
        parts = list(batches(pods, lambda pod: 1 + len(pod.containers))) or [()]
        for part, some in enumerate(parts):
            body = PodMetricsSampled(cluster=self._cluster, sampled_at=now, part=part, parts=len(parts), pods=some)
            await self._outlet.sample(POD_METRICS_SAMPLED, f"{self._cluster}/pods", body)
        cpu, memory = sum(node.cpu for node in nodes), sum(node.memory for node in nodes)
        await self._outlet.feed(partial(UsageMeasured, cpu=cpu, memory=memory))


def node_usages(items: Iterable[Object]) -> list[NodeUsage]:
    """What `NodeMetrics` objects say; an item that does not parse is left out."""
    found = []
    for item in items:
        try:
            cpu, memory = _amounts(item["usage"])
            found.append(NodeUsage(name=item["metadata"]["name"], cpu=cpu, memory=memory))
        except (KeyError, TypeError, QuantityError) as error:
            log.warning("node metrics left out", error=repr(error))
    return found


def pod_usages(items: Iterable[Object]) -> list[PodUsage]:
    """What `PodMetrics` objects say, summed over containers; an item that does not parse is left out."""
    found = []
    for item in items:
        try:
            containers = tuple(_container(container) for container in item["containers"])
            found.append(
                PodUsage(
                    namespace=item["metadata"]["namespace"],
                    name=item["metadata"]["name"],
                    cpu=sum(container.cpu for container in containers),
                    memory=sum(container.memory for container in containers),
                    sampled_at=moment(item.get("timestamp")),
                    window=_duration(item.get("window")),
                    containers=containers,
                )
            )
        except (KeyError, TypeError, QuantityError) as error:
            log.warning("pod metrics left out", error=repr(error))
    return found


def _amounts(usage: Mapping[str, Any]) -> tuple[int, int]:
    return quantity_milli(str(usage["cpu"])), quantity_units(str(usage["memory"]))


def _container(document: Mapping[str, Any]) -> ContainerUsage:
    cpu, memory = _amounts(document["usage"])
    return ContainerUsage(name=str(document.get("name", "")), cpu=cpu, memory=memory)


def moment(text: object) -> int | None:
    """`metav1.Time` in Unix milliseconds; None where it is none."""
    try:
        return parse_time(text) if isinstance(text, str) else None
    except EnvelopeError:
        return None


def _duration(text: object) -> int | None:
    """`metav1.Duration` as Go writes it (30s, 1m0s, 15.031s) in milliseconds; None where it is none."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        return None
    return round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def batches(items: Iterable[T], weight: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """As many together as make up one record by their weights, at least one."""
    batch: list[T] = []
    total = 0
    for item in items:
        own = weight(item)
        if batch and total + own > SAMPLES_IN_A_RECORD:
            yield tuple(batch)
            batch, total = [], 0
        batch.append(item)
        total += own
    if batch:
        yield tuple(batch)
