"""`python -m tests.bench.watcher`: pod events from the wire to the log, beside kubernetes-asyncio's own `Watch`.

One server, in a process of its own, sends the same generated events to everybody (`pod_stream.py`). In one run:

- ours: everything that the service does with an event, by its own parts: the list-watch, the machine (known versions,
  keys, sequence), `managedFields` dropped, headers, the record; and then either the real broker, until every record is
  acknowledged, or a publisher that only counts;
- kubernetes-asyncio's `Watch` as its documentation shows it (`list_pod_for_all_namespaces`, typed models), which only
  counts: it publishes nothing;
- its untyped path (custom objects, dictionaries), for whoever thinks that the models are the cost.

`ratio` is ours with the real broker over the typed `Watch`. Theirs is measured on the first part of the stream, since
it would take minutes. Rates are of wall time, of the best of several rounds for everybody; the time of the process is
shown beside it, as server and broker share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_asyncio
import yaml
from rich.console import Console
from rich.table import Table

from services.watcher.bootstrap import POLICY
from services.watcher.decision.mirror import ClusterMirror
from services.watcher.decision.stimuli import ChangesArrived, ResourcesChosen
from services.watcher.outlet import Outlet
from shared.adapters.clock import SystemClock
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.events.topics import OBJECTS
from shared.model.identities import Resource
from shared.ports.cluster_api import ChangeType
from shared.ports.event_log import NewRecord, Position, Publisher
from shared.runtime.embedded import EmbeddedKafka, EmbeddedSettings, PartsMissingError
from tests.bench.support import write_result

PODS = Resource("", "v1", "pods")
EVENT_TYPES = frozenset({ChangeType.ADDED, ChangeType.MODIFIED, ChangeType.DELETED})
DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Times in seconds; `cpu_s` is the measuring process's own."""

    events: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.events / self.wall_s


class CountingPublisher:
    """Takes records as the real one does and keeps nothing of them."""

    def __init__(self) -> None:
        self.count = 0
        self._done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._done.set_result(Position("", 0, 0))

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        assert record.key is not None
        self.count += 1
        return self._done

    async def send_many(self, records: Sequence[NewRecord]) -> None:
        self.count += len(records)

    async def flush(self) -> None:
        return

    async def close(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class Stream:
    """A running server of events."""

    port: int
    bytes_per_event: int

    def url(self, events: int) -> str:
        return f"http://127.0.0.1:{self.port}/{events}"


@asynccontextmanager
async def serving(events: int, seed: int) -> AsyncIterator[Stream]:
    command = ["-m", "tests.bench.pod_stream", "--events", str(events), "--seed", str(seed)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            said = json.loads(await process.stdout.readline())
        yield Stream(**said)
    finally:
        process.kill()
        await process.wait()


# Ours


async def ours(stream: Stream, events: int, publisher: Publisher, directory: Path) -> Sample:
    config = directory / "kubeconfig"
    await asyncio.to_thread(config.write_text, _kubeconfig(stream.url(events)))
    mirror = ClusterMirror(directory.name, time.time_ns() // 1_000_000, 5000)
    outlet = Outlet(mirror, publisher, SystemClock())
    await outlet.feed(partial(ResourcesChosen, resources=frozenset({PODS})))
    api = await KubernetesApi.from_kubeconfig(config, policy=replace(POLICY, streamed_lists=False))
    seen, cpu, wall = 0, 0.0, 0.0
    try:
        async with asyncio.timeout(DEADLINE_S), aclosing(api.list_watch_batches(PODS)) as batches:
            async for changes in batches:
                got = sum(change.type in EVENT_TYPES for change in changes)
                if not seen and got:
                    cpu, wall = time.process_time(), time.perf_counter()
                await outlet.feed(partial(ChangesArrived, resource=PODS, changes=changes))
                seen += got
                if seen >= events:
                    break
            await outlet.flush()
            return Sample(events, time.perf_counter() - wall, time.process_time() - cpu)
    finally:
        await api.close()


def _kubeconfig(server: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c"}}],
            "users": [],
        }
    )


# Theirs


async def theirs(stream: Stream, events: int, *, typed: bool) -> Sample:
    configuration = kubernetes_asyncio.client.Configuration(host=stream.url(events))
    kubernetes_asyncio.client.Configuration.set_default(configuration)
    async with kubernetes_asyncio.client.ApiClient(configuration) as client:
        call: Any
        if typed:
            call = kubernetes_asyncio.client.CoreV1Api(client).list_pod_for_all_namespaces
            arguments: dict[str, Any] = {}
        else:
            call = kubernetes_asyncio.client.CustomObjectsApi(client).list_cluster_custom_object
            arguments = {"group": "example.com", "version": "v1", "plural": "pods"}
        async with kubernetes_asyncio.watch.Watch() as watch, asyncio.timeout(DEADLINE_S):
            return await _counted(watch.stream(call, **arguments, resource_version="1"), events)


async def _counted(stream: Any, events: int) -> Sample:
    seen, cpu, wall = 0, 0.0, 0.0
    async for event in stream:
        if not seen:
            cpu, wall = time.process_time(), time.perf_counter()
        assert event["raw_object"]["metadata"]["name"]
        seen += 1
        if seen >= events:
            break
    return Sample(events, time.perf_counter() - wall, time.process_time() - cpu)


# The run


@asynccontextmanager
async def broker(wanted: str, directory: Path) -> AsyncIterator[str]:
    """Bootstrap servers; empty without a broker."""
    if wanted == "none":
        yield ""
    elif wanted == "embedded":
        async with AsyncExitStack() as stack:
            try:
                kafka = await stack.enter_async_context(EmbeddedKafka(directory / "kafka", settings=EmbeddedSettings()))
            except PartsMissingError as missing:
                sys.stderr.write(f"no embedded broker: {missing}\n")
                yield ""
            else:
                yield kafka.bootstrap
    else:
        yield wanted


@dataclass(slots=True)
class Results:
    """The samples of each way, `memory`, `broker`, `typed` and `untyped`, and the mean size of an event."""

    bytes_per_event: int
    samples: dict[str, list[Sample]]

    def add(self, way: str, sample: Sample) -> None:
        self.samples.setdefault(way, []).append(sample)

    def best(self, way: str) -> Sample | None:
        """The fastest round: other work on the machine only ever slows one down."""
        return max(self.samples.get(way, ()), key=lambda sample: sample.rate, default=None)


async def measure(arguments: argparse.Namespace) -> Results:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with broker(arguments.broker, directory) as servers, serving(arguments.events, arguments.seed) as stream:
            results = Results(stream.bytes_per_event, {})
            for number in range(arguments.repeat):
                await _round(results, stream, servers, arguments, directory / f"bench-{number}")
    return results


async def _round(
    results: Results, stream: Stream, servers: str, arguments: argparse.Namespace, directory: Path
) -> None:
    """Everybody once; interleaved, so that a busy moment of the machine hits all alike."""
    await asyncio.to_thread(directory.mkdir)
    count, part = arguments.events, arguments.baseline_events
    results.add("memory", await ours(stream, count, CountingPublisher(), directory))
    if servers:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=servers), "bench")
        await log.ensure_topics([OBJECTS])
        publisher = await log.publisher("bench")
        results.add("broker", await ours(stream, count, publisher, directory))
        await publisher.close()
        await log.close()
    results.add("typed", await theirs(stream, part, typed=True))
    results.add("untyped", await theirs(stream, part, typed=False))


TITLES = {
    "broker": "ours, to Kafka, acknowledged",
    "memory": "ours, records counted",
    "typed": "Watch, typed, events counted",
    "untyped": "Watch, dicts, events counted",
}


def show(results: Results, console: Console) -> None:
    baseline = results.best("typed")
    assert baseline is not None
    title = f"pod watch events of {results.bytes_per_event} bytes, best of {len(results.samples['typed'])}"
    table = Table(title=title, title_justify="left")
    for name in ("", "events", "events/s", "µs", "CPU µs", "MB/s", "x typed"):
        table.add_column(name, justify="left" if not name else "right")
    for way, text in TITLES.items():
        sample = results.best(way)
        if sample is None:
            continue
        table.add_row(
            text,
            f"{sample.events:,}",
            f"{sample.rate:,.0f}",
            f"{1e6 / sample.rate:,.1f}",
            f"{1e6 * sample.cpu_s / sample.events:,.1f}",
            f"{sample.rate * results.bytes_per_event / 1e6:,.0f}",
            f"{sample.rate / baseline.rate:,.1f}",
        )
    console.print(table)


def summary(results: Results, arguments: argparse.Namespace) -> dict[str, Any]:
    rates = {way: sample.rate for way in TITLES if (sample := results.best(way)) is not None}
    main = rates.get("broker", rates["memory"])
    return {
        "events_per_s": round(main),
        "ratio": round(main / rates["typed"], 1),
        "with_broker": "broker" in rates,
        "events_per_s_without_broker": round(rates["memory"]),
        "ratio_without_broker": round(rates["memory"] / rates["typed"], 1),
        "watch_typed_events_per_s": round(rates["typed"]),
        "watch_untyped_events_per_s": round(rates["untyped"]),
        "ratio_to_untyped": round(main / rates["untyped"], 1),
        "bytes_per_event": results.bytes_per_event,
        "events": arguments.events,
        "baseline_events": arguments.baseline_events,
        "seed": arguments.seed,
        "repeat": arguments.repeat,
        "spread": {way: [round(s.rate) for s in samples] for way, samples in results.samples.items()},
        "used": {
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            **{name: version(name) for name in ("kubernetes-asyncio", "aiohttp", "aiokafka", "msgspec")},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.watcher", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=40_000, help="events for our side")
    parser.add_argument("--baseline-events", type=int, default=4_000, help="the first events, for kubernetes-asyncio")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--repeat", type=int, default=7, help="rounds; the best of each way is shown, all are in `spread`"
    )
    parser.add_argument("--broker", default="embedded", help="embedded, none, or bootstrap servers")
    arguments = parser.parse_args()
    results = asyncio.run(measure(arguments))
    show(results, Console())
    write_result(summary(results, arguments))


if __name__ == "__main__":
    main()
