"""docker-compose.yml and the images, really built and run: from nothing to healthy, the README's session, and away."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import ROOT, Engine, EngineMissingError, NotPreparedError, running_engine
from tests.e2e.test_kubectl_session import MYCLUSTER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = "flotilla-test"
OURS = {"scheduler", "scheduler-standby", "autoscaler", "status", "hub", "simulator", "watcher", "executor"}
MEMBERS = {"onprem", "cloud-a", "cloud-b"}

# Prints how many compiled functions a scheduler has, and which of them were not read from the image.
AWS_CLIENTS = "import boto3; [boto3.Session(region_name='eu-west-1').client(s) for s in ('autoscaling', 'eks', 'sts')]"
COMPILED = """
import sys, services.scheduler.bootstrap
from numba.core.dispatcher import Dispatcher
ours = [m for name, m in tuple(sys.modules.items()) if name.startswith("services.")]
found = {f.py_func.__qualname__: f for m in ours for f in vars(m).values() if isinstance(f, Dispatcher)}
print(len(found), *(name for name, f in found.items() if not f.stats.cache_hits or f.stats.cache_misses))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        with running_engine() as engine:
            yield engine
    except NotPreparedError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    except EngineMissingError as error:
        pytest.skip(str(error))


def compose(engine: Engine, *arguments: str, seconds: float = 60) -> str:
    return engine.docker("compose", "-p", PROJECT, *arguments, seconds=seconds)


def leftovers(engine: Engine) -> dict[str, list[str]]:
    """All that the engine has, whoever made it."""
    return {
        "containers": engine.docker("ps", "-aq").split(),
        "volumes": engine.docker("volume", "ls", "-q").split(),
        "networks": engine.docker("network", "ls", "-q").split(),
    }


@pytest.fixture(scope="module")
def fleet(engine: Engine) -> Iterator[Engine]:
    """The whole fleet, healthy. Behind it nothing may be left."""
    compose(engine, "down", "-v", "--remove-orphans", seconds=120)
    before = leftovers(engine)
    try:
        compose(engine, "up", "--build", "--wait", "--wait-timeout", "240", seconds=500)
        yield engine
    except AssertionError:
        sys.stderr.write(compose(engine, "logs", "--tail", "15"))
        raise
    finally:
        compose(engine, "down", "-v", seconds=120)
        assert leftovers(engine) == before


def until(what: str, look: Callable[[], bool], within: float = 120) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def containers(fleet: Engine) -> dict[str, dict[str, Any]]:
    """What the engine says of each container, by service."""
    found = json.loads(fleet.docker("inspect", *compose(fleet, "ps", "-aq").split()))
    return {item["Config"]["Labels"]["com.docker.compose.service"]: item for item in found}


def test_everything_is_healthy(fleet: Engine) -> None:
    states = {name: item["State"]["Health"]["Status"] for name, item in containers(fleet).items()}
    assert states == dict.fromkeys(OURS | {"kafka", "redis"}, "healthy")


def test_the_session_of_the_readme(fleet: Engine, testbed_binaries: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mycluster.yaml").write_text(MYCLUSTER)

    def kubectl(*arguments: str) -> str:
        return fleet.inside(
            str(testbed_binaries["kubectl"]),
            *arguments,
            KUBECONFIG=str(ROOT / "deploy" / "docker" / "hub.kubeconfig"),
            KUBECACHEDIR=str(tmp_path / "cache"),
        )

    def members() -> set[str]:
        rows = [row.split() for row in kubectl("get", "clusters", "--no-headers").splitlines()]
        return {row[0] for row in rows if row[1] == "True"}

    until("three clusters joined and are ready", lambda: members() >= MEMBERS)
    assert "mycluster created" in kubectl("create", "-f", str(tmp_path / "mycluster.yaml"))

    def runs() -> bool:
        row = kubectl("get", "workloads", "mycluster", "--no-headers", "--ignore-not-found").split()
        return row[:4] == ["mycluster", "Running", "3/3", "mycluster"]

    until("the workload runs in its cluster", runs)
    until("the cluster is ready", lambda: "mycluster" in members())
    command = [sys.executable, "-m", "services.cli", "get"]
    told = fleet.inside(*command, FLOTILLA_KAFKA_BOOTSTRAP="127.0.0.1:9092", COLUMNS="200")
    assert "default/mycluster" in told, "by the broker's published port"
    assert fleet.inside("curl", "-fsS", "http://127.0.0.1:18080/workload/default/mycluster").startswith("{")
    kubectl("delete", "cluster", "mycluster", "--timeout=60s")


def test_nobody_is_root_or_may_write(fleet: Engine) -> None:
    for name, item in containers(fleet).items():
        if name in OURS:
            assert item["Config"]["User"] == "65532:65532", name
            assert item["HostConfig"]["ReadonlyRootfs"], name
            assert item["HostConfig"]["CapDrop"] == ["ALL"], name
            # Nothing but Python is needed to run, stop or ask it.
            assert item["Config"]["Entrypoint"] == ["python3", "-m"], name
            assert item["Config"]["Healthcheck"]["Test"][0] == "CMD", name
    published = [
        binding["HostIp"]
        for item in containers(fleet).values()
        for bindings in item["HostConfig"]["PortBindings"].values()
        for binding in bindings
    ]
    assert published == ["127.0.0.1"] * 3


def test_the_scheduler_compiles_nothing(fleet: Engine) -> None:
    number, *compiled = compose(fleet, "exec", "-T", "scheduler", "python3", "-c", COMPILED).split()
    assert int(number) > 20
    assert compiled == []


def test_every_profile_is_well_formed(engine: Engine) -> None:
    """Their images cannot be had where there is no registry."""
    found = set(engine.docker("compose", "--profile", "*", "config", "--services").split())
    assert found >= OURS | {"prometheus", "grafana", "k3s-3", "watcher-k3s-3", "executor-k3s-3"}


def test_an_agent_is_the_same_when_built_again(engine: Engine) -> None:
    """The control plane takes the same steps, and minutes."""

    def build(*more: str) -> str:
        file = ["-f", "deploy/docker/agent.Dockerfile", "-q", "--build-arg", "REVISION=test", *more, "."]
        return engine.docker("build", *file, seconds=200, SOURCE_DATE_EPOCH="1700000000")

    first = build()
    # All of AWS that node groups need is in it, though most of AWS is not.
    engine.docker("run", "--rm", "--read-only", "--entrypoint", "python3", first.strip(), "-c", AWS_CLIENTS)
    assert build("--no-cache") == first
    engine.docker("rmi", first.strip())
