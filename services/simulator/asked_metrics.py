"""`custom.metrics.k8s.io` and `external.metrics.k8s.io`: whatever values the simulator's own API was told. Pure.

Served once a cluster was told any. The test bed serves them behind a real API server.
Source of paths and types: k8s.io/metrics pkg/apis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.simulator.core.errors import ApiError, no_such_path
from services.simulator.core.meta import Json, timestamp
from services.simulator.core.selectors import parse_labels
from services.simulator.core.state import PODS

CUSTOM = "custom.metrics.k8s.io"
EXTERNAL = "external.metrics.k8s.io"
_VERSIONS = {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}


class Item(Protocol):
    @property
    def object(self) -> Json: ...


class Observed(Protocol):
    """The cluster that is asked: its time in seconds since the epoch, and its pods."""

    @property
    def now(self) -> float: ...

    def items(self, storage: str, namespace: str = "") -> Iterable[Item]: ...


class MetricValue(BaseModel):
    """A value of every running pod of a namespace (of those in `pods`, if any), of an object, or of a series."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    type: Literal["Pods", "Object", "External"]
    metric: str
    value: str
    namespace: str = "default"
    object: str = Field("", description="of type Object: <plural>[.<group>]/<name>, as in the path")
    pods: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    age: float = Field(0.0, ge=0, description="seconds that its timestamp is behind")


class MetricValues(BaseModel):
    model_config = ConfigDict(extra="forbid")

    values: tuple[MetricValue, ...]


def versions() -> tuple[tuple[str, str], ...]:
    """All that is served: group and version."""
    return tuple((group, version) for group, served in _VERSIONS.items() for version in served)


def serves(parts: Sequence[str]) -> bool:
    return len(parts) > 1 and parts[0] == "apis" and parts[1] in _VERSIONS


def answer(state: Observed, values: Sequence[MetricValue], parts: Sequence[str], query: Mapping[str, str]) -> Json:
    """The document of a path below /apis. Raises ApiError."""
    group = parts[1]
    if len(parts) == 2:  # noqa: PLR2004
        listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in _VERSIONS[group]]
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": group,
            "versions": listed,
            "preferredVersion": listed[0],
        }
    version, rest = parts[2], parts[3:]
    if version not in _VERSIONS[group]:
        raise no_such_path()
    if not rest:
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}", "resources": []}
    match (group, rest):
        case ("external.metrics.k8s.io", ["namespaces", namespace, metric]):
            items = _external(state, values, namespace, metric, query)
            return _list("ExternalMetricValueList", group, version, items)
        case ("custom.metrics.k8s.io", ["namespaces", namespace, "pods", "*", metric]):
            items = _pods(state, values, namespace, metric, query)
        case ("custom.metrics.k8s.io", ["namespaces", namespace, resource, name, metric]):
            items = _object(state, values, namespace, f"{resource}/{name}", metric)
        case ("custom.metrics.k8s.io", ["namespaces", name, "metrics", metric]):
            items = _object(state, values, name, f"namespaces/{name}", metric)
        case _:
            raise no_such_path()
    if not items:
        raise ApiError(404, "NotFound", f"the server could not find the metric {rest[-1]}", {})
    return _list("MetricValueList", group, version, [_in(version, item) for item in items])


def _list(kind: str, group: str, version: str, items: list[Json]) -> Json:
    return {"kind": kind, "apiVersion": f"{group}/{version}", "metadata": {}, "items": items}


def _external(
    state: Observed, values: Sequence[MetricValue], namespace: str, metric: str, query: Mapping[str, str]
) -> list[Json]:
    wanted = parse_labels(query.get("labelSelector", ""))
    return [
        {
            "metricName": metric,
            "metricLabels": value.labels or None,
            "timestamp": timestamp(state.now - value.age),
            "value": value.value,
        }
        for value in values
        if (value.type, value.namespace, value.metric) == ("External", namespace, metric) and wanted(value.labels)
    ]


def _pods(
    state: Observed, values: Sequence[MetricValue], namespace: str, metric: str, query: Mapping[str, str]
) -> list[Json]:
    wanted = parse_labels(query.get("labelSelector", ""))
    found = []
    for item in state.items(PODS, namespace):
        meta = item.object["metadata"]
        if item.object["status"].get("phase") != "Running" or not wanted(meta.get("labels") or {}):
            continue
        for value in values:
            about = (value.type, value.namespace, value.metric) == ("Pods", namespace, metric)
            if about and (not value.pods or meta["name"] in value.pods):
                found.append(_value(state, value, {"kind": "Pod", "namespace": namespace, "name": meta["name"]}))
    return found


def _object(state: Observed, values: Sequence[MetricValue], namespace: str, about: str, metric: str) -> list[Json]:
    name = about.rpartition("/")[2]
    return [
        _value(state, value, {"kind": "", "namespace": namespace, "name": name})
        for value in values
        if (value.type, value.namespace, value.object, value.metric) == ("Object", namespace, about, metric)
    ]


def _value(state: Observed, value: MetricValue, described: Json) -> Json:
    return {
        "describedObject": described,
        "metric": {"name": value.metric, "selector": None},
        "timestamp": timestamp(state.now - value.age),
        "value": value.value,
    }


def _in(version: str, item: Json) -> Json:
    if version == "v1beta2":
        return item
    return {**{key: value for key, value in item.items() if key != "metric"}, "metricName": item["metric"]["name"]}
