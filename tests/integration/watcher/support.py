"""A watcher as a process, a connection that can be cut, and the log read as any consumer reads it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import yaml
from yarl import URL

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.events.topics import OBJECTS
from shared.events.v1.objects import ClusterObserved
from shared.model.identities import ObjectKey, Resource, heartbeat_key, is_object_key
from shared.ports.event_log import START, EventLog, Partition, Record

ROOT = Path(__file__).parents[3]


class WatcherProcess:
    """`python -m services.watcher`, killed at the end if nothing ended it before."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._log = directory / "watcher.log"
        self._environment = {**os.environ, "FLOTILLA_LOG_FORMAT": "json", **environment}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.watcher",
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=output,
            )

    async def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is said."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(30):
            code = await self._process.wait()
        self._process = None
        return code

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self.kill()


class Cut:
    """A TCP proxy in front of an API server whose connections can be dropped, and new ones refused."""

    def __init__(self, kubeconfig: Path) -> None:
        self._config = yaml.safe_load(kubeconfig.read_text())
        self._url = URL(self._config["clusters"][0]["cluster"]["server"])
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False
        self.accepted = 0

    async def start(self, kubeconfig: Path) -> None:
        """Writes a kubeconfig that goes through the proxy."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._config["clusters"][0]["cluster"]["server"] = str(self._url.with_port(port).with_host("127.0.0.1"))
        await asyncio.to_thread(kubeconfig.write_text, yaml.safe_dump(self._config))

    def drop(self) -> int:
        """Cuts every connection; how many there were."""
        dropped = len(self._tasks)
        for task in self._tasks:
            task.cancel()
        return dropped

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refusing:
                upstream = await asyncio.open_connection(self._url.host, self._url.port)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_pump(reader, upstream[1]))
                        group.create_task(_pump(upstream[0], writer))
                finally:
                    upstream[1].transport.abort()
        except (asyncio.CancelledError, ExceptionGroup, OSError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError


async def read_all(log: EventLog, topic: str = OBJECTS.name) -> list[Record]:
    """Every record of a topic, as it stands now, in order within each partition."""
    reader = await log.reader("test")
    try:
        partitions = await log.partitions(topic)
        ends = await reader.end_offsets(partitions)
        await reader.assign(dict.fromkeys(partitions, START))
        records: list[Record] = []
        while any(_behind(reader.positions(), partition, end) for partition, end in ends.items()):
            records += await reader.read(timeout_s=5)
        return records
    finally:
        await reader.close()


def _behind(positions: Mapping[Partition, int], partition: Partition, end: int) -> bool:
    return positions[partition] < end


def of_cluster(records: Iterable[Record], cluster: str) -> list[Record]:
    prefix = f"{cluster}/".encode()
    return [record for record in records if record.key and record.key.startswith(prefix)]


def final_values(records: Iterable[Record]) -> dict[str, bytes]:
    """What compaction leaves: key → value of what still has one."""
    last = {(record.key or b"").decode(): record.value for record in records}
    return {key: value for key, value in last.items() if value is not None}


def final_objects(records: Iterable[Record]) -> dict[str, str]:
    """Key → resource version of the objects that a reader from the start ends with."""
    return {
        key: str(json.loads(value)["metadata"]["resourceVersion"])
        for key, value in final_values(records).items()
        if is_object_key(key)
    }


def last_heartbeat(records: Iterable[Record], cluster: str) -> ClusterObserved | None:
    value = final_values(records).get(heartbeat_key(cluster))
    return None if value is None else ClusterObserved.model_validate_json(value)


async def existing(api: KubernetesApi, cluster: str, resources: Iterable[Resource]) -> dict[str, str]:
    """Key → resource version of the objects that the API server has."""
    found = {}
    for resource in resources:
        for item in await api.list(resource):
            meta = item["metadata"]
            key = ObjectKey(cluster, resource, meta.get("namespace", ""), meta["name"])
            found[str(key)] = str(meta["resourceVersion"])
    return found


async def converged(
    log: EventLog, api: KubernetesApi, cluster: str, resources: Iterable[Resource], within: float = 90
) -> list[Record]:
    """Waits until the log ends with exactly the objects that exist, and returns all records of the cluster."""
    deadline = time.monotonic() + within
    wanted = list(resources)
    while True:
        truth = await existing(api, cluster, wanted)
        records = of_cluster(await read_all(log), cluster)
        seen = final_objects(records)
        if seen == truth and truth == await existing(api, cluster, wanted):
            return records
        if time.monotonic() > deadline:
            missing = {key for key, version in truth.items() if seen.get(key) != version}
            raise AssertionError(f"missing or old: {sorted(missing)[:10]}; extra: {sorted(seen.keys() - truth)[:10]}")
        await asyncio.sleep(0.3)


@asynccontextmanager
async def connected(kafka_bootstrap: str) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka_bootstrap), "test")
    try:
        yield log
    finally:
        await log.close()
