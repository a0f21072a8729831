"""kube-scheduler beside a benchmark: the test bed's own binary, on a real API server, with the same nodes and pods.

Only etcd, kube-apiserver and kube-scheduler run. Nodes are created Ready and stay so, since there is nobody to doubt
them. The pods are all there before the scheduler starts, so that creating them is not measured; then a watch says when
each one has its node. Each setting of `percentageOfNodesToScore` gets a scheduler process of its own, and the same pods
anew on empty nodes.

Two figures for each setting, which say different things:

- `per_s`: pods bound a second, from the first to the last binding. It contains what the API server and etcd do.
- `algorithm_per_s`: what the scheduler itself calls scheduling (`scheduler_scheduling_algorithm_duration_seconds`):
  filters and scores alone, in memory, the reciprocal of its mean. Its own clock, so a busy machine is in it too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson
import yaml

from tests.testbed import MissingBinariesError, RealCluster, binaries
from tests.testbed.api import Api
from tests.testbed.cluster import START_DEADLINE_S, STOP_GRACE_S, STORE
from tests.testbed.commands import command
from tests.testbed.layout import Layout
from tests.testbed.process import Component, Port, together

Json = dict[str, Any]

NAME: Final = "kube-scheduler"
NAMESPACE: Final = "bench"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
QPS, BURST = 5_000, 10_000
DEFAULT, ALL_NODES = 0, 100  # percentageOfNodesToScore; by default 10 % of 5,000 nodes
# A new node would be tainted as not ready, and there are no controllers that take that back or make service accounts.
API_SERVER_FLAGS: Final = ("--disable-admission-plugins=TaintNodesByCondition,ServiceAccount",)
REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)
CREATORS: Final = 32
WITHIN_S: Final = 120.0
METRICS_WITHIN_S: Final = 30.0
ALGORITHM: Final = "scheduler_scheduling_algorithm_duration_seconds"


class PeerError(RuntimeError):
    """The peer could not be measured; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """What one scheduler process did with the pods."""

    bound: int
    per_s: float
    algorithm_per_s: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--beside` and `--peer-pods`."""
    parser.add_argument(
        "--beside",
        choices=(NAME,),
        help="measures the test bed's kube-scheduler afterwards, on a real API server with the same nodes and pods; "
        "takes minutes, and needs the test bed (python -m tests.testbed.build)",
    )
    parser.add_argument("--peer-pods", type=int, default=3_000, metavar="N", help="how many pods it binds, twice")


def require(options: argparse.Namespace) -> None:
    """Ends the process, before anything is measured, where `--beside` cannot be had."""
    if options.beside is None:
        return
    if options.peer_pods < 2:
        sys.exit("--peer-pods must be at least 2: a rate is from the first to the last binding")
    try:
        binaries()
    except MissingBinariesError as error:
        sys.exit(f"--beside {NAME}: {error}")


def beside(nodes: Sequence[Json], templates: Sequence[Json], ours_per_s: float) -> Json:
    """The fields of a benchmark's result: kube-scheduler with its default and with all nodes scored.

    `nodes` are manifests with names, `templates` one pod template for each pod to be placed.
    """
    default, every = asyncio.run(measure(nodes, templates, (DEFAULT, ALL_NODES)))
    return {
        "kube_scheduler_per_s": round(default.per_s, 1),
        "kube_scheduler_all_nodes_per_s": round(every.per_s, 1),
        "times_kube_scheduler": round(ours_per_s / default.per_s, 1),
        "times_kube_scheduler_all_nodes": round(ours_per_s / every.per_s, 1),
        "kube_scheduler_algorithm_per_s": round(default.algorithm_per_s, 1),
        "kube_scheduler_all_nodes_algorithm_per_s": round(every.algorithm_per_s, 1),
        "kube_scheduler_bound": [default.bound, every.bound],
        "kube_scheduler_pods": len(templates),
    }


async def measure(
    nodes: Sequence[Json], templates: Sequence[Json], percentages: Sequence[int], within_s: float = WITHIN_S
) -> list[Rate]:
    """A rate for each percentage, in turn; raises PeerError where fewer than two pods were bound in time."""
    cluster = RealCluster("peer", components=STORE, flags={"kube-apiserver": API_SERVER_FLAGS})
    async with cluster, _session(cluster.layout) as session:
        await _call(session, "POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        await _each(session, "POST", [("/api/v1/nodes", _node(node)) for node in nodes])
        rates = []
        for percentage in percentages:
            pods = [_pod(number, template) for number, template in enumerate(templates)]
            await _each(session, "POST", [(PODS, pod) for pod in pods])
            rates.append(await _bind_all(cluster, session, percentage, within_s))
            now = {"gracePeriodSeconds": 0}
            await _each(session, "DELETE", [(f"{PODS}/{pod['metadata']['name']}", now) for pod in pods])
        return rates


async def _bind_all(cluster: RealCluster, session: aiohttp.ClientSession, percentage: int, within_s: float) -> Rate:
    """Start a scheduler on what waits; watch until all of it is bound or the time is over; stop the scheduler."""
    layout = cluster.layout
    listed = await _call(session, "GET", PODS)
    waiting, version = len(listed["items"]), listed["metadata"]["resourceVersion"]
    port = Port(layout.host)
    scheduler = _scheduler(cluster.api, layout, port, percentage)
    watch = asyncio.create_task(_watch(session, version, waiting, within_s))
    try:
        await scheduler.start(START_DEADLINE_S)
        bound_at = await watch
        if len(bound_at) < 2:
            raise PeerError(f"{NAME} bound {len(bound_at)} of {waiting} pods in {within_s:.0f} s:\n{scheduler.tail()}")
        algorithm = await _algorithm_per_s(session, f"https://{layout.host}:{port}/metrics")
        return Rate(len(bound_at), (len(bound_at) - 1) / (bound_at[-1] - bound_at[0]), algorithm)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await scheduler.stop(STOP_GRACE_S)
        port.release()


async def _watch(session: aiohttp.ClientSession, version: str, wanted: int, within_s: float) -> list[float]:
    """When each pod came to have a node, until `wanted` have or the time is over."""
    seen: dict[str, float] = {}
    query = {"watch": "1", "resourceVersion": version, "fieldSelector": "spec.nodeName!="}
    endless = aiohttp.ClientTimeout(total=None, sock_connect=30)
    with contextlib.suppress(TimeoutError):  # what was bound until then counts, and is told
        async with asyncio.timeout(within_s), session.get(PODS, params=query, timeout=endless) as response:
            response.raise_for_status()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                now = time.perf_counter()
                for event in map(orjson.loads, lines):
                    if event["type"] == "ERROR":
                        raise PeerError(f"the watch of the pods ended: {event['object']}")
                    seen.setdefault(event["object"]["metadata"]["name"], now)
                if len(seen) >= wanted:
                    return sorted(seen.values())
            raise PeerError("the API server closed the watch of the pods")
    return sorted(seen.values())


async def _algorithm_per_s(session: aiohttp.ClientSession, url: str) -> float:
    """Raises PeerError where its metrics cannot be read in time."""
    deadline = time.monotonic() + METRICS_WITHIN_S
    while True:
        async with session.get(url) as response:
            text = await response.text()
        if response.status == HTTPStatus.OK:
            break
        # It asks the API server whether we may read them, and refuses while that does not answer at once.
        if response.status != HTTPStatus.FORBIDDEN or time.monotonic() > deadline:
            raise PeerError(f"{url}: {response.status} {text[:200]}")
        await asyncio.sleep(0.5)
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(ALGORITHM))
    return float(samples[f"{ALGORITHM}_count"]) / float(samples[f"{ALGORITHM}_sum"])


def _scheduler(api: Api, layout: Layout, port: Port, percentage: int) -> Component:
    """A scheduler with a configuration file; what the test bed's flags say of rates and elections yields to it."""
    configuration = layout.data / f"{NAME}-{percentage}.yaml"
    configuration.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kubescheduler.config.k8s.io/v1",
                "kind": "KubeSchedulerConfiguration",
                "clientConnection": {"kubeconfig": str(layout.kubeconfigs[NAME]), "qps": QPS, "burst": BURST},
                "leaderElection": {"leaderElect": False},
                "percentageOfNodesToScore": percentage,
            }
        )
    )
    its = dataclasses.replace(layout, ports={**layout.ports, NAME: port})
    health = f"https://{layout.host}:{port}/readyz"
    arguments = [*command(NAME, its), f"--config={configuration}"]
    log = layout.data / f"{NAME}-{percentage}.log"
    return Component(NAME, arguments, log, lambda: api.healthy(health))


def _session(layout: Layout) -> aiohttp.ClientSession:
    """As administrator; connections are kept, which thousands of requests need."""
    context = ssl.create_default_context(cafile=str(layout.authority.certificate))
    context.load_cert_chain(layout.admin.certificate, layout.admin.key)
    connector = aiohttp.TCPConnector(ssl=context, limit=2 * CREATORS)
    return aiohttp.ClientSession(layout.url("kube-apiserver"), connector=connector, timeout=REQUEST_TIMEOUT)


async def _each(session: aiohttp.ClientSession, method: str, calls: Sequence[tuple[str, Json]]) -> None:
    """All of them, a few at a time; the first failure ends the rest."""
    rest = iter(calls)

    async def some(mine: Iterator[tuple[str, Json]]) -> None:
        for path, body in mine:
            await _call(session, method, path, body)

    await together(some(rest) for _ in range(CREATORS))


async def _call(session: aiohttp.ClientSession, method: str, path: str, body: Json | None = None) -> Json:
    async with session.request(method, path, json=body) as response:
        content = await response.read()
        if response.status >= 400:
            raise PeerError(f"{method} {path}: {response.status} {content.decode(errors='replace')}")
        answer: Json = orjson.loads(content)
        return answer


def _node(node: Mapping[str, Any]) -> Json:
    """A Node that a kubelet has reported: what it can hold as well as what of it can be had."""
    status = {"capacity": node["status"]["allocatable"], **node["status"]}
    return {"apiVersion": "v1", "kind": "Node", **node, "status": status}


def _pod(number: int, template: Mapping[str, Any]) -> Json:
    metadata = {**template.get("metadata", {}), "name": f"pod-{number}"}
    spec = template["spec"]
    containers = [_limited(container) for container in spec["containers"]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": containers}}


def _limited(container: Mapping[str, Any]) -> Json:
    """With limits of what cannot be overcommitted, such as GPUs: the API server refuses requests without them."""
    requests = container["resources"]["requests"]
    limits = {name: amount for name, amount in requests.items() if "/" in name}
    return {**container, "resources": {"requests": requests, "limits": limits}}
