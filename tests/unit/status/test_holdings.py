"""What the service has read, held against the digests of the watchers: put right, or said to be wrong in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.status.shell import TOPICS
from shared.adapters.memory.event_log import MemoryLog, MemoryReader
from shared.adapters.memory.key_value import MemoryKeyValue
from shared.events.registry import decode
from shared.events.topics import DISCREPANCIES, OBJECTS
from shared.events.v1.discrepancies import DiscrepancyFound
from shared.events.v1.objects import SyncMarked
from shared.events.v1.read_model import CLUSTERS_TABLE, ClusterView
from shared.events.v1.status import Condition, Phase
from shared.model.digests import digest_of
from shared.model.identities import Resource, sync_marker_key
from shared.ports.event_log import NewRecord, Record
from tests.unit.status.records import heartbeat_record, object_record, pod, pod_record
from tests.unit.status.test_shell import NOW, has_phase, latest, run_records, running, until

PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")


class ForgetfulLog(MemoryLog):
    """The service's reader of its inputs never shows the records of some keys, as no log should."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[bytes] = set()

    async def reader(self, client_id: str) -> MemoryReader:
        return ForgetfulReader(self) if client_id == "status-inputs" else await super().reader(client_id)


class ForgetfulReader(MemoryReader):
    def __init__(self, log: ForgetfulLog) -> None:
        super().__init__(log)
        self._hidden = log.hidden

    async def read(self, *, max_records: int = 1000, timeout_s: float = 1.0) -> Sequence[Record]:
        records = await super().read(max_records=max_records, timeout_s=timeout_s)
        return [record for record in records if record.key not in self._hidden]


async def new_log() -> ForgetfulLog:
    log = ForgetfulLog()
    await log.ensure_topics(TOPICS)
    return log


def versioned(cluster: str, name: str, version: int, **arguments: Any) -> NewRecord:
    return pod_record(cluster, name, uid=f"uid-{name}", resourceVersion=str(version), **arguments)


def marker(states: dict[str, str], *, resource: Resource = PODS, cluster: str = "a", **changes: Any) -> NewRecord:
    """A marker behind all that a reader should hold: states by name."""
    marked = SyncMarked.model_validate(
        {
            "cluster": cluster,
            "resource": str(resource),
            "phase": "finished",
            "epoch": 7,
            "objects": len(states),
            "digest": digest_of(states).text,
            **changes,
        }
    )
    key = sync_marker_key(cluster, resource).encode()
    return NewRecord(OBJECTS.name, key, marked.to_json(), partition_key=cluster.encode())


def discrepancies(log: MemoryLog) -> list[DiscrepancyFound]:
    return [decode(DiscrepancyFound, record.value) for record in log.records(DISCREPANCIES.name)]


def condition(store: MemoryKeyValue, kind: str = "ObjectsConsistent", cluster: str = "a") -> Condition | None:
    value = store.tables[CLUSTERS_TABLE].get(cluster)
    view = ClusterView.model_validate_json(value) if value else None
    return next((item for item in view.conditions if item.type == kind), None) if view else None


def is_condition(store: MemoryKeyValue, status: str, reason: str) -> bool:
    found = condition(store)
    return found is not None and (found.status, found.reason) == (status, reason)


async def test_a_log_that_is_not_as_its_watcher_says_is_doubted_once() -> None:
    log, store = await new_log(), MemoryKeyValue()
    log.append(heartbeat_record("a", at_ms=NOW()))
    async with running(log, store) as service:
        await until(lambda: service.readiness().ready)
        log.append(versioned("a", "web-0", 5))
        log.append(object_record("a", "core/v1/pods", "nobody", pod("nobody", uid="x", resourceVersion="6")))
        log.append(marker({"shop/web-0": "uid-web-0/5"}))
        await until(lambda: is_condition(store, "False", "LogDiffers"))
        found = condition(store)
        assert found is not None
        assert found.message == "not as the watcher published it: v1/pods: 2 objects, not 1"
        (doubt,) = discrepancies(log)
        assert (doubt.cluster, doubt.resource, doubt.epoch) == ("a", "v1/pods", 7)
        assert (doubt.expected_objects, doubt.found_objects) == (1, 2)
        assert doubt.expected_digest == digest_of({"shop/web-0": "uid-web-0/5"}).text

        log.append(marker({"shop/web-0": "uid-web-0/5"}))
        log.append(versioned("a", "web-0", 9))
        log.append(object_record("a", "core/v1/pods", "nobody", None))
        log.append(marker({"shop/web-0": "uid-web-0/9"}))
        await until(lambda: is_condition(store, "Unknown", "NotAudited"))
        assert len(discrepancies(log)) == 1, "said again only after a while"


async def test_what_is_malformed_in_the_log_differs_from_every_state() -> None:
    log, store = await new_log(), MemoryKeyValue()
    log.append(heartbeat_record("a", at_ms=NOW()))
    async with running(log, store) as service:
        await until(lambda: service.readiness().ready)
        log.append(NewRecord(OBJECTS.name, b"a/core/v1/nodes/-/n1", b"garbage", partition_key=b"a"))
        log.append(marker({"-/n1": "u/1"}, resource=NODES))
        await until(lambda: len(discrepancies(log)) == 1)
        assert discrepancies(log)[0].resource == "v1/nodes"


async def test_a_record_that_was_never_read_is_found_and_made_up_for() -> None:
    log, store = await new_log(), MemoryKeyValue()
    log.hidden.add(b"a/core/v1/pods/shop/web-1")
    async with running(log, store) as service:
        await until(lambda: service.readiness().ready)
        for record in run_records():
            log.append(record)
        log.append(versioned("a", "web-0", 5))
        log.append(versioned("a", "web-1", 6))
        await until(lambda: has_phase(log, Phase.APPLIED))
        log.append(marker({"shop/web-0": "uid-web-0/5", "shop/web-1": "uid-web-1/6"}))
        await until(lambda: has_phase(log, Phase.RUNNING))
    assert not discrepancies(log), "the log is right"


async def test_a_tombstone_that_was_never_read_is_found_and_made_up_for() -> None:
    log, store = await new_log(), MemoryKeyValue()
    async with running(log, store) as service:
        await until(lambda: service.readiness().ready)
        for record in run_records():
            log.append(record)
        log.append(versioned("a", "web-0", 5))
        log.append(versioned("a", "web-1", 6))
        await until(lambda: has_phase(log, Phase.RUNNING))
        log.hidden.add(b"a/core/v1/pods/shop/web-1")
        log.append(object_record("a", "core/v1/pods", "web-1", None))
        log.append(marker({"shop/web-0": "uid-web-0/5"}))
        await until(lambda: has_phase(log, Phase.DEGRADED))
        status = latest(log)
        assert status is not None
        assert status.ready == 1
    assert not discrepancies(log)


async def test_only_markers_behind_the_first_reading_tell_anything() -> None:
    """Compaction may have removed what stood before an older one."""
    log, store = await new_log(), MemoryKeyValue()
    log.append(versioned("a", "web-0", 5))
    log.append(marker({"shop/web-0": "uid-web-0/5", "shop/compacted": "u/3"}))
    log.append(heartbeat_record("a", at_ms=NOW()))
    async with running(log, store) as service:
        await until(lambda: service.readiness().ready)
        await until(lambda: is_condition(store, "Unknown", "NotAudited"))
        log.append(marker({"shop/web-0": "uid-web-0/5"}))
        log.append(marker({"shop/web-0": "uid-web-0/5", "shop/lost": "u/3"}, cluster="b"))
        await until(lambda: len(discrepancies(log)) == 1)
    assert [item.cluster for item in discrepancies(log)] == ["b"]


async def test_markers_of_an_older_watcher_have_no_digest() -> None:
    log, store = await new_log(), MemoryKeyValue()
    async with running(log, store) as service:
        await until(lambda: service.readiness().ready)
        log.append(marker({"shop/web-0": "u/5"}, digest=""))
        log.append(marker({"shop/web-0": "u/5"}, cluster="b"))
        await until(lambda: len(discrepancies(log)) == 1)
    assert discrepancies(log)[0].cluster == "b"
