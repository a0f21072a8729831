"""How much the simulator carries: `python -m tests.bench.simulator [--clusters 100 --nodes 50 --pods 20000]`.

Three measurements, each in a process of its own so that memory and interference are its own: controllers filling all
clusters in virtual time; clients writing over HTTP; watchers receiving what is written. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any

import aiohttp

from services.simulator.cluster import Cluster
from services.simulator.core.identity import Target
from services.simulator.core.options import WriteOptions
from services.simulator.core.writing import create
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup
from tests.bench.support import resident_mb, write_result

Json = dict[str, Any]

_START = 1_700_000_000.0
_PER_DEPLOYMENT = 10
_CONCURRENCY = 16
_APPLY = "application/apply-patch+yaml"


def _deployment(name: str, replicas: int) -> Json:
    container = {
        "name": "main",
        "image": "nginx:1.27",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "ports": [{"containerPort": 80}],
        "env": [{"name": "MODE", "value": "bench"}],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def fill(clusters: int, nodes: int, pods: int) -> Json:
    """Deployments until all pods run, in virtual time: the cost of controllers and storage alone."""
    group = NodeGroup(count=nodes, cpu="16", memory="64Gi")
    started, before = time.perf_counter(), resident_mb(os.getpid())
    made = [
        Cluster(ClusterSpec(name=f"c{index}", node_groups=(group,)), now=_START, on_work=lambda: None)
        for index in range(clusters)
    ]
    writes = running = 0
    for cluster in made:
        state = cluster.state
        first = state.store.version
        target = Target(state.resource("apps/v1", "Deployment"), "default")
        for index in range(max(pods // clusters // _PER_DEPLOYMENT, 1)):
            create(state, target, _deployment(f"d{index}", _PER_DEPLOYMENT), WriteOptions())
        cluster.settle(_START + 60)
        writes += state.store.version - first
        running += sum(item.object["status"].get("phase") == "Running" for item in state.items("pods"))
    seconds = time.perf_counter() - started
    lean = resident_mb(os.getpid())
    size = sum(len(item.raw) for cluster in made for item in cluster.state.items("pods"))
    return {
        "pods_running": running,
        "controller_writes_per_s": round(writes / seconds),
        "pods_started_per_s": round(running / seconds),
        "memory_mb": round(lean - before),
        "memory_with_bytes_mb": round(resident_mb(os.getpid()) - before),
        "pod_bytes": size // max(running, 1),
    }


def _serve(pipe: Connection) -> None:
    async def run() -> None:
        async with Simulator() as simulator:
            url = await simulator.add_cluster(ClusterSpec(name="bench", controllers=False))
            pipe.send(url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(run())


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    try:
        yield await asyncio.to_thread(here.recv)
        here.send(None)
    finally:
        await asyncio.to_thread(process.join, 10)
        if process.is_alive():
            process.terminate()


async def _rate(count: int, send: Callable[[int], Any]) -> float:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            async with send(number) as response:
                await response.read()
                assert response.status < 300, await response.text()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(_CONCURRENCY):
            group.create_task(worker())
    return count / (time.perf_counter() - started)


async def over_http(count: int) -> Json:
    """Creates, applies and patches by 16 connections of one client process."""
    async with _server() as url, aiohttp.ClientSession() as session:
        base = f"{url}/apis/apps/v1/namespaces/default/deployments"

        def put(number: int, replicas: int) -> Any:
            body = json.dumps(_deployment(f"b{number}", replicas)).encode()
            query = {"fieldManager": "bench", "force": "true"}
            return session.patch(f"{base}/b{number}", data=body, params=query, headers={"Content-Type": _APPLY})

        plain = await _rate(count, lambda number: session.post(base, json=_deployment(f"a{number}", 1)))
        applied = await _rate(count, lambda number: put(number, 1))
        again = await _rate(count, lambda number: put(number, 2))
        headers = {"Content-Type": "application/merge-patch+json"}
        small = json.dumps({"metadata": {"labels": {"x": "y"}}}).encode()
        merged = await _rate(count, lambda number: session.patch(f"{base}/a{number}", data=small, headers=headers))
        read = await _rate(count, lambda number: session.get(f"{base}/a{number}"))
    return {
        "http_creates_per_s": round(plain),
        "http_applies_new_per_s": round(applied),
        "http_applies_changed_per_s": round(again),
        "http_merge_patches_per_s": round(merged),
        "http_gets_per_s": round(read),
    }


async def watched(watchers: int, events: int) -> Json:
    """Events delivered when every one of the watchers sees every write, which were all made before."""
    async with _server() as url, aiohttp.ClientSession() as session:
        base = f"{url}/apis/apps/v1/namespaces/default/deployments"
        await _rate(events, lambda number: session.post(base, json=_deployment(f"a{number}", 1)))

        async def watch() -> None:
            async with session.get(base, params={"watch": "1", "timeoutSeconds": "60"}) as response:
                seen = 0
                async for chunk in response.content.iter_any():
                    seen += chunk.count(b"\n")
                    if seen >= events:
                        return

        started = time.perf_counter()
        await asyncio.gather(*(watch() for _ in range(watchers)))
        seconds = time.perf_counter() - started
    return {"watchers": watchers, "watch_events_per_s": round(watchers * events / seconds)}


def _in_process(function: Callable[..., Json], *arguments: int) -> Json:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: Json = pool.apply(function, arguments)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("clusters", 100), ("nodes", 50), ("pods", 20_000), ("requests", 3000), ("watchers", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    results = {"clusters": given.clusters, "nodes": given.nodes}
    results |= _in_process(fill, given.clusters, given.nodes, given.pods)
    results |= asyncio.run(over_http(given.requests))
    results |= asyncio.run(watched(given.watchers, min(given.requests, 3000)))
    for name, value in results.items():
        sys.stdout.write(f"{name:32} {value:>12,}\n")
    write_result(results)


if __name__ == "__main__":
    main()
