"""The HorizontalPodAutoscaler of a real kube-controller-manager, and this one: the same at every evaluation.

Both see the same pods of a real cluster and the same samples, which follow recorded CPU series (`planetlab.csv`: every
half hour of three machines of PlanetLab on 2011-03-03, from `shared/data/planetlab`), with failures between them.
"""

from __future__ import annotations

import asyncio
import csv
import time
from itertools import pairwise
from pathlib import Path

import pytest

from services.autoscaler.decision.horizontal.terms import Defaults
from tests.integration.autoscaler.beside.played import played_metrics
from tests.integration.autoscaler.beside.twin import Fault, Json, Play, Twin
from tests.testbed import NodeShape, RealCluster
from tests.testbed.fixtures import MakeCluster

pytestmark = [pytest.mark.testbed, pytest.mark.slow]

EVALUATIONS = 40
DOWN_S = 4
_WITHIN_S = 200.0
_FLAGS = (
    "--horizontal-pod-autoscaler-sync-period=1s",
    f"--horizontal-pod-autoscaler-downscale-stabilization={DOWN_S}s",
)
_CPU: Json = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}


def series(machine: str, peak_milli: int) -> list[int]:
    """Thousandths of a core, where the machine's percent are parts of `peak_milli`."""
    with Path(__file__).with_name("planetlab.csv").open() as lines:
        return [int(row[machine]) * peak_milli // 100 for row in csv.DictReader(lines)][:EVALUATIONS]


# Kubernetes' own rates and the flag's window; samples come late, and fail to come.
PLAIN = Play(
    "plain",
    2,
    {"minReplicas": 1, "maxReplicas": 9, "metrics": [_CPU]},
    series("vm046", 450),
    {5: Fault.SILENT, 12: Fault.UNREADY, 13: Fault.UNREADY, 17: Fault.REFUSED, 18: Fault.REFUSED},
    first_unseen=True,
)
# Rates, windows and tolerances of its own.
BEHAVED = Play(
    "behaved",
    3,
    {
        "minReplicas": 2,
        "maxReplicas": 12,
        "metrics": [_CPU],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 2,
                "selectPolicy": "Min",
                "policies": [
                    {"type": "Pods", "value": 3, "periodSeconds": 4},
                    {"type": "Percent", "value": 70, "periodSeconds": 3},
                ],
                "tolerance": "50m",
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 3,
                "policies": [
                    {"type": "Pods", "value": 2, "periodSeconds": 3},
                    {"type": "Percent", "value": 20, "periodSeconds": 5},
                ],
                "tolerance": "200m",
            },
        },
    },
    series("vm141", 600),
    {9: Fault.REFUSED, 15: Fault.UNREADY, 21: Fault.SILENT},
)
# Two metrics, and more pods than its node takes: some are never measured.
CROWDED = Play(
    "crowded",
    1,
    {
        "minReplicas": 1,
        "maxReplicas": 11,
        "metrics": [
            {
                "type": "ContainerResource",
                "containerResource": {
                    "name": "cpu",
                    "container": "main",
                    "target": {"type": "AverageValue", "averageValue": "60m"},
                },
            },
            {
                "type": "Resource",
                "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 60}},
            },
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
    },
    series("vm071", 700),
    {7: Fault.UNREADY, 19: Fault.REFUSED},
    node_selector={"size": "small"},
)


async def test_the_same_at_every_evaluation(start_cluster: MakeCluster) -> None:
    flags = {"kube-controller-manager": _FLAGS}
    cluster = await start_cluster(RealCluster("hpa", nodes=2, flags=flags))
    await cluster.create_nodes(1, NodeShape(cpu="700m", labels={"size": "small"}), prefix="small")
    twins = {p.name: Twin(cluster, p, Defaults(down_stabilization_s=DOWN_S)) for p in (PLAIN, BEHAVED, CROWDED)}

    async def answer(selector: str) -> list[Json] | None:
        return await twins[selector.removeprefix("app=")].answer()

    began = time.monotonic()
    async with played_metrics(cluster, answer), asyncio.timeout(_WITHIN_S):
        await asyncio.gather(*(twin.create_deployment() for twin in twins.values()))
        await asyncio.gather(*(twin.create_autoscaler() for twin in twins.values()))
        await asyncio.gather(*(twin.done for twin in twins.values()))

    for name, twin in twins.items():
        counts = [replicas for replicas, _ in twin.history]
        print(f"{name}: {counts}, {twin.told} told, {time.monotonic() - began:.0f} s")
        assert len(counts) == EVALUATIONS
        # A series by which nothing moves would prove nothing.
        assert sum(one != other for one, other in pairwise(counts)) >= EVALUATIONS // 8
        assert len(set(counts)) > 3
        assert twin.told > EVALUATIONS // 2
