"""What a replica costs an hour, by the prices of nodes.

Its price on a node is the node's price times the largest part that it asks of anything that the node has (of `pods` as
well, so that nothing is free that takes a place), and the whole of it at most: its dominant share of the node. The
prices of pods that fill a node in one resource add up to no less than the node's.

Prices are counted in billionths, rounded down, so that sums are exact whatever their order: three replicas at 0.1 cost
0.3, and not a little more. Rounding is in favour of the workload, by less than a billionth for each replica.
"""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.table.arrays import IntArray
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Request

UNIT = 1_000_000_000
# No replica counts for more than that: sums of many stay exact.
_MOST = 2.0**53


def replica_prices(table: NodeTable, request: Request) -> IntArray:
    """By row, whatever runs there."""
    vector = request.vector
    columns = np.flatnonzero(vector > 0)
    part = vector[columns] / np.maximum(table.allocatable[:, columns], 1)
    share = np.minimum(part.max(axis=1, initial=0.0), 1.0)
    return np.asarray(np.minimum(table.price * share * UNIT, _MOST).astype(np.int64))


def counted(price: float) -> int:
    """A price as it is counted."""
    return round(price * UNIT)


def price_of(count: int) -> float:
    return count / UNIT


def in_words(count: int) -> str:
    """To the millionth, without zeros at the end."""
    return f"{count / UNIT:.6f}".rstrip("0").rstrip(".")
