"""What the executor makes of an API server that throttles, fails, is slow, or loses its watches."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.simulator.faults import FaultSpec
from shared.adapters.kubernetes import KubernetesApi
from shared.events.v1.commands import CommandIssued
from shared.model.identities import Resource
from shared.ports.cluster_api import ClusterApi, Object
from shared.runtime.clusters import Connect
from tests.integration.executor.conftest import CLUSTER, Bed
from tests.integration.executor.support import CONFIG_MAPS, DEPLOYMENTS, Running, find, until
from tests.unit.executor.builders import command, config_map, deployment


def many(bed: Bed, count: int, *, generation: int, image: str = "nginx:1") -> list[CommandIssued]:
    return [
        command(
            generation + number,
            deployment(f"web-{number}", image=image),
            config_map(f"web-{number}", key=image),
            subject=f"workload/{bed.namespace}/web-{number}",
            cluster=CLUSTER,
        )
        for number in range(count)
    ]


async def all_applied(executor: Running, commands: list[CommandIssued]) -> None:
    for item in commands:
        await executor.until_reported(item.subject, "applied", item.generation, within=60)


async def test_retry_after_is_waited_for(simulated: Bed) -> None:
    assert simulated.simulator is not None
    async with Running(simulated.source, CLUSTER) as executor:
        spec = FaultSpec(throttle_rate=1.0, retry_after_seconds=2, methods=("PATCH",), path_contains="deployments")
        simulated.simulator.inject(CLUSTER, spec)
        started = time.monotonic()
        (issued,) = many(simulated, 1, generation=1)
        executor.issue(issued)
        report = await executor.until_reported(issued.subject, "failed")
        assert [(f.kind, f.reason) for f in report.failures] == [("Deployment", "TooManyRequests")]
        simulated.simulator.inject(CLUSTER, None)
        await executor.until_reported(issued.subject, "applied", 1)
        assert time.monotonic() - started >= 2.0


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_half_of_all_writes_fail_and_everything_is_applied(simulated: Bed, status: int) -> None:
    assert simulated.simulator is not None
    async with Running(simulated.source, CLUSTER) as executor:
        simulated.simulator.inject(CLUSTER, FaultSpec(error_rate=0.5, error_status=status, methods=("PATCH",)))
        commands = many(simulated, 20, generation=1)
        executor.issue(*commands)
        await all_applied(executor, commands)
        for number in range(20):
            assert await _until_found(simulated, f"web-{number}")


async def test_drift_while_the_watch_was_away_is_repaired(simulated: Bed) -> None:
    assert simulated.simulator is not None
    async with Running(simulated.source, CLUSTER) as executor:
        (issued,) = many(simulated, 1, generation=1)
        executor.issue(issued)
        await executor.until_reported(issued.subject, "applied", 1)
        # No watch is answered while objects change, and afterwards the changes are too old to be told.
        simulated.simulator.inject(CLUSTER, FaultSpec(error_rate=1.0, error_status=503, methods=("GET",)))
        simulated.simulator.drop_watches(CLUSTER)
        await simulated.api.delete(DEPLOYMENTS, simulated.namespace, "web-0")
        await simulated.api.merge_patch(CONFIG_MAPS, simulated.namespace, "web-0", {"data": {"key": "wrong"}})
        simulated.simulator.compact(CLUSTER)
        simulated.simulator.inject(CLUSTER, None)

        async def repaired() -> bool:
            settings = await simulated.api.get(CONFIG_MAPS, simulated.namespace, "web-0")
            found = await find(simulated.api, DEPLOYMENTS, simulated.namespace, "web-0")
            return found is not None and settings["data"]["key"] == "nginx:1"

        await until(repaired, "both objects are put right", within=60)


async def test_a_slow_server_gets_no_second_request_for_the_same_object(simulated: Bed) -> None:
    """New commands and wake-ups during a slow apply wait for its end: one subject, one worker."""
    assert simulated.simulator is not None
    async with Running(simulated.source, CLUSTER) as executor:
        simulated.simulator.inject(CLUSTER, FaultSpec(latency_seconds=0.5, methods=("PATCH",)))
        for generation in range(1, 6):
            executor.issue(*many(simulated, 1, generation=generation, image=f"nginx:{generation}"))
        (last,) = many(simulated, 1, generation=5, image="nginx:5")
        await executor.until_reported(last.subject, "applied", 5)
        found = await simulated.api.get(DEPLOYMENTS, simulated.namespace, "web-0")
        assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:5"
        assert found["metadata"]["generation"] <= 3


async def test_a_subject_whose_calls_hang_holds_up_no_other(simulated: Bed) -> None:
    assert simulated.simulator is not None
    async with Running(simulated.source, CLUSTER, executor_workers=4) as executor:
        warm = many(simulated, 1, generation=1)
        executor.issue(*warm)
        await all_applied(executor, warm)
        slow = FaultSpec(latency_seconds=60.0, methods=("PATCH",), path_contains="/deployments/web-1")
        simulated.simulator.inject(CLUSTER, slow)
        commands = many(simulated, 9, generation=10)
        executor.issue(*commands)
        started = time.monotonic()
        await all_applied(executor, [item for item in commands if not item.subject.endswith("web-1")])
        # A call that hangs is given up after thirty seconds.
        assert time.monotonic() - started < 25
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 25, "a call that hangs does not keep the service from stopping"


async def _until_found(bed: Bed, name: str) -> bool:
    """Looks through the injected faults."""
    assert bed.simulator is not None
    bed.simulator.inject(CLUSTER, None)
    return await find(bed.api, DEPLOYMENTS, bed.namespace, name) is not None


async def test_a_defect_in_one_subjects_turn_is_reported_and_stops_no_other(simulated: Bed) -> None:
    """Any exception that is no answer of the API server is a defect: here, of the adapter."""

    class Defective:
        async def scan(self) -> dict[str, Connect]:
            async def connect() -> ClusterApi:
                api = await KubernetesApi.from_kubeconfig(simulated.kubeconfig)
                apply = api.apply

                async def broken(resource: Resource, namespace: str, name: str, *rest: Any) -> Object:
                    if name == "web-0":
                        raise ZeroDivisionError("a defect")
                    return await apply(resource, namespace, name, *rest)

                api.apply = broken  # type: ignore[method-assign, assignment]
                return api

            return {CLUSTER: connect}

    async with Running(Defective(), CLUSTER) as executor:
        commands = many(simulated, 5, generation=1)
        executor.issue(*commands)
        await all_applied(executor, commands[1:])
        report = await executor.until_reported(commands[0].subject, "failed", 1)
        assert report.reason == "InternalError"
        assert "a defect" in report.message
