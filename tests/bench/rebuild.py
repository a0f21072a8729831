"""`python -m tests.bench.rebuild`: what is derived from the log is wiped under load, and built again from the log.

The log of a large fleet is written directly to a real broker (`fleet_log.py`). Then, while pods go on changing:

1. a scheduler's replica begins with nothing; timed until it is ready to lead. Its state's hash is compared with that of
   a replica that has followed all along, both at the end of the log;
2. Redis loses everything; timed until it has every workload and cluster again;
3. the status service is killed and Redis wiped once more; timed until the service is ready. The hash of what Redis has
   is compared with that of what `fleet.status` says.

`seconds` is the longest of the three.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from rich.console import Console

from services.cli.fleet.process import ServiceProcess
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.inputs import behind
from services.scheduler.replica import Replica
from shared.adapters.clock import SystemClock
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS, STATUS
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE
from shared.ports.event_log import START, EventLog
from shared.runtime.embedded import EmbeddedKafka, EmbeddedValkey
from shared.runtime.heap import building
from tests.bench.fleet_log import Size, heartbeats, pod, write
from tests.bench.support import beside, run_directory, show_figures, write_result

LONGEST_S = 1800.0
# Of the pods that change, one in so many is ready or not in turn: that changes a status.
TOGGLED = 20


# A replica, in a process of its own


async def replica(bootstrap: str) -> None:
    """Rebuilds, says how long that took, follows until a line comes, and says the hash at the log's end."""
    log = await KafkaLog.connect(KafkaOptions(bootstrap=bootstrap), "replica")
    began, cpu = time.monotonic(), time.process_time()
    async with AsyncExitStack() as stack:
        built = Replica(log, SystemClock(), SchedulerConfig(), 0, f"bench-{os.getpid()}", _refuse)
        with building():
            await built.rebuild(stack)
        _say(seconds=time.monotonic() - began, cpu_s=time.process_time() - cpu)
        asked = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        while not asked.done():
            await built.follow_inputs(0.2)
        while await behind(built._inputs):
            await built.follow_inputs(0.2)
        _say(hash=built.state.hash(), memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    await log.close()


def _refuse(record: object, error: Exception) -> None:
    raise AssertionError(f"{record}: {error}")


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class ReplicaProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, bootstrap: str) -> ReplicaProcess:
        command = [sys.executable, "-m", "tests.bench.rebuild", "--replica", bootstrap]
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))

    async def said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(LONGEST_S):
            while True:
                line = await self._process.stdout.readline()
                if not line:
                    raise RuntimeError("the replica has ended")
                # Its log lines go to the same stream.
                if line.startswith(b'{"'):
                    return dict(json.loads(line))

    async def finish(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.said()

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


# The load


async def churn(log: EventLog, size: Size, rate: float) -> None:
    """Pods that change, and heartbeats, until cancelled."""
    publisher = await log.publisher("churn")
    began, number = time.monotonic(), 0
    try:
        while True:
            ready = number % TOGGLED != 0 or (number // size.workloads) % 2 == 1
            await publisher.send(pod(size, number % size.workloads, 2 + number, ready=ready))
            number += 1
            if number % round(5 * rate) == 0:
                await publisher.send_many(list(heartbeats(size)))
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
    finally:
        await publisher.close()


# The parts


async def scheduler_part(log: EventLog, bootstrap: str, size: Size, rate: float, console: Console) -> dict[str, Any]:
    following = await ReplicaProcess.start(bootstrap)
    replicas = [following]
    try:
        quiet = await following.said()
        console.print(f"replica rebuilt in {quiet['seconds']:.1f} s without load")
        async with beside(churn(log, size, rate)):
            wiped = await ReplicaProcess.start(bootstrap)
            replicas.append(wiped)
            built = await wiped.said()
            console.print(f"replica rebuilt in {built['seconds']:.1f} s under load")
        first, second = await following.finish(), await wiped.finish()
    finally:
        for each in replicas:
            await each.end()
    return {
        "scheduler_s": round(built["seconds"], 1),
        "scheduler_cpu_s": round(built["cpu_s"], 1),
        "scheduler_quiet_s": round(quiet["seconds"], 1),
        "scheduler_memory_mb": second["memory_mb"],
        "scheduler_hash_equal": first["hash"] == second["hash"],
    }


async def status_part(
    log: EventLog, status: ServiceProcess, redis: Redis, size: Size, rate: float, console: Console
) -> dict[str, Any]:
    status.start()
    began = time.monotonic()
    await status.wait_ready(LONGEST_S)
    console.print(f"status told everything in {time.monotonic() - began:.1f} s")
    async with beside(churn(log, size, rate)):
        await asyncio.sleep(5)
        await redis.flushall()
        redis_s = await _until_filled(redis, size)
        console.print(f"Redis wiped: filled again after {redis_s:.1f} s")
        status.kill()
        await redis.flushall()
        began = time.monotonic()
        status.start()
        await status.wait_ready(LONGEST_S)
        status_s = time.monotonic() - began
        console.print(f"status killed and Redis wiped: ready after {status_s:.1f} s")
    equal = False
    deadline = time.monotonic() + 60
    while not equal and time.monotonic() < deadline:
        await asyncio.sleep(1)
        table = await redis.hgetall(f"flotilla:{WORKLOADS_TABLE}")
        equal = len(table) == size.workloads and _hash(table) == _hash(await _latest(log))
    return {"redis_s": round(redis_s, 1), "status_s": round(status_s, 1), "status_hash_equal": equal}


async def _until_filled(redis: Redis, size: Size) -> float:
    began = time.monotonic()
    while (
        await redis.hlen(f"flotilla:{WORKLOADS_TABLE}") < size.workloads
        or await redis.hlen(f"flotilla:{CLUSTERS_TABLE}") < size.clusters
    ):
        if time.monotonic() - began > LONGEST_S:
            raise RuntimeError("Redis was not filled again")
        await asyncio.sleep(0.2)
    return time.monotonic() - began


async def _latest(log: EventLog) -> dict[bytes, bytes]:
    """What `fleet.status` says, by workload."""
    reader = await log.reader("check")
    latest: dict[bytes, bytes] = {}
    try:
        await reader.assign(dict.fromkeys(await log.partitions(STATUS.name), START))
        while await behind(reader):
            for record in await reader.read(max_records=5000, timeout_s=0.5):
                if record.key is not None and record.value is not None:
                    latest[record.key] = record.value
                elif record.key is not None:
                    latest.pop(record.key, None)
    finally:
        await reader.close()
    return latest


def _hash(table: Mapping[Any, Any]) -> str:
    digest = hashlib.sha256()
    for key in sorted(table):
        digest.update(key + b"\0" + orjson.dumps(orjson.loads(table[key]), option=orjson.OPT_SORT_KEYS) + b"\0")
    return digest.hexdigest()


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> dict[str, Any]:
    size = Size(arguments.clusters, arguments.nodes, arguments.workloads)
    async with EmbeddedKafka(directory / "kafka") as kafka, EmbeddedValkey(directory / "valkey") as valkey:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "bench")
        await log.ensure_topics(ALL_TOPICS)
        began = time.monotonic()
        await write(log, size)
        console.print(f"the log was written in {time.monotonic() - began:.1f} s")
        environment = {"FLOTILLA_KAFKA_BOOTSTRAP": kafka.bootstrap, "FLOTILLA_REDIS_URL": valkey.url}
        status = ServiceProcess("status", "services.status", environment, directory / "services")
        redis = Redis.from_url(valkey.url)
        try:
            result = await scheduler_part(log, kafka.bootstrap, size, arguments.rate, console)
            result |= await status_part(log, status, redis, size, arguments.rate, console)
        finally:
            await status.stop()
            await redis.aclose()
            await log.close()
    return {
        "seconds": max(result["scheduler_s"], result["status_s"], result["redis_s"]),
        "hash_equal": result["scheduler_hash_equal"] and result["status_hash_equal"],
        "workloads": size.workloads,
        "nodes": size.nodes,
        "clusters": size.clusters,
        "rate": arguments.rate,
        **result,
        "load": round(os.getloadavg()[0], 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rebuild", description=__doc__.partition("\n")[0])
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=10_000, help="of all clusters together")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0, help="pods that change in a second meanwhile")
    parser.add_argument("--replica", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.replica:
        asyncio.run(replica(arguments.replica))
        return 0
    console = Console(stderr=True)
    with run_directory("rebuild") as directory:
        result = asyncio.run(measure(arguments, directory, console))
    show_figures("wiped under load, rebuilt from the log", result, console)
    write_result(result)
    return 0 if result["hash_equal"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
