"""The service on a log in memory: from who waits to the command, and who of several says it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest_asyncio

from services.autoscaler.replay.command import parse, replay
from services.autoscaler.settings import AutoscalerSettings
from services.autoscaler.shell import TOPICS
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog
from shared.events.registry import decode
from shared.events.topics import DECISIONS, NODE_GROUPS, NODES_DECIDED, WAITING, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.node_decisions import NodesDecided
from shared.events.v1.node_groups import PLAN_KEY, NodeGroupPlanned, NodesPlanned
from shared.events.v1.waiting import NodesAwaited
from shared.ports.event_log import Partition
from tests.node_groups import (
    CLUSTER,
    declared,
    group_json,
    heartbeat,
    node_at,
    node_json,
    placed_at,
    placement,
    pod_at,
    report_at,
    running_pod,
    workload_json,
)
from tests.unit.autoscaler.test_shell import Instance, until

SETTINGS = AutoscalerSettings(
    http_port=-1,
    autoscaler_silent_s=1.0,
    autoscaler_nodes_period_s=0.2,
    autoscaler_batch_idle_s=0.05,
    autoscaler_unneeded_s=0.4,
)
COMMANDS = commands_topic(CLUSTER)


@pytest_asyncio.fixture
async def log() -> AsyncIterator[MemoryLog]:
    log = MemoryLog(SystemClock())
    await log.ensure_topics([*TOPICS, COMMANDS])
    log.append(heartbeat(SystemClock().now_ms()))
    log.append(declared(group_json("small", price=1.0), group_json("large", price=3.0)))
    yield log


def commands(log: MemoryLog) -> list[CommandIssued]:
    return [decode(CommandIssued, r.value) for r in log.segment(Partition(COMMANDS.name, 0)).records if r.value]


def sizes(log: MemoryLog) -> list[tuple[str, int, tuple[str, ...]]]:
    found = [item.node_group for item in commands(log)]
    return [(item.group, item.size, item.remove) for item in found if item is not None]


def awaited(log: MemoryLog) -> list[str | None]:
    """The reasons that workloads were told; None for a tombstone."""
    records = log.segment(Partition(WAITING.name, 0)).records
    return [decode(NodesAwaited, r.value).reason if r.value else None for r in records]


def planned(log: MemoryLog, key: str = f"{CLUSTER}/small") -> list[NodeGroupPlanned]:
    records = log.segment(Partition(NODE_GROUPS.name, 0)).records
    return [decode(NodeGroupPlanned, r.value) for r in records if r.key == key.encode() and r.value]


async def test_who_waits_gets_nodes_and_a_restart_orders_nothing_again(log: MemoryLog) -> None:
    first = Instance(log, SETTINGS)
    await until(lambda: bool(planned(log)))
    assert (planned(log)[-1].generation, commands(log)) == (0, [])
    log.append(placed_at(placement(workload_json(replicas=5), desired=5)))
    await until(lambda: sizes(log) == [("small", 2, ())])
    (order,) = commands(log)
    assert order.digest == planned(log)[-1].digest
    # Of who waits, and gets a node, nobody has to be told; the plan stands beside the groups.
    assert any(r.key == PLAN_KEY.encode() for r in log.segment(Partition(NODE_GROUPS.name, 0)).records)
    log.append(report_at(order))
    await until(lambda: planned(log)[-1].confirmed)
    await first.stop()
    second = Instance(log, SETTINGS)
    log.append(node_at("n0", node_json()))
    log.append(node_at("n1", node_json()))
    shares = {CLUSTER: ["n0"] * 3 + ["n1"] * 2}
    log.append(placed_at(placement(workload_json(replicas=5), desired=5, shares=shares), generation=2))
    await until(lambda: planned(log)[-1].there == 2)
    assert sizes(log) == [("small", 2, ())]
    # What nobody needs any more goes, by name.
    log.append(placed_at(placement(workload_json(replicas=1), desired=1, shares={CLUSTER: ["n0"]}), generation=3))
    await until(lambda: sizes(log)[-1] == ("small", 1, ("n1",)))
    await second.stop()


async def test_a_group_without_stock_is_left_for_another(log: MemoryLog) -> None:
    instance = Instance(log, SETTINGS)
    log.append(placed_at(placement(workload_json(replicas=3), desired=3)))
    await until(lambda: sizes(log) == [("small", 1, ())])
    log.append(report_at(commands(log)[0], reason="OutOfStock", outcome="failed"))
    await until(lambda: len(sizes(log)) == 3)
    assert sorted(sizes(log)[1:]) == [("large", 1, ()), ("small", 0, ())]
    await instance.stop()


async def test_who_waits_is_told_whether_nodes_come_and_a_restart_says_nothing_again(log: MemoryLog) -> None:
    log.append(declared(group_json("tiny", cpu="500m")))
    first = Instance(log, SETTINGS)
    log.append(placed_at(placement(workload_json(replicas=3), desired=3)))
    await until(lambda: awaited(log) == ["NoGroupFits"])
    log.append(declared(group_json("small")))
    await until(lambda: awaited(log) == ["NoGroupFits", "Ordered"])
    await first.stop()
    at = log.segment(Partition(NODE_GROUPS.name, 0)).records[-1].offset
    second = Instance(log, SETTINGS)
    log.append(node_at("n0", node_json()))
    await until(lambda: log.segment(Partition(NODE_GROUPS.name, 0)).records[-1].offset > at)
    assert awaited(log) == ["NoGroupFits", "Ordered"]
    log.append(placed_at(placement(workload_json(replicas=3), desired=3, shares={CLUSTER: ["n0"] * 3}), generation=2))
    await until(lambda: awaited(log) == ["NoGroupFits", "Ordered", None])
    await second.stop()


async def test_an_order_waits_for_its_clusters_topic_and_ends_with_its_group() -> None:
    log = MemoryLog(SystemClock())
    await log.ensure_topics(TOPICS)
    log.append(heartbeat(SystemClock().now_ms()))
    log.append(declared(group_json("small")))
    log.append(placed_at(placement(workload_json(), desired=1)))
    instance = Instance(log, SETTINGS)
    await until(lambda: bool(planned(log)) and planned(log)[-1].generation == 1)
    await log.ensure_topics([COMMANDS])
    await until(lambda: sizes(log) == [("small", 1, ())])
    log.append(declared())
    await until(lambda: log.segment(Partition(COMMANDS.name, 0)).records[-1].value is None)
    await instance.stop()


async def test_orders_stand_in_the_journal_before_and_a_replay_makes_them_again(log: MemoryLog) -> None:
    instance = Instance(log, SETTINGS)
    log.append(placed_at(placement(workload_json(replicas=5), desired=5)))
    await until(lambda: sizes(log) == [("small", 2, ())])
    log.append(report_at(commands(log)[0], reason="OutOfStock", outcome="failed"))
    await until(lambda: len(sizes(log)) == 3)
    await instance.stop()
    made = decisions(log)
    ordered = [(item.group, item.generation, item.digest) for plan in made for item in plan.groups if item.generation]
    for command in commands(log):
        assert command.node_group is not None
        assert (command.node_group.group, command.generation, command.digest) in ordered
    # A plan by which nothing is another is none, and there were many of them.
    assert len(made) < 6
    lines: list[str] = []
    assert await replay(log, SystemClock(), SETTINGS, parse(["--all"]), lines.append) == 0
    assert lines[-1].endswith(" equal, 0 different, 0 unchecked\n")
    lines.clear()
    await replay(log, SystemClock(), SETTINGS, parse(["--nodegroup", f"{CLUSTER}/large"]), lines.append)
    assert lines[0].split("\t")[1:] == [f"{CLUSTER}/large", "planned", "equal\n"]


async def test_that_pods_get_no_node_is_decided_too_but_not_all_the_time(log: MemoryLog) -> None:
    log.append(declared(group_json("tiny", cpu="500m")))
    settings = SETTINGS.model_copy(update={"autoscaler_remember_s": 0.5})
    instance = Instance(log, settings)
    log.append(placed_at(placement(workload_json(replicas=2), desired=2)))
    await until(lambda: any(item.plan is not None and item.plan.unplaced for item in decisions(log)))
    # Who gets none changes with every plan.
    for number in range(8):
        count = len(plans(log))
        waits = running_pod(waits=True, owner="", metadata={"labels": {"n": str(number)}})
        log.append(pod_at(f"w{number}", waits))
        await until(lambda count=count: len(plans(log)) > count)  # type: ignore[misc]
    await instance.stop()
    at = [item.basis.at for item in decisions(log) if item.plan is not None and item.plan.unplaced]
    assert all(after - before >= 500 for before, after in pairwise(at))
    assert len(decisions(log)) < len(plans(log))
    lines: list[str] = []
    assert await replay(log, SystemClock(), settings, parse(["--all"]), lines.append) == 0


def decisions(log: MemoryLog) -> list[NodesDecided]:
    records = log.segment(Partition(DECISIONS.name, 0)).records
    kind = NODES_DECIDED.ce_type.encode()
    return [decode(NodesDecided, record.value) for record in records if record.header("ce_type") == kind]


def plans(log: MemoryLog) -> list[NodesPlanned]:
    """What was told of who gets no node."""
    records = log.segment(Partition(NODE_GROUPS.name, 0)).records
    return [decode(NodesPlanned, r.value) for r in records if r.key == PLAN_KEY.encode() and r.value]
