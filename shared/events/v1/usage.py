"""`fleet.usage`: what the autoscaler has learned of workloads over days (docs/adr/0029).

Metrics are kept for hours, so what takes days to learn is told itself, seldom, and read again at a start.
"""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.forecasts import DemandHistory
from shared.model.base import Value


class UsageLearned(Value):
    """Of the workload `uid` alone: one that was deleted and made again is learned anew."""

    uid: str
    learned_at: int = Field(description="Unix milliseconds")
    pod_set: str = Field(default="", description="the one that is scaled")
    demand: DemandHistory | None = Field(default=None, description="of a workload with a forecast")
