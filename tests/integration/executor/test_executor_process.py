"""The executor as a process, on a real broker: clusters that come and go, kill -9, SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import orjson
import pytest
import pytest_asyncio

from services.simulator.faults import FaultSpec
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.events.registry import decode
from shared.events.topics import RESULTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.results import CommandReported
from shared.model.identities import APPLIED_BY_LABEL
from shared.ports.cluster_api import Selection
from shared.ports.event_log import START, NewRecord
from shared.runtime.embedded.network import free_ports
from tests.integration.executor.support import PODS, until
from tests.unit.executor.builders import command, deployment, pod_group, withdrawal

pytestmark = [pytest.mark.kafka]


class Process:
    """`python -m services.executor` on a directory of kubeconfigs."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        (self.port,) = free_ports(1)
        self._log = directory / "executor.log"
        self._environment = {
            **os.environ,
            "FLOTILLA_KAFKA_BOOTSTRAP": bootstrap,
            "FLOTILLA_EXECUTOR_KUBECONFIG_DIR": str(directory),
            "FLOTILLA_EXECUTOR_BACKOFF_MAX_S": "2",
            "FLOTILLA_LOG_FORMAT": "json",
            "FLOTILLA_HTTP_PORT": str(self.port),
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        arguments = (sys.executable, "-m", "services.executor")
        with self._log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *arguments, env=self._environment, stdout=output, stderr=output
            )

    async def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def readiness(self) -> tuple[int, str]:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}/readyz") as answer,
            ):
                return answer.status, await answer.text()
        except aiohttp.ClientError as error:
            return 0, str(error)

    async def until_left(self, cluster: str) -> None:
        async def left() -> bool:
            lines = [line for line in self._log.read_bytes().splitlines() if line.startswith(b"{")]
            said = [(line.get("event"), line.get("cluster")) for line in map(orjson.loads, lines)]
            return ("a cluster leaves", cluster) in said

        await until(left, f"the executor leaves {cluster} alone")

    async def until_ready(self) -> None:
        async def ready() -> bool:
            return (await self.readiness())[0] == 200

        await until(ready, "the executor is ready")


class Results:
    """All reports for some clusters, read from the real topic."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self.reports: dict[str, list[CommandReported]] = {}

    async def follow(self) -> None:
        reader = await self.log.reader("results")
        try:
            await reader.assign(dict.fromkeys(await self.log.partitions(RESULTS.name), START))
            while True:
                for record in await reader.read(timeout_s=0.2):
                    report = decode(CommandReported, record.value)
                    assert record.key == f"{report.cluster}/{report.subject}".encode()
                    self.reports.setdefault(f"{report.cluster}/{report.subject}", []).append(report)
        finally:
            await reader.close()

    async def until(self, commands: Sequence[CommandIssued], outcome: str = "applied") -> None:
        def missing() -> list[str]:
            said = {name: [(r.outcome, r.generation) for r in reports] for name, reports in self.reports.items()}
            return [
                f"{item.cluster}/{item.subject}: {said.get(f'{item.cluster}/{item.subject}', [])[-2:]}"
                for item in commands
                if said.get(f"{item.cluster}/{item.subject}", [None])[-1] != (outcome, item.generation)
            ]

        async def done() -> bool:
            return not missing()

        await until(done, f"all {outcome}", within=60, state=missing)

    async def publish(self, *commands: CommandIssued) -> None:
        publisher = await self.log.publisher("scheduler")
        for item in commands:
            topic = commands_topic(item.cluster).name
            await publisher.send(NewRecord(topic, item.subject.encode(), item.to_json()))
        await publisher.flush()
        await publisher.close()


@pytest_asyncio.fixture
async def results(kafka_bootstrap: str) -> AsyncIterator[Results]:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka_bootstrap), "test")
    await log.ensure_topics([RESULTS])
    results = Results(log)
    following = asyncio.create_task(results.follow())
    yield results
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await log.close()


@pytest_asyncio.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator(kubeconfig_dir=tmp_path) as simulator:
        yield simulator


@pytest_asyncio.fixture
async def executor(kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(kafka_bootstrap, tmp_path)
    await process.start()
    yield process
    if process.process is not None and process.process.returncode is None:
        await process.end(signal.SIGKILL)


def named(name: str) -> str:
    """A cluster's name that no other test has used on the shared broker."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def fleet(clusters: Sequence[str], count: int, *, generation: int = 1, image: str = "nginx:1") -> list[CommandIssued]:
    """For each cluster, deployments and, as every second subject, bound pods."""
    return [
        command(
            generation,
            *([] if number % 2 else [deployment(f"web-{number}", image=image)]),
            pods=[pod_group(pods_of(cluster, number), image=image)] if number % 2 else [],
            subject=f"workload/shop/web-{number}",
            cluster=cluster,
        )
        for cluster in clusters
        for number in range(count)
    ]


def pods_of(cluster: str, number: int) -> dict[str, str]:
    return {f"web-{number}-{ordinal}": f"{cluster}-default-{ordinal}" for ordinal in range(2)}


async def test_clusters_come_and_go(results: Results, simulator: Simulator, executor: Process, tmp_path: Path) -> None:
    first, second = named("first"), named("second")
    await executor.until_ready()  # no clusters, nothing to wait for
    await simulator.add_cluster(ClusterSpec(name=first))

    async def names_topic() -> bool:
        return f"fleet.commands.{first}, which does not exist" in (await executor.readiness())[1]

    await until(names_topic, "the missing topic is named")
    await results.log.ensure_topics([commands_topic(first)])
    commands = [command(1, deployment(), cluster=first)]
    await results.publish(*commands)
    await results.until(commands)
    await executor.until_ready()

    # The second joins while the first is being served, with commands that were there before it.
    await results.log.ensure_topics([commands_topic(second)])
    others = [
        command(1, deployment(image=f"nginx:{n}"), cluster=second, subject=f"workload/shop/w{n}") for n in range(1)
    ]
    await results.publish(*others)
    await simulator.add_cluster(ClusterSpec(name=second))
    await results.until(others)

    # The first leaves; what runs there stays, and the second goes on.
    kubeconfig = tmp_path / f"{first}.kubeconfig"
    text = kubeconfig.read_text()
    kubeconfig.unlink()
    await executor.until_left(first)
    await results.publish(command(2, deployment(image="late"), cluster=first))
    more = [command(2, deployment(image="nginx:2"), cluster=second, subject="workload/shop/w0")]
    await results.publish(*more)
    await results.until(more)
    assert [r.generation for r in results.reports[f"{first}/workload/shop/web"]] == [1]
    kubeconfig.write_text(text)
    await results.until([command(2, deployment(image="late"), cluster=first)])
    assert await executor.end(signal.SIGTERM) == 0


async def test_kill_9_in_the_middle_loses_and_repeats_nothing(
    results: Results, simulator: Simulator, executor: Process, tmp_path: Path
) -> None:
    clusters = [named("east"), named("west")]
    for cluster in clusters:
        await results.log.ensure_topics([commands_topic(cluster)])
        await simulator.add_cluster(ClusterSpec(name=cluster, node_groups=(NodeGroup(count=2),)))
        simulator.inject(cluster, FaultSpec(latency_seconds=0.02, methods=("PATCH", "POST")))
    commands = fleet(clusters, 30)
    await results.publish(*commands)
    seen: dict[tuple[str, str], str] = {}
    for delay in (1.6, 1.9, 2.2):
        await asyncio.sleep(delay)
        await executor.end(signal.SIGKILL)
        await _note_pods(tmp_path, clusters, seen)
        await executor.start()
    await results.until(commands)
    await _note_pods(tmp_path, clusters, seen)
    assert len(seen) == 2 * 15 * 2, "each pod once"

    # And once more, at the end, with a changed and a withdrawn half.
    changed = fleet(clusters, 15, generation=2, image="nginx:2")
    gone = [
        withdrawal(3, subject=item.subject).model_copy(update={"cluster": item.cluster})
        for item in commands
        if int(item.subject.rpartition("-")[2]) >= 15
    ]
    await results.publish(*changed, *gone)
    await asyncio.sleep(0.3)
    await executor.end(signal.SIGKILL)
    await executor.start()
    await results.until(changed)
    await results.until(gone, "withdrawn")
    for cluster in clusters:
        api = await KubernetesApi.from_kubeconfig(tmp_path / f"{cluster}.kubeconfig")
        pods = await api.list(PODS, Selection(namespace="shop", labels=APPLIED_BY_LABEL))
        assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"nginx:2"}
        assert len(pods) == 14
        await api.close()
    assert await executor.end(signal.SIGTERM) == 0


async def _note_pods(directory: Path, clusters: Sequence[str], seen: dict[tuple[str, str], str]) -> None:
    """Every pod that is there, by cluster and name; one that has another uid than before was made twice."""
    for cluster in clusters:
        api = await KubernetesApi.from_kubeconfig(directory / f"{cluster}.kubeconfig")
        for pod in await api.list(PODS, Selection(namespace="shop", labels=APPLIED_BY_LABEL)):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            assert seen.setdefault((cluster, name), uid) == uid, f"{name} was made twice"
        await api.close()
