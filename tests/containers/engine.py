"""A Docker engine without an image registry: that of ../shared/tools/containers, started where it does not run."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("FLOTILLA_CONTAINER_TOOLS", ROOT.parent / "shared" / "tools" / "containers"))
HOME = Path(os.environ.get("CTR", Path.home() / ".cache" / "containers"))
BASES = ("python:3.11-slim", "redis:7", "apache/kafka:4.1.0")


class EngineMissingError(Exception):
    """Why containers cannot be run here."""


class NotPreparedError(EngineMissingError):
    """They could be, and nobody has run `.ci/containers`."""


class Engine:
    """Runs `docker` and, in the engine's network namespace, where published ports are, anything else."""

    def __init__(self) -> None:
        self.environment = {
            **os.environ,
            "PATH": f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "DOCKER_CONFIG": str(HOME / "cfg"),
            "DOCKER_HOST": f"unix://{HOME / 'docker.sock'}",
            "CTR": str(HOME),
        }

    def docker(self, *arguments: str, seconds: float = 60, **environment: str) -> str:
        """What it prints. Raises AssertionError with its complaint."""
        return self._run(["docker", *arguments], seconds, environment)

    def inside(self, *command: str, seconds: float = 90, **environment: str) -> str:
        """The same for a command beside the engine."""
        return self._run(["bash", str(TOOLS / "dockerd.sh"), "exec", *command], seconds, environment)

    @property
    def answers(self) -> bool:
        done = subprocess.run(["docker", "version"], env=self.environment, capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    def control(self, verb: str) -> None:
        """Starts or stops the engine."""
        with (HOME / "control.log").open("a") as out:
            command = ["bash", str(TOOLS / "dockerd.sh"), verb]
            subprocess.run(command, env=self.environment, stdout=out, stderr=out, timeout=90, check=True)

    def _run(self, command: list[str], seconds: float, environment: Mapping[str, str]) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout


@contextmanager
def running_engine() -> Iterator[Engine]:
    """The engine, for one test run of this machine at a time. Raises EngineMissingError, NotPreparedError."""
    if os.geteuid() != 0:
        raise EngineMissingError("containers need root")
    if not (TOOLS / "dockerd.sh").is_file():
        raise EngineMissingError(f"{TOOLS} is not there")
    if (HOME / "unable").is_file():
        raise EngineMissingError((HOME / "unable").read_text().strip())
    if not (HOME / "bin" / "dockerd").is_file():
        raise NotPreparedError("no engine is installed: run .ci/containers")
    with (HOME / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest's own limit ends a wait that is too long
        engine = Engine()
        started = not engine.answers
        if started:
            engine.control("start")
        try:
            if not set(BASES) <= set(engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()):
                raise NotPreparedError("base images are missing: run .ci/containers")
            yield engine
        finally:
            if started:
                engine.control("stop")
