"""Defects of how the log is written and read."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from tests.simulation.broker import Broker
from tests.simulation.mutants.mutant import mutant


@mutant(
    "lost",
    "unanswered",
    "not ended",
    "fleet.commands",
    "fleet.placements",
    "fleet.objects",
    "fleet.status",
    faults=("lose_broker",),
)
def one_replica_acknowledges() -> Iterator[None]:
    """`acks=1`: a broker that is cut off acknowledges what its followers never get, and its successor lacks it."""
    with patch.object(Broker, "acks_all", False):
        yield
