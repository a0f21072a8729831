"""Load profiles: how much of its request a pod uses at a moment. Pure.

A pod may say so itself by annotation: `simulator.flotilla.dev/load` has percents, each of which holds for
`simulator.flotilla.dev/load-seconds` (60) in turn, by the clock, so that all pods of a workload move in step.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.simulator.core.meta import Json
from services.simulator.core.quantities import quantity_milli, quantity_units
from services.simulator.spec import Load

LOAD = "simulator.flotilla.dev/load"
LOAD_SECONDS = "simulator.flotilla.dev/load-seconds"
_SECONDS_PER_MINUTE = 60
_OWN_SECONDS = 60.0


class LoadProfile(Protocol):
    @property
    def default_cpu(self) -> str:
        """What a container without a request is taken to ask for."""

    @property
    def default_memory(self) -> str:
        """Likewise."""

    def level(self, uid: str, now: float) -> float:
        """The fraction of its request that a pod uses."""


def _phase(uid: str) -> float:
    """A number in [0, 1) that belongs to a pod, so that pods do not move in step."""
    return int(uid[:8], 16) / (1 << 32)


@dataclass(frozen=True, slots=True)
class Constant:
    value: float
    default_cpu: str
    default_memory: str

    def level(self, uid: str, now: float) -> float:
        del uid, now
        return self.value


@dataclass(frozen=True, slots=True)
class Sine:
    mean: float
    amplitude: float
    period: float
    default_cpu: str
    default_memory: str

    def level(self, uid: str, now: float) -> float:
        angle = 2 * math.pi * (now / self.period + _phase(uid))
        return max(self.mean + self.amplitude * math.sin(angle), 0.0)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Series of percents; each pod follows one of them, and they repeat when they end."""

    times: Sequence[float]
    series: Sequence[Sequence[float]]
    default_cpu: str
    default_memory: str

    def level(self, uid: str, now: float) -> float:
        step = self.times[1] - self.times[0]
        position = int(now % (step * len(self.times)) / step)
        return self.series[int(_phase(uid) * len(self.series))][position] / 100


def read_series(path: Path) -> tuple[list[float], list[list[float]]]:
    """(seconds, series) of a CSV whose first column is minutes and whose others are percents.

    Raises:
        ValueError: fewer than two rows, or a cell that is not a number.
    """
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    minimum = 2
    if len(rows) < minimum or len(rows[0]) < minimum:
        raise ValueError(f"{path} needs a header, two rows and two columns")
    times = [float(row[0]) * _SECONDS_PER_MINUTE for row in rows]
    return times, [[float(row[column] or 0) for row in rows] for column in range(1, len(rows[0]))]


def make_profile(load: Load, recording: tuple[list[float], list[list[float]]] | None = None) -> LoadProfile:
    """The profile of a specification. A recorded one needs its series, which the caller reads."""
    if load.kind == "sine":
        return Sine(load.level, load.amplitude, load.period, load.default_cpu, load.default_memory)
    if load.kind == "recorded":
        if recording is None:
            raise ValueError("a recorded load needs a file")
        return Recorded(*recording, load.default_cpu, load.default_memory)
    return Constant(load.level, load.default_cpu, load.default_memory)


def _own_level(pod: Json, now: float) -> float | None:
    """None where it says nothing that can be read."""
    annotations = pod["metadata"].get("annotations") or {}
    if LOAD not in annotations:
        return None
    try:
        percents = [float(item) for item in annotations[LOAD].split(",")]
        seconds = float(annotations.get(LOAD_SECONDS, _OWN_SECONDS))
    except ValueError:
        return None
    if not seconds > 0 or not all(0 <= percent < math.inf for percent in percents):
        return None
    return percents[int(now / seconds) % len(percents)] / 100


def pod_usage(load: LoadProfile, pod: Json, now: float) -> Iterator[tuple[str, int, int]]:
    """(container, cpu in billionths of a core, memory in KiB) for each container."""
    own = _own_level(pod, now)
    level = load.level(pod["metadata"]["uid"], now) if own is None else own
    for container in pod["spec"]["containers"]:
        requests = (container.get("resources") or {}).get("requests") or {}
        cpu = quantity_milli(requests.get("cpu", load.default_cpu))
        memory = quantity_units(requests.get("memory", load.default_memory))
        yield container["name"], int(cpu * 1_000_000 * level), int(memory * level) // 1024
