"""Node groups: scheduler and autoscaler as processes on a real broker; the test is the cluster and its executor."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from services.cli.fleet.requesting import request_record
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, NODE_GROUPS, commands_topic
from shared.events.v1.commands import CommandIssued, NodeGroupOrder
from shared.events.v1.node_groups import PLAN_KEY, NodesPlanned
from shared.events.v1.requests import WorkloadRequested
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL
from shared.ports.event_log import NewRecord, Publisher, Reader, Record
from shared.runtime.embedded import EmbeddedKafka
from tests.autoscaling import ServiceProcess, apply_record, command, follow, until
from tests.node_groups import (
    CLUSTER,
    declared,
    group_json,
    heartbeat,
    node_at,
    node_json,
    pod_at,
    report_at,
    running_pod,
    workload_json,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(480)]
SETTINGS = {
    "FLOTILLA_AUTOSCALER_NODES_PERIOD_S": "0.5",
    "FLOTILLA_AUTOSCALER_BATCH_IDLE_S": "0.2",
    "FLOTILLA_AUTOSCALER_UNNEEDED_S": "3",
}
OURS = {WORKLOAD_LABEL: "web", WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}


@pytest_asyncio.fixture
async def log(broker: EmbeddedKafka) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=broker.bootstrap), "test")
    await log.ensure_topics([*ALL_TOPICS, commands_topic(CLUSTER)])
    yield log
    await log.close()


async def send(publisher: Publisher, *records: NewRecord) -> None:
    await publisher.send_many(records)
    await publisher.flush()


class Orders:
    """What is ordered, as the cluster's executor reads it."""

    def __init__(self, commands: Reader) -> None:
        self._commands = commands
        self.last: dict[str, CommandIssued] = {}

    async def next(self) -> tuple[str, int, tuple[str, ...]]:
        record = await until(self._commands, lambda record: (record.key or b"").startswith(b"nodegroup/"))
        command = decode(CommandIssued, record.value)
        order = command.node_group
        assert isinstance(order, NodeGroupOrder)
        before = self.last.get(order.group)
        # Whoever is asked sees that it is another, and a newer one.
        assert before is None or before.digest != command.digest
        assert before is None or (command.epoch, command.generation) > (before.epoch, before.generation)
        self.last[order.group] = command
        return order.group, order.size, order.remove


def gets_no_node(record: Record) -> bool:
    return record.key == PLAN_KEY.encode() and bool(decode(NodesPlanned, record.value).unplaced)


async def test_nodes_come_for_who_waits_and_go_when_nobody_needs_them(
    broker: EmbeddedKafka, log: KafkaLog, tmp_path: Path
) -> None:
    scheduler = ServiceProcess("scheduler", tmp_path, broker.bootstrap)
    autoscaler = ServiceProcess("autoscaler", tmp_path, broker.bootstrap, "run", **SETTINGS)
    publisher = await log.publisher("test")
    commands, told = await follow(log, commands_topic(CLUSTER).name), await follow(log, NODE_GROUPS.name)
    orders = Orders(commands)
    try:
        await scheduler.start()
        await autoscaler.start()
        await send(publisher, heartbeat(int(time.time() * 1000)), apply_record(workload_json(replicas=3)))
        # A group whose nodes are too small is none for them: no order, and the plan says so.
        await send(publisher, declared(group_json("tiny", cpu="500m")))
        await until(told, gets_no_node)
        groups = group_json("tiny", cpu="500m"), group_json("small", price=1.0), group_json("large", cpu="8", price=3.0)
        await send(publisher, declared(*groups))
        assert await orders.next() == ("small", 1, ())
        await send(publisher, report_at(orders.last["small"], outcome="failed", reason="OutOfStock"))
        assert sorted([await orders.next(), await orders.next()]) == [("large", 1, ()), ("small", 0, ())]
        await send(publisher, *(report_at(order) for order in orders.last.values()))
        await send(publisher, node_at("l0", node_json("large", cpu="8")))
        # The scheduler puts them there, and somebody else starts them.
        await until(commands, lambda record: b'"replicas":3' in (record.value or b""))
        labels = {"labels": OURS}
        await send(publisher, *(pod_at(f"web-{n}", running_pod("l0", metadata=labels)) for n in range(3)))
        explained = await explain(broker, "east/large")
        assert "1 nodes" in explained
        assert "PodsWait" in explained
        assert "price" in explained
        at = datetime.now(UTC).isoformat()
        # The next one begins with what the log says, and orders nothing again.
        await autoscaler.end(signal.SIGKILL)
        await autoscaler.start()
        end = WorkloadRequested.model_validate({"operation": "delete", "workload": {"name": "web"}})
        await send(publisher, *request_record(end, source="test")[:1], *(pod_at(f"web-{n}", None) for n in range(3)))
        assert await orders.next() == ("large", 0, ("l0",))
        await send(publisher, node_at("l0", None))
        assert await orders.next() == ("large", 0, ())
        # Of the past it is explained as it was then, and each order follows from what stands in its decision.
        assert "from 0 to 1" in await explain(broker, "east/large", "--at", at)
        assert "l0 goes since" not in await explain(broker, "east/large", "--at", at)
        assert "NotNeeded: l0 goes" in await explain(broker, "east/large")
        code, text = await command(broker.bootstrap, "services.autoscaler", "replay", "--all", **SETTINGS)
        assert code == 0, text
        assert " 0 different, 0 unchecked" in text.splitlines()[-1]
        assert sum("east/large\tplanned\tequal" in line for line in text.splitlines()) >= 3
        assert await autoscaler.end(signal.SIGTERM) == 0
        assert await scheduler.end(signal.SIGTERM) == 0
    finally:
        for process in (autoscaler, scheduler):
            await process.close()
        await publisher.close()
        for reader in (commands, told):
            await reader.close()


async def explain(broker: EmbeddedKafka, key: str, *more: str) -> str:
    """What `flotilla why nodegroup` prints."""
    code, text = await command(broker.bootstrap, "services.cli", "why", "nodegroup", key, *more)
    assert code == 0, text
    return text
