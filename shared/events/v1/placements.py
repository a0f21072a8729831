"""`fleet.placements`: for every workload its latest decision, derived from the journal.

A tombstone means that the workload is gone; its generation is in its header `fleet_seq`. What has the higher generation
counts, whichever stands last; the leader publishes that again, so that it stands last. A request that was refused for a
workload that does not exist appears as a record with a `rejection` and no `placement`, followed by a tombstone.
"""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.decisions import RequestRejected, WorkloadPlaced
from shared.model.base import Value


def is_ended(generation: int, *, deleting: bool, by: int | None) -> bool:
    """Whether a tombstone of generation `by` ends a placement that stands before it in the topic.

    A leader that does not know that it was replaced may repeat one behind what its successor has placed. One entry of
    the journal may end a workload and place another of its name: of one generation only what is being deleted ends.
    A tombstone of before there were generations ends everything.
    """
    return by is None or by > generation or (by == generation and deleting)


class PlacementPublished(Value):
    epoch: int
    generation: int = Field(description="offset of the decision in the journal")
    decided_at: int = Field(description="Unix milliseconds")
    placement: WorkloadPlaced | None = None
    rejection: RequestRejected | None = Field(default=None, description="the newest request, if it was refused")

    def is_ended(self, by: int | None) -> bool:
        """Whether a tombstone of generation `by` that stands behind it counts."""
        return is_ended(self.generation, deleting=self.placement is None or self.placement.deleting, by=by)
