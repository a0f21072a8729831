"""The interface of a fault.

Invariants:
- `heal` undoes all that `inject` did, also after an `inject` that failed half-way, and returns when what was broken
  works again; it raises if it does not within `RECOVERY_S`.
- Two faults run at the same time only if their `claims` have nothing in common. What must not break twice is one
  claim: `QUORUM` is that of everything that takes a broker away, since two of three make a majority, `FLEET` that of
  everything that takes a cluster from the fleet, since the others have to have room.
"""

from __future__ import annotations

import abc
import random
from typing import ClassVar, Final

from tests.chaos.bed import Bed
from tests.chaos.journalist import Journalist

QUORUM: Final = "quorum"
FLEET: Final = "fleet"
RECOVERY_S: Final = 240.0


class Fault(abc.ABC):
    """One thing that is broken: what, where (`target`), and for how many seconds (`hold_s`)."""

    name: ClassVar[str]
    # Least and most seconds between breaking and healing.
    hold: ClassVar[tuple[float, float]] = (1.0, 6.0)
    # How often this class is planned, compared with others.
    weight: ClassVar[int] = 2

    def __init__(self, bed: Bed, journalist: Journalist, target: str, rng: random.Random) -> None:
        self.bed = bed
        self.journalist = journalist
        self.target = target
        self.rng = rng

    @classmethod
    @abc.abstractmethod
    def targets(cls, bed: Bed) -> list[str]:
        """All that this class can break here; empty where it cannot be had."""

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({self.target})

    @abc.abstractmethod
    async def inject(self) -> None: ...

    @abc.abstractmethod
    async def heal(self) -> None: ...
