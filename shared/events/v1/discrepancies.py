"""`fleet.discrepancies`: somebody who reads `fleet.objects` holds something else than its watcher has published.

The finder has read the topic anew before it says so: it is the log that differs. The cluster's watcher hears of it,
finds out by object what differs, and publishes that again. Nobody is called, and nobody waits for an answer.
"""

from __future__ import annotations

from pydantic import Field

from shared.model.base import Value


class DiscrepancyFound(Value):
    cluster: str
    resource: str = Field(description="group/version/resource")
    epoch: int = Field(description="of the watcher whose digest it is; a later incarnation has published all anew")
    found_at: int = Field(description="Unix milliseconds")
    expected_objects: int
    expected_digest: str
    found_objects: int
    found_digest: str
