"""Workloads through kubectl, their whole way, with the real kubectl against both kinds of hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Fleet
from tests.testbed import KubectlError

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka]


async def columns(fleet: Fleet, *arguments: str) -> dict[str, str]:
    """The one line of a table by its headings; empty while there is no such object."""
    lines = (await fleet.hub_kubectl(*arguments, "--ignore-not-found")).splitlines()
    if not lines:
        return {}
    head, line = lines
    # A column without a value is blank, so the headings say where each begins.
    starts = [match.start() for match in re.finditer(r"\S+", head)]
    ends: list[int | None] = [*starts[1:], None]
    names = head.split()
    return {name: line[start:end].strip() for name, start, end in zip(names, starts, ends, strict=True)}


async def test_a_workload_goes_its_whole_way_through_kubectl(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    document: dict[str, Any] = {
        "apiVersion": "cluster.k8s.io/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "kubectl-web", "namespace": "default"},
        "spec": {"podSets": [{"name": "app", "replicas": 2, "image": "nginx"}]},
    }
    file.write_text(json.dumps(document))
    await fleet.hub_kubectl("apply", "-f", str(file))

    async def runs(ready: str, image: str) -> bool:
        line = await columns(fleet, "get", "wl", "kubectl-web")
        if (line.get("PHASE"), line.get("READY")) != ("Running", ready):
            return False
        pods = [pod for items in (await fleet.pods("kubectl-web", "default")).values() for pod in items]
        return {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}

    await fleet.until_true(lambda: runs("2/2", "nginx"), "two replicas of nginx")
    document["spec"]["podSets"][0] |= {"replicas": 4, "image": "nginx:1.29"}
    file.write_text(json.dumps(document))
    await fleet.hub_kubectl("apply", "-f", str(file))
    await fleet.until_true(lambda: runs("4/4", "nginx:1.29"), "four replicas of the new image")

    # kubectl waits by itself until the finalizer is off, which is when the fleet let go of it.
    await fleet.hub_kubectl("delete", "-f", str(file), "--timeout=60s")
    assert await fleet.pods("kubectl-web", "default") == {}


async def test_a_workload_of_the_topic_is_seen_and_deleted_with_kubectl(fleet: Fleet) -> None:
    body = {"namespace": "e2e", "name": "of-the-topic", "podSets": [{"name": "main", "replicas": 1, "image": "nginx"}]}
    await fleet.apply(body)

    async def runs() -> bool:
        line = await columns(fleet, "get", "wl", "of-the-topic", "-n", "e2e")
        return line.get("PHASE") == "Running"

    await fleet.until_true(runs, "the workload appears and runs")
    await fleet.hub_kubectl("delete", "wl", "of-the-topic", "-n", "e2e", "--timeout=60s")
    assert await fleet.pods("of-the-topic") == {}


async def test_what_is_wrong_is_told(fleet: Fleet) -> None:
    document = {
        "apiVersion": "cluster.k8s.io/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "nothing-runs", "namespace": "default"},
        "spec": {"podSets": [{"name": "app", "replicas": 2}]},
    }
    with pytest.raises(KubectlError, match="exactly one of image, template and manifest must be given"):
        await fleet.hub_kubectl("create", "-f", "-", stdin=json.dumps(document))
