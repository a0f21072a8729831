"""A real Prometheus with the configuration and the rules that ship, on a running fleet."""

from __future__ import annotations

import asyncio
import json
import math
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml

from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.process import ServiceProcess
from shared.events.topics import REQUESTS
from shared.events.v1.status import Phase
from shared.ports.event_log import NewRecord
from shared.runtime.embedded.network import LOOPBACK, free_ports
from shared.runtime.embedded.process import ServerProcess
from tests.e2e.harness import Fleet, workload
from tests.fixtures.prometheus import PrometheusTools

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka, pytest.mark.timeout(600)]

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
DASHBOARDS = sorted((SHIPPED.parent / "grafana" / "dashboards").glob("*.json"))
# What there need be nothing of in this fleet, by dashboard, panel and legend: it has no node groups and no queues,
# nothing fails in it, and an audit is ten minutes away.
NOTHING_TO_SHOW = {
    ("agents", "Audits", "{{result}}"),
    ("agents", "Audits", "differences {{cluster}}"),
    ("agents", "Errors and restarts", "executor {{cluster}} {{where}}"),
    ("agents", "Errors and restarts", "watcher {{cluster}}"),
    ("agents", "Interruptions of watches", "{{cluster}} {{reason}}"),
    ("autoscaler", "A plan of node groups, p99", "{{of}}"),
    ("autoscaler", "Limits that bind", "{{cluster}} {{limit}}"),
    ("autoscaler", "Nodes ordered", "{{cluster}}/{{group}}"),
    ("scheduler", "Queues: dominant share", "{{queue}}"),
    ("scheduler", "Queues: workloads that wait", "{{queue}}"),
    ("scheduler", "Void entries and reminders", "reminded {{cluster}}"),
}
CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
SCALING = {"minReplicas": 1, "maxReplicas": 3, "metrics": [{"type": "Resource", "resource": CPU}]}

Json = dict[str, Any]
Values = dict[tuple[tuple[str, str], ...], float]


class Prometheus:
    """One that scrapes and evaluates every second."""

    def __init__(self, tools: PrometheusTools, directory: Path, targets: Mapping[str, list[str]]) -> None:
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        document = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        document["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        document["rule_files"] = [str(SHIPPED / pattern) for pattern in document["rule_files"]]
        for job in document["scrape_configs"]:
            job["static_configs"] = [{"targets": targets[job["job_name"]]}]
        directory.mkdir()
        (directory / "prometheus.yml").write_text(yaml.safe_dump(document))
        self._command = [
            str(tools.prometheus),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
        ]
        self._directory = directory

    @asynccontextmanager
    async def running(self) -> AsyncIterator[aiohttp.ClientSession]:
        process = ServerProcess.spawn(
            self._command, data_dir=self._directory, console=self._directory / "console.log", detached=False
        )
        try:
            async with aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=10)) as session:

                async def probe() -> bool:
                    try:
                        async with session.get("/-/ready") as response:
                            return response.status == 200
                    except aiohttp.ClientError:
                        return False

                await process.wait_ready(probe, name="Prometheus", deadline_s=60)
                yield session
        finally:
            await process.stop(grace_s=10)


async def ask(session: aiohttp.ClientSession, path: str, **parameters: str) -> Json:
    async with session.get(f"/api/v1/{path}", params=parameters) as response:
        document = await response.json()
    assert document["status"] == "success", document
    data: Json = document["data"]
    return data


async def values(session: aiohttp.ClientSession, query: str) -> Values:
    """By labels; NaN is a quantile of nothing, and no value."""
    found = (await ask(session, "query", query=query))["result"]
    every = {tuple(sorted(item["metric"].items())): float(item["value"][1]) for item in found}
    return {labels: value for labels, value in every.items() if not math.isnan(value)}


async def asked(session: aiohttp.ClientSession, query: str, is_so: Callable[[Values], bool]) -> None:
    """Until its answer is so: a service that is busy misses a scrape, and has no value until the next one."""

    async def right() -> bool:
        return is_so(await values(session, query))

    await until(right, lambda: values(session, query))


async def rules(session: aiohttp.ClientSession) -> list[Json]:
    return [rule for group in (await ask(session, "rules"))["groups"] for rule in group["rules"]]


async def until(what: Callable[[], Any], explain: Callable[[], Any], within: float = 90) -> None:
    deadline = time.monotonic() + within
    while not await what():
        assert time.monotonic() < deadline, await explain()
        await asyncio.sleep(0.5)


def place(service: ServiceProcess) -> str:
    return urlsplit(service.url).netloc


@asynccontextmanager
async def autoscaler(fleet: Fleet, directory: Path) -> AsyncIterator[ServiceProcess]:
    process = ServiceProcess("autoscaler", "services.autoscaler", fleet.local.common_environment(), directory)
    process.start()
    try:
        await process.wait_ready()
        yield process
    finally:
        await process.stop()


def targets(fleet: Fleet, scaling: ServiceProcess) -> dict[str, list[str]]:
    clusters = fleet.local.clusters
    assert isinstance(clusters, SimulatedClusters)
    assert clusters.simulator is not None
    found: dict[str, list[str]] = {
        "flotilla-autoscaler": [place(scaling)],
        "flotilla-simulator": [place(clusters.simulator)],
    }
    for name, service in fleet.local.services.items():
        found.setdefault(f"flotilla-{name.partition('-')[0]}", []).append(place(service))
    return found


@pytest.mark.parametrize("bed", ["simulated"], indirect=True)
async def test_what_ships_works_on_a_running_fleet(
    fleet: Fleet, prometheus_tools: PrometheusTools, tmp_path: Path
) -> None:
    async with autoscaler(fleet, tmp_path) as scaling:
        where = targets(fleet, scaling)
        await names_are_what_promtool_wants(prometheus_tools, [url for urls in where.values() for url in urls])
        async with Prometheus(prometheus_tools, tmp_path / "prometheus", where).running() as session:

            async def all_up() -> bool:
                up = await values(session, "up")
                return len(up) == sum(map(len, where.values())) and set(up.values()) == {1.0}

            await until(all_up, lambda: values(session, "up"))
            await exercise(fleet, session)
            await every_recording_rule_has_a_value(session)
            await asked(session, "sum(flotilla_scheduler_leader)", lambda found: found == {(): 1})
            await asked(session, "flotilla_service_ready", lambda found: set(found.values()) == {1.0})
            await asked(session, 'flotilla_reader_lag_records{reader="autoscaler-windows"}', bool)
            await the_refused_record_is_an_alert(fleet, session)
            await every_panel_shows_something(session)
            assert [rule["name"] for rule in await rules(session) if rule["health"] != "ok"] == []


async def names_are_what_promtool_wants(tools: PrometheusTools, places: Sequence[str]) -> None:
    """What each service really tells, its labels and the client's own metrics included."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for at in places:
            async with session.get(f"http://{at}/metrics") as response:
                text = await response.read()
            checking = await asyncio.create_subprocess_exec(
                tools.promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
            )
            async with asyncio.timeout(60):
                said, _ = await checking.communicate(text)
            assert checking.returncode == 0, said.decode()


async def exercise(fleet: Fleet, session: aiohttp.ClientSession) -> None:
    """One workload of each kind; and another once the series of the hops are there, since a rate needs two values."""
    scaled = {**workload("watched", resources={"requests": {"cpu": "100m"}}), "scaling": SCALING}
    key = await fleet.apply(scaled)
    await fleet.until_phase(key, Phase.RUNNING)

    async def hops() -> bool:
        return len(await values(session, "flotilla_status_hop_seconds_count")) >= 4

    await until(hops, lambda: values(session, "flotilla_status_hop_seconds_count"))
    other = await fleet.apply(workload("watched-too"))
    await fleet.until_phase(other, Phase.RUNNING)
    await fleet.delete(other)
    await fleet.until_phase(other, Phase.DELETED)


async def every_recording_rule_has_a_value(session: aiohttp.ClientSession) -> None:
    recorded = [rule["name"] for rule in await rules(session) if rule["type"] == "recording"]
    assert len(recorded) > 20

    async def missing() -> list[str]:
        return [name for name in recorded if not await values(session, name)]

    async def none_missing() -> bool:
        return not await missing()

    await until(none_missing, missing)


def panels() -> dict[tuple[str, str, str], str]:
    """The query of each line, by dashboard, panel and legend."""
    documents = {file.stem: json.loads(file.read_text()) for file in DASHBOARDS}
    return {
        (name, panel["title"], target["legendFormat"]): target["expr"]
        for name, document in documents.items()
        for panel in document["panels"]
        for target in panel["targets"]
    }


async def every_panel_shows_something(session: aiohttp.ClientSession) -> None:
    queries = panels()
    assert len(queries) > 60
    assert queries.keys() >= NOTHING_TO_SHOW

    async def empty() -> set[tuple[str, str, str]]:
        return {line for line, query in queries.items() if not await values(session, query)} - NOTHING_TO_SHOW

    async def none_empty() -> bool:
        return not await empty()

    async def told() -> str:
        return "\n".join(map(str, sorted(await empty())))

    await until(none_empty, told)


async def the_refused_record_is_an_alert(fleet: Fleet, session: aiohttp.ClientSession) -> None:
    await fleet.send(NewRecord(REQUESTS.name, b"e2e/nonsense", b"{", ()))

    async def firing() -> bool:
        alerts = (await ask(session, "alerts"))["alerts"]
        return any(
            (alert["labels"]["alertname"], alert["labels"].get("topic"), alert["state"])
            == ("FlotillaDeadLetters", REQUESTS.name, "firing")
            for alert in alerts
        )

    await until(firing, lambda: ask(session, "alerts"))
