"""Requests follow what is used: a workload that asks for far too much is rolled to what it needs, and goes on running.

Simulated clusters, everything else as processes over the broker. What the autoscaler has learned over days stands in
the log before it starts, as its predecessor would have told it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from services.autoscaler.decision.vertical.estimates import recommended
from services.autoscaler.decision.vertical.use import ContainerUse, Instance
from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.process import ServiceProcess
from shared.events.registry import decode
from shared.events.topics import SCALING, USAGE
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.status import Phase, WorkloadStatus
from shared.events.v1.usage import PodSetLearned, UsageLearned
from shared.ports.event_log import START, NewRecord
from tests.autoscaling import command
from tests.e2e.harness import Fleet, Json, followed, workload

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

REPLICAS = 4
MIB = 1 << 20
# Its pods use 50 of the 2000 thousandths of a core that they ask for.
PERCENT, USED_MILLI, USED_MEMORY = 2.5, 50, 400 * MIB
_MINUTE_MS = 60_000
_DAYS = 3
_WITHIN_S = 90.0
_ENVIRONMENT = {"FLOTILLA_WATCHER_METRICS_S": "2"}
_AUTOSCALER = {
    "FLOTILLA_AUTOSCALER_EVALUATION_PERIOD_S": "1",
    "FLOTILLA_AUTOSCALER_VERTICAL_PERIOD_S": "1",
    "FLOTILLA_AUTOSCALER_REMEMBER_S": "2",
}


@pytest_asyncio.fixture
async def fleet(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """One with a broker of its own; `kafka_bootstrap` and `redis_url` say whether the machine can run one."""
    del kafka_bootstrap, redis_url
    clusters = [
        {"name": f"sim-{n}", "nodeGroups": [{"name": "pool", "count": 1, "cpu": "32", "memory": "64Gi"}]}
        for n in range(2)
    ]
    specification = tmp_path / "clusters.yaml"
    specification.write_text(yaml.safe_dump({"clusters": [*clusters, {"name": "hub", "controllers": False}]}))
    source = SimulatedClusters(tmp_path / "clusters", specification)
    options = FleetOptions(tmp_path, source, environment=_ENVIRONMENT)
    async with LocalFleet(options) as local, followed(local, Path("kubectl")) as running:
        yield running


def oversized() -> Json:
    annotations = {"simulator.flotilla.dev/load": str(PERCENT)}
    requests, limits = {"cpu": "2", "memory": "4Gi"}, {"cpu": "4", "memory": "4Gi"}
    container = {"name": "app", "image": "nginx", "resources": {"requests": requests, "limits": limits}}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}
    document = workload("big", replicas=REPLICAS, template=template)
    del document["podSets"][0]["image"]
    policies = [{"containerName": "app", "minAllowed": {"memory": "512Mi"}}]
    return {
        **document,
        "vertical": {"updatePolicy": {"updateMode": "Recreate"}, "resourcePolicy": {"containerPolicies": policies}},
    }


def learned(uid: str) -> UsageLearned:
    """What three days of a sample a minute teach."""
    now_ms, use, instance = round(time.time() * 1000), ContainerUse(), Instance()
    for minute in range(_DAYS * 24 * 60):
        use.add(instance, USED_MILLI, USED_MEMORY, now_ms - (_DAYS * 24 * 60 - minute) * _MINUTE_MS)
    container = use.told("app", recommended(use, 1))
    return UsageLearned(uid=uid, learned_at=now_ms, pod_sets=(PodSetLearned(name="main", containers=(container,)),))


@asynccontextmanager
async def autoscaler(fleet: Fleet, directory: Path) -> AsyncIterator[ServiceProcess]:
    environment = {**fleet.local.common_environment(), **_AUTOSCALER}
    process = ServiceProcess("autoscaler", "services.autoscaler", environment, directory)
    process.start()
    try:
        await process.wait_ready()
        yield process
    finally:
        await process.stop()


def condition(status: WorkloadStatus) -> tuple[str, str] | None:
    return next(((item.status, item.reason) for item in status.conditions if item.type == "RequestsApplied"), None)


async def test_what_asks_for_far_too_much_gets_what_it_needs(fleet: Fleet, tmp_path: Path) -> None:
    key = await fleet.apply(oversized())
    before = await fleet.until(key, lambda status: status.phase is Phase.RUNNING and status.ready == REPLICAS)
    record = NewRecord(USAGE.name, key.encode(), learned(before.uid).to_json(), ())
    await fleet.send(record)
    async with autoscaler(fleet, tmp_path):
        after = await fleet.until(key, lambda status: status.generation > before.generation, within=_WITHIN_S)
        await fleet.until_true(lambda: _rolled(fleet), "all pods are others", within=_WITHIN_S)
        after = await fleet.until(key, lambda status: _is_rolled(status, after.generation), within=_WITHIN_S)
        assert (after.uid, after.workload_generation, after.phase) == (
            before.uid,
            before.workload_generation,
            "Running",
        )
        assert min(step.phase is not Phase.DEGRADED for step in fleet.history[key])
        given = await _resources(fleet)
        assert given == [given[0]] * REPLICAS
        milli = int(given[0]["requests"]["cpu"].removesuffix("m"))
        assert USED_MILLI < milli < 100
        # In proportion to what was stated, and not below what is allowed.
        assert given[0]["limits"]["cpu"] == f"{2 * milli}m"
        assert (given[0]["requests"]["memory"], given[0]["limits"]["memory"]) == ("512Mi", "512Mi")
        said = await fleet.until(key, lambda status: condition(status) == ("True", "AsRecommended"), within=_WITHIN_S)
        explained = await fleet.why(key)
        (pod_set,) = explained["podSets"]
        assert pod_set["requested"]["containers"][0]["requests"] == {"cpu": milli, "memory": 512 * MIB}
        assert explained["scaling"]["requests"][0]["reason"] == "OutsideRecommendedRange"
        # Each decision on it stands in the journal, and follows from what is said there.
        code, text = await command(
            fleet.local.kafka, "services.autoscaler", "replay", "--workload", key, "--to", str(2**62), **_AUTOSCALER
        )
        assert code == 0, text
        assert f"{key}\trequested\tequal" in text
        # It was rolled once: the phases since then say so, and nothing is asked anew.
        await asyncio.wait_for(_looked(fleet, key, said.updated_at), _WITHIN_S)
        assert fleet.statuses[key].generation == after.generation


async def _resources(fleet: Fleet) -> list[Json]:
    pods = [pod for found in (await fleet.pods("big")).values() for pod in found]
    return [pod["spec"]["containers"][0]["resources"] for pod in pods]


async def _rolled(fleet: Fleet) -> bool:
    given = await _resources(fleet)
    return len(given) == REPLICAS and all(item["requests"]["cpu"] != "2" for item in given)


def _is_rolled(status: WorkloadStatus, generation: int) -> bool:
    """Whether every cluster has what was decided, and all of it is ready."""
    applied = all(part.applied and (part.generation or 0) >= generation for part in status.clusters)
    pods = sum(part.counts.pods for part in status.clusters)
    return applied and status.phase is Phase.RUNNING and status.ready == REPLICAS == pods


async def _looked(fleet: Fleet, key: str, since_ms: int) -> None:
    """Until the autoscaler has told again what it thinks of the workload."""
    reader = await fleet.log.reader("vertical-scaling")
    try:
        await reader.assign(dict.fromkeys(await fleet.log.partitions(SCALING.name), START))
        while True:
            for record in await reader.read(timeout_s=1.0):
                own = record.key == key.encode() and record.value is not None
                if own and decode(WorkloadScaled, record.value).evaluated_at > since_ms:
                    return
    finally:
        await reader.close()
