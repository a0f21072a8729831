"""Metrics that workloads are scaled by, from `custom.metrics.k8s.io` and `external.metrics.k8s.io` of one cluster.

The requests are those of kube-controller-manager's HorizontalPodAutoscaler (k8s.io/metrics pkg/client), so every
adapter that serves one serves the other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from services.watcher.usage import moment
from shared.events.v1.metrics import SampledValue
from shared.events.v1.sampling import SampledMetric
from shared.model.quantities import quantity_milli
from shared.ports.cluster_api import ApiError, ClusterApi, Object

CUSTOM: Final = "custom.metrics.k8s.io"
EXTERNAL: Final = "external.metrics.k8s.io"
DEADLINE_S: Final = 10.0
# After so many silent answers in a round nobody waits for another one.
_PATIENCE: Final = 3
_MOST: Final = 2**63 - 1
_NOT_FOUND: Final = 404
_VERSIONS: Final = {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}


class MetricApis:
    """One round of questions, `prepare` first; a new one for each round, so that an adapter that comes is found."""

    def __init__(self, api: ClusterApi, deadline_s: float = DEADLINE_S) -> None:
        self._api = api
        self._deadline_s = deadline_s
        self._served: dict[str, str | ApiError] = {}
        self._silent: Counter[str] = Counter()

    async def read(self, metric: SampledMetric) -> list[SampledValue]:
        """Raises ApiError: code 404 where the cluster has no such metric."""
        group = _group_of(metric)
        if self._silent[group] >= _PATIENCE:
            raise ApiError(0, "Timeout", f"{group} does not answer")
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._ask(group, metric)
        except TimeoutError as error:
            self._silent[group] += 1
            raise ApiError(0, "Timeout", f"{group}: no answer within {self._deadline_s:g} s") from error

    async def _ask(self, group: str, metric: SampledMetric) -> list[SampledValue]:
        version = self._served[group]
        if isinstance(version, ApiError):
            raise version
        root = f"/apis/{group}/{version}"
        name, selector = quote(metric.name, safe=""), metric.selector
        space = f"{root}/namespaces/{quote(metric.namespace, safe='')}"
        if metric.type == "External":
            answer = await self._api.read(f"{space}/{name}", _given(labelSelector=selector))
            return _values(answer, _external)
        if metric.type == "Pods":
            query = _given(labelSelector=metric.pods, metricLabelSelector=selector)
            return _values(await self._api.read(f"{space}/pods/*/{name}", query), _of_pod)
        about = await self._object(space, root, metric)
        return _values(await self._api.read(f"{about}/{name}", _given(metricLabelSelector=selector)), _plain)[:1]

    async def prepare(self, metrics: Iterable[SampledMetric]) -> None:
        """Learns what is served of the APIs that these metrics are asked of; what fails is said of each of them."""
        for group in sorted({_group_of(metric) for metric in metrics}):
            try:
                async with asyncio.timeout(self._deadline_s):
                    self._served[group] = await self._discover(group)
            except ApiError as error:
                self._served[group] = error
            except TimeoutError:
                self._served[group] = ApiError(0, "Timeout", f"{group}: no answer within {self._deadline_s:g} s")

    async def _discover(self, group: str) -> str:
        try:
            document = await self._api.read(f"/apis/{group}", {})
        except ApiError as error:
            if error.code == _NOT_FOUND:
                raise ApiError(error.code, error.reason, f"{group} is not served") from error
            raise
        served = {str(item.get("version")) for item in _items(document, "versions")}
        known = next((version for version in _VERSIONS[group] if version in served), None)
        if known is None:
            raise ApiError(_NOT_FOUND, "NotFound", f"{group} is served in none of {', '.join(_VERSIONS[group])}")
        return known

    async def _object(self, space: str, root: str, metric: SampledMetric) -> str:
        about = metric.object
        assert about is not None
        name = quote(about.name, safe="")
        if about.kind == "Namespace" and "/" not in about.api_version:
            return f"{root}/namespaces/{name}/metrics"
        info = await self._api.resource_info(about.api_version or "v1", about.kind)
        resource = info.resource
        return f"{space}/{resource.plural}{'.' if resource.group else ''}{resource.group}/{name}"


def _group_of(metric: SampledMetric) -> str:
    return EXTERNAL if metric.type == "External" else CUSTOM


def _given(**query: str) -> dict[str, str]:
    return {name: text for name, text in query.items() if text}


def _items(answer: Object, name: str) -> Sequence[Mapping[str, Any]]:
    found = answer.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ApiError(0, "Malformed", f"{name} is no list of objects")
    return found


def _values(answer: Object, make: Callable[[Mapping[str, Any]], SampledValue]) -> list[SampledValue]:
    """Raises ApiError where one does not parse: a sum without it would be another number."""
    try:
        return [make(item) for item in _items(answer, "items")]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ApiError(0, "Malformed", f"a value does not parse: {error!r}") from error


def _plain(item: Mapping[str, Any], **more: Any) -> SampledValue:
    return SampledValue(milli=milli_of(str(item["value"])), at=moment(item.get("timestamp")), **more)


def _of_pod(item: Mapping[str, Any]) -> SampledValue:
    return _plain(item, pod=item["describedObject"]["name"])


def _external(item: Mapping[str, Any]) -> SampledValue:
    labels = item.get("metricLabels") or {}
    return _plain(item, labels={str(key): str(value) for key, value in labels.items()})


def milli_of(text: str) -> int:
    """A quantity in thousandths, as Kubernetes reads it: no more than 64 bits hold. Raises QuantityError."""
    return max(-_MOST, min(_MOST, quantity_milli(text)))
