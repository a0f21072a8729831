"""What the autoscaler says of a workload's replicas, now or then: for `flotilla why`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from services.cli.past import Until, is_until
from shared.events.registry import decode
from shared.events.topics import REQUESTS_DECIDED, SCALING_DECIDED, MessageType
from shared.events.v1.decisions import Requested, WorkloadPlaced
from shared.events.v1.forecasts import ForecastMade
from shared.events.v1.requests_decisions import RequestsDecided
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.scaling_decisions import ScalingBasis, ScalingDecided
from shared.model.base import Value
from shared.model.quantities import format_amount
from shared.ports.event_log import Record

V = TypeVar("V", bound=Value)


def scaled_until(records: Iterable[Record], placed: WorkloadPlaced, until: Until) -> ScalingDecided | None:
    """The last decision of the autoscaler on a workload, as it was placed, that is not later."""
    if placed.workload.scaling is None or placed.deleting:
        return None
    found = None
    for offset, decided in _decisions(records, SCALING_DECIDED, ScalingDecided, placed):
        if decided.scaled.uid == placed.uid and is_until(offset, decided.scaled.evaluated_at, until):
            found = decided
    return found


def requested_until(records: Iterable[Record], placed: WorkloadPlaced, until: Until) -> RequestsDecided | None:
    """The last decision on what its containers request that is not later."""
    if placed.workload.vertical is None or placed.deleting:
        return None
    found = None
    for offset, decided in _decisions(records, REQUESTS_DECIDED, RequestsDecided, placed):
        if decided.uid == placed.uid and is_until(offset, decided.basis.at, until):
            found = decided
    return found


def _decisions(
    records: Iterable[Record], message: MessageType, model: type[V], placed: WorkloadPlaced
) -> Iterator[tuple[int, V]]:
    """Those of one type on a workload, whichever of its name, with their offsets."""
    key = str(placed.workload.key).encode()
    for record in records:
        if record.key == key and record.header("ce_type") == message.ce_type.encode():
            yield record.offset, decode(model, record.value)


def as_lines(scaled: WorkloadScaled, basis: ScalingBasis | None) -> Iterator[str]:
    """How many replicas the autoscaler asks for, by what, and what keeps it from doing more."""
    time = _time(scaled.evaluated_at)
    for item in scaled.pod_sets:
        asked = "nobody can say how many" if item.replicas is None else f"{item.replicas} replicas"
        why = f": {item.reason}" if item.reason else ""
        yield f"autoscaler, at {time}: {asked} of pod set {item.name}, before {item.before}{why}"
        for metric in item.metrics:
            measured = f"proposes {metric.proposal}" if metric.proposal is not None else "not measured"
            yield f"  {metric.type} {metric.name}: {measured}, by {metric.samples} values"
        if item.forecast is not None:
            yield f"  forecast: {_forecast(item.forecast)}"
        for condition in item.conditions:
            yield f"  {condition.type} {condition.status}: {condition.reason}: {condition.message}"
    for each in scaled.requests:
        since = f", applied at {_time(each.at)}: {each.reason}" if each.at is not None else ""
        yield f"requests of pod set {each.name}: {each.state}{since}" + (f"; {each.message}" if each.message else "")
    if basis is not None:
        yield f"  decided from {basis.there} pods and {basis.asked} replicas asked for; -o json has all that it went by"


def requested_lines(requested: Requested) -> Iterator[str]:
    """What containers request in place of what the workload states."""
    for item in requested.containers:
        amounts = ", ".join(
            f"{name} {format_amount(name, amount)}"
            + (f" (limit {format_amount(name, item.limits[name])})" if name in item.limits else "")
            for name, amount in item.requests.items()
        )
        yield f"  container {item.name} requests {amounts}, as recommended by {requested.position}"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _forecast(made: ForecastMade) -> str:
    if made.replicas is None:
        return f"says nothing: {made.reason}"
    return f"expects {made.replicas}, by {made.periods} whole periods, at {made.level} % of their level"
