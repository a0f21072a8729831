"""Which processes a fleet consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.process import Process

# The hub's cluster, and the beginning of its services' names.
HUB = "hub"


@dataclass(slots=True, eq=False)
class Slot:
    """One service of the fleet, through all its lives. `clusters` are those of an agent."""

    kind: str
    name: str
    clusters: tuple[str, ...] = ()
    incarnation: int = 0
    process: Process | None = None
    skew_ms: int = 0


def slots_of(clusters: Sequence[str], agents: str, schedulers: int, hubs: int = 0) -> list[Slot]:
    groups = [(name, (name,)) for name in clusters] if agents == "each" else [("all", tuple(clusters))]
    pairs = [Slot(kind, f"{kind}-{name}", own) for kind in ("watcher", "executor") for name, own in groups]
    return [
        *(Slot("scheduler", f"scheduler-{number}") for number in range(schedulers)),
        Slot("status", "status"),
        *pairs,
        *(Slot(HUB, f"{HUB}-{number}") for number in range(hubs)),
    ]
