"""Every service with its own account on a broker that enforces `deploy/kafka/acls.yaml`: nothing is refused to it.

And what it has no business with is refused: agents cannot command, an executor reads no other cluster's commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import SimulatedClusters
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.acls import HOSTED_EXECUTOR
from shared.events.topics import DECISIONS, OBJECTS, RESULTS, SCALING_DECIDED, commands_topic
from shared.events.v1.status import Phase
from shared.ports.event_log import LogError, NewRecord
from shared.runtime.embedded import EmbeddedKafka
from shared.runtime.embedded.kafka_config import KafkaConfig
from shared.runtime.embedded.network import LOOPBACK, free_ports
from tests.autoscaling import CPU, command, follow, until
from tests.e2e.harness import Fleet, workload
from tests.integration.test_topics import run

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.kafka]

ACCOUNTS = {
    "scheduler": "scheduler",
    "status": "status",
    "hub": "hub",
    "autoscaler": "autoscaler",
    "watcher": "watcher",
    "executor": "executor-east",
}
CLUSTERS = {
    "clusters": [
        {"name": "east", "nodeGroups": [{"name": "a", "count": 2}]},
        {"name": "hub", "controllers": False, "nodeGroups": []},
    ]
}


def guarded(port: int, controller: int, clients: int) -> KafkaConfig:
    """A broker whose port for clients asks who they are; the other one's users, who are nobody, may do everything."""
    users = " ".join(f'user_{name}="{name}-secret"' for name in (*ACCOUNTS.values(), HOSTED_EXECUTOR, "cli"))
    listeners = {"BROKER": port, "CONTROLLER": controller, "CLIENTS": clients}
    urls = {name: f"{name}://{LOOPBACK}:{number}" for name, number in listeners.items()}
    overrides = {
        "listeners": ",".join(urls.values()),
        "advertised.listeners": f"{urls['BROKER']},{urls['CLIENTS']}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
        f"required {users};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    return KafkaConfig(port=port, controller_port=controller, overrides=overrides)


def environment(account: str, bootstrap: str) -> dict[str, str]:
    return {
        "FLOTILLA_KAFKA_BOOTSTRAP": bootstrap,
        "FLOTILLA_KAFKA_SECURITY": "SASL_PLAINTEXT",
        "FLOTILLA_KAFKA_SASL_MECHANISM": "PLAIN",
        "FLOTILLA_KAFKA_USERNAME": account,
        "FLOTILLA_KAFKA_PASSWORD": f"{account}-secret",
    }


async def make_topics_and_acls(bootstrap: str) -> None:
    """As the chart's hook does; twice, as an upgrade does."""
    for _ in range(2):
        code, said = await run(bootstrap, FLOTILLA_TOPICS_ACLS="true", FLOTILLA_TOPICS_CLUSTERS="east,west")
        assert code == 0, said


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Fleet, str]]:
    """A fleet, and where its services reach the broker. The session's servers are asked for to notice missing parts."""
    del kafka_bootstrap
    directory = tmp_path_factory.mktemp("acls")
    ports = free_ports(3)
    clients = f"{LOOPBACK}:{ports[2]}"
    async with EmbeddedKafka(directory / "kafka", config=guarded(*ports)) as broker:
        admin = KafkaOptions(bootstrap=broker.bootstrap)
        await make_topics_and_acls(broker.bootstrap)
        log = await KafkaLog.connect(admin, "acls")
        specification = directory / "clusters.yaml"
        specification.write_text(yaml.safe_dump(CLUSTERS))
        options = FleetOptions(
            directory / "fleet",
            SimulatedClusters(directory / "clusters", specification),
            services=tuple(ACCOUNTS),
            kafka=broker.bootstrap,
            redis=redis_url,
            own={service: environment(account, clients) for service, account in ACCOUNTS.items()},
        )
        async with LocalFleet(options) as local:
            running, ready = Fleet(local, log, Path()), asyncio.Event()
            following = asyncio.create_task(running.follow(ready))
            await asyncio.wait_for(ready.wait(), 30)
            yield running, clients
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await log.close()


async def test_the_fleet_works_and_nothing_is_refused(fleet: tuple[Fleet, str]) -> None:
    running, _ = fleet
    key = await running.apply(workload("web", namespace="shop", replicas=2))
    await running.until_phase(key, Phase.RUNNING)
    await running.delete(key)
    await running.until_phase(key, Phase.DELETED)
    refused = {
        name: [line for line in service.log.read_text().splitlines() if "uthorization" in line][:3]
        for name, service in running.local.services.items()
    }
    assert not any(refused.values()), refused


async def test_whoever_asks_sees_decisions_and_they_are_derived_again(fleet: tuple[Fleet, str]) -> None:
    running, clients = fleet
    journal = await follow(running.log, DECISIONS.name)
    scaling = {"scaling": {"maxReplicas": 3, "metrics": [CPU]}}
    key = await running.apply(workload("scaled", namespace="shop", replicas=2) | scaling)
    await running.until_phase(key, Phase.RUNNING)
    await until(journal, lambda record: record.header("ce_type") == SCALING_DECIDED.ce_type.encode())
    await journal.close()
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    asked = (("get",), ("why", "shop/scaled"), ("why", "shop/scaled", "--at", later))
    for arguments in asked:
        code, text = await command(clients, "services.cli", *arguments, **environment("cli", clients))
        assert code == 0, text
        assert "shop/scaled" in text
    assert "autoscaler, at " in text
    code, text = await command(clients, "services.autoscaler", "replay", **environment("autoscaler", clients))
    assert (code, text.splitlines()[-1]) == (0, "1 equal, 0 different, 0 unchecked")
    await running.delete(key)


@pytest.mark.parametrize("account", ["watcher", "executor-east", HOSTED_EXECUTOR, "status", "hub"])
async def test_nobody_but_the_control_plane_commands(fleet: tuple[Fleet, str], account: str) -> None:
    log = await connected(account, fleet[1])
    try:
        publisher = await log.publisher(account)
        with pytest.raises(LogError, match="Authorization"):
            await (await publisher.send(NewRecord(commands_topic("east").name, b"workload/a/b", b"{}")))
        await publisher.close()
    finally:
        await log.close()


async def test_an_executor_sees_neither_another_cluster_s_commands_nor_the_fleet_s_objects(
    fleet: tuple[Fleet, str],
) -> None:
    await fleet[0].log.ensure_topics([commands_topic("west")])
    log = await connected("executor-east", fleet[1])
    try:
        for topic in (commands_topic("west"), OBJECTS):
            with pytest.raises(LogError, match="Authorization"):
                await log.partitions(topic.name)
        assert await log.partitions(commands_topic("east").name)
    finally:
        await log.close()


async def test_an_executor_of_clusters_that_are_made_sees_every_cluster_s_commands_and_no_more(
    fleet: tuple[Fleet, str],
) -> None:
    """Also of one that came after the ACLs."""
    clusters = ("east", "made-later")
    await fleet[0].log.ensure_topics([commands_topic(name) for name in clusters])
    log = await connected(HOSTED_EXECUTOR, fleet[1])
    try:
        for name in clusters:
            assert await log.partitions(commands_topic(name).name)
        assert await log.partitions(RESULTS.name)
        with pytest.raises(LogError, match="Authorization"):
            await log.partitions(OBJECTS.name)
    finally:
        await log.close()


async def connected(account: str, bootstrap: str) -> KafkaLog:
    options = replace(
        KafkaOptions(bootstrap=bootstrap, security="SASL_PLAINTEXT", sasl_mechanism="PLAIN"),
        username=account,
        password=f"{account}-secret",
        timeout_s=10.0,
    )
    return await KafkaLog.connect(options, account)
