"""Whether a cluster's executor holds the commands that were decided for it, purely.

What it does not hold is published again: a generation is content enough, since the journal gives it only once. What it
holds beyond that is left alone: a cluster stops running a workload when a command says so, never for the lack of one.
Only a withdrawal that it has carried out, and that nobody asks for any more, is buried again: a leader that did not yet
know of its end may have left it behind its tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from shared.events.v1.inventories import InventoryReported
from shared.events.v1.placements import PlacementPublished
from shared.model.identities import WORKLOAD_SUBJECT

# How long a command may take from its decision to the executor: what is younger may be on its way.
GRACE_MS = 60_000


def is_asked(published: PlacementPublished, cluster: str) -> bool:
    """Whether a cluster has a command of it: to run its share, or to withdraw it."""
    return published.placement is not None and cluster in published.placement.commanded


class HeldCommands:
    """What one executor holds, as it said."""

    def __init__(self, inventory: InventoryReported) -> None:
        self._cluster = inventory.cluster
        self._taken_at = inventory.reported_at
        self._held = {item.subject: item for item in inventory.subjects if item.commanded}

    def missing(self, published: Iterable[tuple[str, PlacementPublished]], before: int) -> Iterator[str]:
        """Of some workloads those whose newest command the executor does not hold; `before` is what was published."""
        for key, item in published:
            if (
                item.generation < before
                and item.decided_at + GRACE_MS <= self._taken_at
                and is_asked(item, self._cluster)
            ):
                held = self._held.get(f"{WORKLOAD_SUBJECT}{key}")
                if held is None or held.generation < item.generation:
                    yield key

    def carried_out(self, published: Mapping[str, PlacementPublished], before: int) -> Iterator[str]:
        """Workloads that it holds a withdrawal of, with nothing left to do and nothing asked here any more."""
        for subject, held in self._held.items():
            key = subject.removeprefix(WORKLOAD_SUBJECT)
            item = published.get(key)
            done = key != subject and held.outcome == "withdrawn" and held.generation < before
            if done and (item is None or not is_asked(item, self._cluster)):
                yield key
