"""Folding the streams that leader and standby both follow: objects, clusters, metrics and what is to be scaled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.scheduler.decision.state import SchedulerState
from shared.events.registry import DecodeError, decode
from shared.events.topics import CLUSTERS, METRICS, OBJECTS, RESULTS, SCALING
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.metrics import NodeMetricsSampled
from shared.events.v1.objects import ClusterObserved, SyncMarked
from shared.events.v1.results import CommandReported
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.workloads import FieldError
from shared.model.identities import ObjectKey, heartbeat_cluster
from shared.ports.event_log import EventLog, Partition, Reader, Record

# Folded from the start on every start: compacted, so they hold what exists.
STATE_TOPICS = (OBJECTS.name, CLUSTERS.name, SCALING.name)
# Only what is measured from now on is of use.
SAMPLE_TOPICS = (METRICS.name,)


def fold_input(state: SchedulerState, record: Record, heard_at: int) -> None:
    """Folds one record of an input; `heard_at` is when it came.

    Raises:
        DecodeError: the key or the value is not what the topic's contract says.
    """
    key = record_key(record)
    if record.topic == OBJECTS.name:
        _fold_object(state, key, record.value, heard_at)
    elif record.topic == CLUSTERS.name:
        declared = None if record.value is None else decode(ClusterDeclared, record.value)
        state.declare_cluster(key, declared)
    elif record.topic == SCALING.name:
        said = None if record.value is None else decode(WorkloadScaled, record.value)
        state.observe_scaling(key, said, str(record.position))
    elif record.topic == RESULTS.name:
        state.observe_result(decode(CommandReported, record.value), heard_at)
    elif key.endswith("/nodes"):
        state.observe_usage(decode(NodeMetricsSampled, record.value))


def _fold_object(state: SchedulerState, key: str, value: bytes | None, heard_at: int) -> None:
    cluster, _, rest = key.partition("/")
    if not rest.startswith("-/"):
        try:
            parsed = ObjectKey.parse(key)
        except ValueError as error:
            raise _key_error(str(error)) from error
        state.observe_object(parsed, value)
    elif heartbeat_cluster(key.encode()) is not None:
        if value is None:
            state.forget_cluster(cluster)
        else:
            state.observe_cluster(decode(ClusterObserved, value), heard_at)
    elif value is None:
        return
    elif rest.startswith("-/sync/"):
        state.observe_sync(decode(SyncMarked, value))
    else:
        raise _key_error(f"{cluster}: neither an object, a heartbeat nor a sync marker: {key[:200]!r}")


def record_key(record: Record) -> str:
    try:
        return (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise _key_error("the key is not UTF-8") from error


def _key_error(message: str) -> DecodeError:
    return DecodeError((FieldError(field="key", reason="Invalid", message=message),))


def cluster_of(record: Record) -> str | None:
    """The cluster that a heartbeat or a declaration tells of; None for any other record."""
    if record.key is None or record.value is None:
        return None
    if record.topic == CLUSTERS.name:
        return record.key.decode(errors="replace")
    return heartbeat_cluster(record.key) if record.topic == OBJECTS.name else None


async def partitions_of(log: EventLog, topics: Sequence[str]) -> list[Partition]:
    """All partitions of some topics."""
    return [partition for topic in topics for partition in await log.partitions(topic)]


async def read_up(reader: Reader, read: Callable[[], Awaitable[object]]) -> None:
    """Calls `read` until all was read that the log had at the beginning: what comes meanwhile may never end."""
    ends = await reader.end_offsets(reader.positions())
    while any(position < ends[partition] for partition, position in reader.positions().items()):
        await read()


async def behind(reader: Reader) -> int:
    """How many offsets a reader is behind the end of what it reads."""
    positions = reader.positions()
    ends = await reader.end_offsets(positions)
    return sum(max(0, ends[partition] - position) for partition, position in positions.items())
