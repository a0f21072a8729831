"""Writes down what happens while it happens: appends to the log, writes to the clusters, lives, faults.

The history is kept in memory for the checks, and written as lines of JSON for whoever looks later. Appends are read
from the topics and writes from the API servers' watches, each from where the last connection broke, so that a fault
leaves no gap; where one cannot be avoided (410) the list tells what changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TextIO

import aiohttp

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS, METRICS, OBJECTS, REQUESTS
from shared.model.identities import APPLIED_BY, APPLIED_BY_LABEL, heartbeat_cluster
from shared.ports.event_log import START, LogError, Partition, Reader, Record
from tests.simulation.history import Appended, History, Lived, Written
from tests.testbed import RealCluster
from tests.testbed.api import ApiError

Json = dict[str, Any]
_RETRY_S: Final = 0.5
# Metrics decide nothing that is checked. Of objects the clusters' heartbeats are kept: the others are recorded from the
# clusters themselves.
_LEFT_OUT: Final = frozenset({METRICS.name})
# What is told of an API server or etcd that answers again.
SERVES: Final = "serves"
POISON_HEADER: Final = "chaos_poison"
WATCHED: Final[Mapping[str, str]] = {
    "pods": "/api/v1/pods",
    "deployments": "/apis/apps/v1/deployments",
    "nodes": "/api/v1/nodes",
}
_METADATA: Final = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "labels", "annotations"),
    *("deletionTimestamp", "deletionGracePeriodSeconds"),
)
_CONDITIONS: Final = frozenset({"Ready", "PodScheduled"})
_GONE: Final = 410
_WATCH_S: Final = 60


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def is_poison(record: Record) -> bool:
    """Whether the record is one of our own poison, which no check may take for what a service said.

    Poisoned requests stay: to users' nonsense there must be an answer.
    """
    return record.header(POISON_HEADER) is not None and record.topic != REQUESTS.name


class Journalist:
    """The history of one run."""

    def __init__(self, file: TextIO) -> None:
        self.history = History()
        self._file = file
        self.positions: dict[Partition, int] = {}

    def note(self, kind: str, **facts: Any) -> None:
        self._file.write(json.dumps({"kind": kind, "at_ms": now_ms(), **facts}, default=str) + "\n")

    def lived(self, process: str, event: str, detail: str = "") -> None:
        self.history.lives.append(Lived(now_ms(), process, event, detail))
        self.note("lived", process=process, event=event, detail=detail)

    def appended(self, record: Record) -> None:
        if record.topic == OBJECTS.name and heartbeat_cluster(record.key or b"") is None:
            return
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        headers = [[name, _text(value[:200])] for name, value in record.headers]
        self.note("appended", **place, key=_text(record.key), value=_text(record.value), headers=headers)
        if is_poison(record):
            return
        # A heartbeat is heard when it can be read: it may have waited in its watcher's publisher for a minute.
        at_ms = now_ms() if record.topic == OBJECTS.name else record.timestamp_ms
        self.history.appends.append(
            Appended(
                at_ms=at_ms,
                author=(record.header("ce_source") or b"").decode(errors="replace"),
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                key=record.key,
                value=record.value,
                headers=tuple(record.headers),
            )
        )

    def written(
        self, cluster: str, verb: Literal["ADDED", "MODIFIED", "DELETED"], resource: str, document: Json
    ) -> None:
        kept = _short(document)
        self.history.writes.append(Written(now_ms(), _author(kept), cluster, verb, resource, kept))
        self.note("written", cluster=cluster, verb=verb, resource=resource, object=kept)

    # -- topics ------------------------------------------------------------------------------------------------------

    async def follow_topics(self, options: KafkaOptions, clusters: Iterator[str] | list[str]) -> None:
        """Reads every topic from its start until cancelled."""
        topics = [topic.name for topic in ALL_TOPICS if topic.name not in _LEFT_OUT]
        topics += [f"fleet.commands.{cluster}" for cluster in clusters]
        while True:
            with contextlib.suppress(LogError):
                await self._follow(options, topics)
            await asyncio.sleep(_RETRY_S)

    async def _follow(self, options: KafkaOptions, topics: list[str]) -> None:
        log = await KafkaLog.connect(options, "chaos-journalist")
        try:
            reader = await log.reader("chaos-journalist")
            try:
                for partition in [p for topic in topics for p in await log.partitions(topic)]:
                    self.positions.setdefault(partition, START)
                await reader.assign(self.positions)
                await self._read(reader)
            finally:
                await reader.close()
        finally:
            await log.close()

    async def _read(self, reader: Reader) -> None:
        while True:
            for record in await reader.read(timeout_s=0.5):
                self.appended(record)
                self.positions[Partition(record.topic, record.partition)] = record.offset + 1

    # -- clusters ----------------------------------------------------------------------------------------------------

    async def follow_cluster(self, cluster: RealCluster, resource: str) -> None:
        """Lists and watches one resource of one cluster until cancelled."""
        known: dict[str, Json] = {}
        version = ""
        while True:
            with contextlib.suppress(ApiError, aiohttp.ClientError, OSError, TimeoutError, ValueError):
                if not version:
                    version = await self._list(cluster, resource, known)
                async for event in _watch(cluster, WATCHED[resource], version):
                    if event["type"] == "ERROR":
                        version = ""
                        break
                    document = event["object"]
                    version = document["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._changed(cluster.name, resource, event["type"], document, known)
                continue
            await asyncio.sleep(_RETRY_S)

    async def _list(self, cluster: RealCluster, resource: str, known: dict[str, Json]) -> str:
        listed = await list_objects(cluster, WATCHED[resource])
        found = {item["metadata"]["uid"]: item for item in items_of(listed)}
        for uid in known.keys() - found.keys():
            self._changed(cluster.name, resource, "DELETED", known[uid], known)
        for uid, item in found.items():
            if uid not in known or known[uid]["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._changed(cluster.name, resource, "MODIFIED" if uid in known else "ADDED", item, known)
        return str(listed["metadata"]["resourceVersion"])

    def _changed(
        self,
        cluster: str,
        resource: str,
        verb: Literal["ADDED", "MODIFIED", "DELETED"],
        document: Json,
        known: dict[str, Json],
    ) -> None:
        uid = document["metadata"]["uid"]
        if verb == "DELETED":
            known.pop(uid, None)
        else:
            known[uid] = document
        self.written(cluster, verb, resource, document)


async def list_objects(cluster: RealCluster, path: str) -> Json:
    """One consistent list, read from etcd. Raises what aiohttp and the test bed's client raise."""
    listed: Json = await cluster.api.call("GET", path)
    return listed


def items_of(listed: Json) -> list[Json]:
    """The items of a list, each with the kind and version that only the list names."""
    kind = {"kind": listed["kind"].removesuffix("List"), "apiVersion": listed["apiVersion"]}
    return [{**kind, **item} for item in listed["items"]]


async def _watch(cluster: RealCluster, path: str, version: str) -> Any:
    """Yields the events of one watch; ends when the server ends it. Raises aiohttp.ClientError, TimeoutError."""
    query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH_S)}
    timeout = aiohttp.ClientTimeout(total=_WATCH_S + 30, connect=10)
    async with (
        aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session,
        session.get(cluster.api.server + path, params=query, ssl=cluster.api._ssl) as response,
    ):
        if response.status == _GONE:
            yield {"type": "ERROR", "object": {}}
            return
        response.raise_for_status()
        async for line in response.content:
            yield json.loads(line)


def _short(document: Json) -> Json:
    """What the checks need of an object, in the place where Kubernetes has it."""
    metadata, spec, status = document["metadata"], document.get("spec", {}), document.get("status", {})
    short: Json = {"kind": document.get("kind", ""), "metadata": {k: metadata[k] for k in _METADATA if k in metadata}}
    short["spec"] = {name: spec[name] for name in ("nodeName", "replicas", "schedulerName") if name in spec}
    if "containers" in spec:
        short["spec"]["containers"] = [
            {name: item[name] for name in ("image", "resources") if name in item} for item in spec["containers"]
        ]
    if "template" in spec:
        short["spec"]["template"] = [item.get("image") for item in spec["template"]["spec"]["containers"]]
    short["status"] = {name: status[name] for name in ("phase", "allocatable") if name in status}
    short["status"]["conditions"] = [
        {"type": item["type"], "status": item["status"]}
        for item in status.get("conditions") or ()
        if item["type"] in _CONDITIONS
    ]
    return short


def _author(document: Json) -> str:
    """An API server does not say who wrote; nobody but the executor has business with what bears its label.

    But for kwok: it ends a pod without grace and by name alone, where a kubelet would name the uid, and so may hit the
    pod's successor. The executor leaves a bound pod its grace; what it ends of pods that are not bound yet is not told
    apart, and so not judged.
    """
    metadata = document["metadata"]
    ours = (metadata.get("labels") or {}).get(APPLIED_BY_LABEL) == APPLIED_BY
    ended_by_kwok = document.get("kind") == "Pod" and metadata.get("deletionGracePeriodSeconds") == 0
    return "executor" if ours and not ended_by_kwok else ""


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="backslashreplace")
