"""Whether a cluster's executor holds the commands that were decided for it, purely.

What it does not hold is published again: a generation is content enough, since the journal gives it only once. What it
holds beyond that is left alone: a cluster stops running a workload when a command says so, never for the lack of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shared.events.v1.inventories import HeldSubject, InventoryReported
from shared.events.v1.placements import PlacementPublished

# How long a command may take from its decision to the executor: what is younger may be on its way.
GRACE_MS = 60_000


class HeldCommands:
    """What one executor holds, as it said."""

    def __init__(self, inventory: InventoryReported) -> None:
        self._cluster = inventory.cluster
        self._taken_at = inventory.reported_at
        self._held = {item.subject: item for item in inventory.subjects if item.commanded}

    def missing(self, published: Iterable[tuple[str, PlacementPublished]], before: int) -> Iterator[str]:
        """Of some workloads those whose newest command the executor does not hold; `before` is what was published."""
        for key, item in published:
            if item.generation < before and item.decided_at + GRACE_MS <= self._taken_at and self._is_asked(item):
                held = self._held.get(f"workload/{key}")
                if held is None or _is_older(held, item):
                    yield key

    def _is_asked(self, item: PlacementPublished) -> bool:
        placed = item.placement
        if placed is None:
            return False
        runs = any(share.cluster == self._cluster for pod_set in placed.pod_sets for share in pod_set.shares)
        return runs or self._cluster in placed.withdrawn


def _is_older(held: HeldSubject, item: PlacementPublished) -> bool:
    return held.generation < item.generation
