"""The lease of a cluster's executor: for how long it may let workloads run that others may have to take over.

The executor asks, in `fleet.results`; the leader answers with an entry of its journal, and the executor reads that in
its command topic, behind every command that was decided before. So a lease proves that both ways are open, and that
whoever answered still led. The executor counts from when it asked, the scheduler from when it read that: whatever is on
its way makes no lease longer. Only the rate of the two clocks has to agree, to a few in a hundred.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from shared.model.base import Value

# The subject of requests and answers, beside those of workloads.
LEASE_SUBJECT: Final = "lease"
LEASE_MS: Final = 15_000
# Asked for this often, so that a lost answer or two do no harm.
RENEW_MS: Final = 4_000


class LeaseAsked(Value):
    """`life` is that of the process, `number` rises with each request: an answer counts for the request it names."""

    life: str
    number: int = Field(ge=1)
    subjects: tuple[str, ...] = Field(default=(), description="what is commanded to run under the lease")


class LeaseGranted(Value):
    """The answer, for as many of the subjects as are placed in the cluster by the journal up to here."""

    cluster: str
    life: str
    number: int = Field(ge=1)
    subjects: tuple[str, ...] = ()
