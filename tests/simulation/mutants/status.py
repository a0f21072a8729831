"""Defects of the status service: what it says too early, too late, or though it cannot know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest.mock import patch

from services.status.decision import assess
from services.status.decision.clusters import Roster
from services.status.read_model import ReadModel
from services.status.session import Session
from shared.ports.event_log import Record
from tests.simulation.generator import HURRY, NONSENSE
from tests.simulation.mutants.mutant import mutant


@mutant("running early", faults=(HURRY, "slow_log:watcher", "stale_api"))
def pods_of_a_former_generation_count() -> Iterator[None]:
    """A rollout is called finished when it has not begun: the old pods are ready, and they are taken for the new."""
    with patch.object(assess, "_outdated", return_value=False):
        yield


@mutant("silent and well", faults=("outage:watcher",))
def a_silent_cluster_is_taken_as_healthy() -> Iterator[None]:
    """The last thing that a watcher said is believed for as long as it says nothing."""
    with (
        patch.object(Roster, "fall_silent", return_value=()),
        patch.object(Roster, "silent", lambda self, cluster: self.get(cluster) is None),
    ):
        yield


@mutant("untold", faults=(NONSENSE, "lossy_appends:status"))
def positions_are_stored_before_anything_is_told() -> Iterator[None]:
    """Commit before effect: what a batch led to dies with the process, and no successor reads that batch again."""
    original = Session._step

    async def step(self: Session, records: Sequence[Record]) -> None:
        if self._intake.live:
            await self._commit()
        await original(self, records)

    with patch.object(Session, "_step", step):
        yield


@mutant("read model", faults=("wipe_store",))
def a_wiped_store_is_not_noticed() -> Iterator[None]:
    """Redis came back empty, and only what changes from then on is written to it."""

    async def as_left(self: ReadModel) -> bool:
        del self
        return True

    with patch.object(ReadModel, "_as_left", as_left):
        yield
