"""What drafts are made of: replicas that have a place, and how many more may find one in a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Why a pod set is short of replicas while there is a budget's worth of them to be placed again.
PLACING = "Placing"


class Budget:
    """How many replicas may still be placed in one call. `closed`: none, not even a whole gang.

    What is tried in vain (`vain`) counts for the workloads behind, and not for the rest of the same: it has been tried
    only when all of it was. Else it would be about to be placed for ever, without a replica more.
    """

    __slots__ = ("closed", "left", "vain")

    def __init__(self, left: int, *, closed: bool = False) -> None:
        self.left = 0 if closed else left
        self.closed = closed
        self.vain = 0

    def end_try(self) -> None:
        """All of a workload was tried."""
        self.left -= self.vain
        self.vain = 0

    @property
    def spent(self) -> bool:
        return self.left <= 0


@dataclass(slots=True, eq=False)
class Replica:
    """`node` is empty where nothing is held on nodes. `position` is its place in the present share, -1 if it is new."""

    cluster: str
    node: str = ""
    ordinal: int = 0
    position: int = -1


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a draft had come: its replicas, the holds in each cluster, and the choices that were noted."""

    replicas: int
    holds: Mapping[str, int]
    noted: dict[int, dict[str, Any]]


def by_cluster(replicas: Iterable[Replica]) -> dict[str, list[Replica]]:
    found: dict[str, list[Replica]] = {}
    for replica in replicas:
        found.setdefault(replica.cluster, []).append(replica)
    return found
