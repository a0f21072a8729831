"""What the day of `tests.bench.day` asks for: recorded CPU use, divided among workloads, and the fleet it may use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.bench.nodes import FAMILIES, GIBI

SLOT_MS = 300_000
DAY_MS = 86_400_000
# The HorizontalPodAutoscaler's target, in percent of what a replica requests, and the most that it uses.
TARGET = 60
MOST_USED = 2.0
# What a machine of the recording has, in thousandths of a core.
_MACHINE = 4_000
_REQUESTS = (500, 1000, 2000)
_GIBI_OF_CORE = (1, 2, 4)

# By cluster what a node costs there, in parts of what it costs in the cheapest: as one cloud's regions differ.
CLUSTERS = {"aurora": 1.0, "borealis": 1.11, "cirrus": 1.29, "dune": 1.59}
# Families and sizes of `tests.bench.nodes`.
KINDS = (("compute", 8), ("general", 4), ("general", 16), ("memory", 8))
# The cores of one kind in one cluster, in parts of what the day needs at its peak: of a cluster that is 0.8.
_PART = 0.2


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of one kind in one cluster, `most` of them at most: what pods may use of one, and its price an hour."""

    cluster: str
    name: str
    cpu: int
    memory: int
    pods: int
    price: float
    most: int


@dataclass(frozen=True, slots=True)
class Served:
    """A workload: what each replica requests (thousandths of a core, bytes), and in thousandths of a core what its load
    comes to, by slot of five minutes."""

    name: str
    cpu: int
    memory: int
    load: tuple[float, ...]

    @property
    def key(self) -> str:
        return f"default/{self.name}"

    def at(self, since_ms: int) -> float:
        """Before the day begins the load is as it begins."""
        return self.load[min(max(since_ms, 0) // SLOT_MS, len(self.load) - 1)]

    def replicas(self, load: float) -> int:
        """How many take that much at their target."""
        return max(1, math.ceil(load / (self.cpu * TARGET / 100)))


def served(machines: Sequence[Sequence[float]], seed: int, count: int) -> list[Served]:
    """Every machine's use in percent belongs to one of so many workloads, at random."""
    rng = Random(seed)
    order = rng.sample(machines, len(machines))
    size = len(order) // count
    found = []
    for number in range(count):
        mine = order[size * number : size * (number + 1)]
        cpu = rng.choice(_REQUESTS)
        load = tuple(_MACHINE * sum(values) / 100 for values in zip(*mine, strict=True))
        found.append(Served(f"w{number:02d}", cpu, cpu * rng.choice(_GIBI_OF_CORE) * GIBI // 1000, load))
    return found


def peak(workloads: Sequence[Served]) -> float:
    """The most that the day needs at once at the target, in thousandths of a core."""
    return max(map(sum, zip(*(item.load for item in workloads), strict=True))) * 100 / TARGET


def fleet_for(needed: float) -> list[Group]:
    """Clusters of which each could do with 0.8 of what is needed. What a node reserves is about what clouds say."""
    groups = []
    for cluster, dearer in CLUSTERS.items():
        for family, cores in KINDS:
            each, price = FAMILIES[family]
            groups.append(
                Group(
                    cluster=cluster,
                    name=f"{family}-{cores}",
                    cpu=cores * 1000 - 100,
                    memory=cores * each * GIBI * 15 // 16,
                    pods=110,
                    price=round(cores * price * dearer, 4),
                    most=math.ceil(_PART * needed / (1000 * cores)),
                )
            )
    return groups
