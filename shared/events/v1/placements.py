"""`fleet.placements`: for every workload its latest decision, derived from the journal.

A tombstone means that the workload is gone. A request that was refused for a workload that does not exist appears
as a record with a `rejection` and no `placement`, followed by a tombstone.
"""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.decisions import RequestRejected, WorkloadPlaced
from shared.model.base import Value


class PlacementPublished(Value):
    epoch: int
    generation: int = Field(description="offset of the decision in the journal")
    decided_at: int = Field(description="Unix milliseconds")
    placement: WorkloadPlaced | None = None
    rejection: RequestRejected | None = Field(default=None, description="the newest request, if it was refused")
