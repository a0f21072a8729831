"""From zero and back by the lag of a queue: watcher, scheduler and autoscaler as processes, a real broker, a simulated
cluster whose external metrics API says the lag."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.simulator.asked_metrics import MetricValue
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup
from shared.adapters.kafka import KafkaLog
from shared.events.topics import PLACEMENTS, SAMPLING, SCALING, commands_topic
from shared.ports.event_log import Record
from shared.runtime.embedded import EmbeddedKafka
from tests.autoscaling import CLUSTER, Json, ServiceProcess, apply_record, follow, scaled_workload, until
from tests.integration.autoscaler.test_service import body, log, scaled_to, send, wants

__all__ = ["log"]
pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LAG: Json = {
    "type": "External",
    "external": {
        "metric": {"name": "lag", "selector": {"matchLabels": {"topic": "orders"}}},
        "target": {"type": "AverageValue", "averageValue": "10"},
    },
}


def lag(amount: int) -> tuple[MetricValue, ...]:
    return (MetricValue(type="External", metric="lag", value=str(amount), labels={"topic": "orders"}),)


async def test_a_workload_comes_back_from_zero(broker: EmbeddedKafka, log: KafkaLog, tmp_path: Path) -> None:
    kubeconfigs = tmp_path / "clusters"
    fast = {"FLOTILLA_WATCHER_METRICS_S": "0.5", "FLOTILLA_AUTOSCALER_STALE_S": "4"}
    watching = {"FLOTILLA_WATCHER_KUBECONFIG_DIR": str(kubeconfigs), "FLOTILLA_WATCHER_HEARTBEAT_S": "1", **fast}
    processes = [
        ServiceProcess("watcher", tmp_path, broker.bootstrap, **watching),
        ServiceProcess("scheduler", tmp_path, broker.bootstrap),
        ServiceProcess("autoscaler", tmp_path, broker.bootstrap, "run", **fast),
    ]
    publisher = await log.publisher("test")
    scaling, commands = await follow(log, SCALING.name), await follow(log, commands_topic(CLUSTER).name)
    placements, sampling = await follow(log, PLACEMENTS.name), await follow(log, SAMPLING.name)
    try:
        async with Simulator(kubeconfig_dir=kubeconfigs) as simulator:
            await simulator.add_cluster(ClusterSpec(name=CLUSTER, node_groups=(NodeGroup(count=2),)))
            simulator.measure(CLUSTER, lag(0))
            for process in processes:
                await process.start()
            await send(publisher, apply_record(scaled_workload(metrics=[LAG], minReplicas=0)))
            asked = await until(sampling, lambda record: record.key == b"default/web")
            assert body(asked)["metrics"][0]["selector"] == "topic=orders"
            await until(scaling, wants(0))
            decided = await until(placements, lambda record: scaled_to(record) == 0)
            assert body(decided)["placement"]["podSets"][0]["desired"] == 0
            simulator.measure(CLUSTER, lag(35))
            said = body(await until(scaling, wants(4)))["podSets"][0]
            assert said["before"] == 0
            assert said["reason"] == "external metric lag above target"
            assert said["conditions"][0] == {
                "type": "ScalingActive",
                "status": True,
                "reason": "ValidMetricFound",
                "message": "the HPA was able to successfully calculate a replica count from external metric lag",
            }
            await until(commands, lambda record: b'"replicas":4' in (record.value or b""))
            # An adapter that is gone scales nothing, and is told of.
            simulator.measure(CLUSTER, ())
            told = body(await until(scaling, _is_not_served))["podSets"][0]
            assert told["replicas"] == 4
            simulator.measure(CLUSTER, lag(0))
            await until(scaling, wants(0))
            await until(placements, lambda record: scaled_to(record) == 0)
            await send(publisher, apply_record(scaled_workload()))
            await until(sampling, lambda record: record.key == b"default/web" and record.value is None)
        for process in processes:
            assert await process.end() == 0
    finally:
        for process in processes:
            await process.close()
        await publisher.close()
        for reader in (scaling, commands, placements, sampling):
            await reader.close()


def _is_not_served(record: Record) -> bool:
    """Not only that samples came late, as they may on a busy machine."""
    pod_sets = body(record).get("podSets", ())
    reasons = {item["reason"] for pod_set in pod_sets for item in pod_set.get("conditions", ())}
    said = any("external.metrics.k8s.io is not served" in pod_set.get("error", "") for pod_set in pod_sets)
    return record.key == b"default/web" and "FailedGetExternalMetric" in reasons and said
