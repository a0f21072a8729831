"""`fleet.inventories`: what each cluster's executor holds, of all that was asked of it.

A report of `fleet.results` tells what became of one command once. An inventory says, again and again, how things are:
whoever knows what was asked (the scheduler, the status service) compares, and sees a command that never arrived, one
that was overtaken, and objects that nobody asks for any more.
"""

from __future__ import annotations

from pydantic import Field

from shared.model.base import Value


class HeldSubject(Value):
    """One subject in one cluster. Without a command (`commanded`) its objects are left over, and nobody's."""

    subject: str
    generation: int = Field(description="of its command; of the newest that its objects were written for, without one")
    digest: str = Field(default="", description="of its command")
    commanded: bool = True
    outcome: str = Field(default="", description="what was last reported of it, by this process; empty if nothing")
    objects: int = Field(default=0, description="objects in the cluster that carry its mark")


class InventoryReported(Value):
    """All that an executor holds. The next one is due after `interval_ms`, changed or not."""

    cluster: str
    reported_at: int = Field(description="Unix milliseconds")
    interval_ms: int
    digest: str = Field(
        description="sum modulo 2^128 of the BLAKE2b-128 hashes of `<subject>\\0<generation>/<digest>/<outcome>`, of "
        "all subjects, in hexadecimal"
    )
    subjects: tuple[HeldSubject, ...] = ()
