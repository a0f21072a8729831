"""Which faults, in which order, for how long: a pure function of the seed.

Every class comes as often as its weight says, in an order that the seed shuffles; every target of a class comes before
one comes twice. When a planned fault is begun depends on what else is broken by then (`Overlap`). What lasts longest
comes early, so that short runs have it as well, and late enough to find something that runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MOST_AT_ONCE: Final = 5
_EARLY: Final = 8


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of faults, as far as planning goes."""

    name: str
    weight: int
    hold: tuple[float, float]
    targets: Sequence[str]


@dataclass(frozen=True, slots=True)
class Planned:
    """`seed` is for whatever the fault itself has to choose."""

    number: int
    name: str
    target: str
    hold_s: float
    seed: int


def plan(seed: int, kinds: Sequence[Kind]) -> Iterator[Planned]:
    """Without end. Kinds without targets are left out."""
    rng = random.Random(seed)
    possible = [kind for kind in kinds if kind.targets]
    targets: Mapping[str, Iterator[str]] = {kind.name: _in_turn(rng, kind.targets) for kind in possible}
    number = 0
    while True:
        deck = [kind for kind in possible for _ in range(kind.weight)]
        rng.shuffle(deck)
        if not number:
            longest = max(deck, key=lambda kind: kind.hold)
            deck.remove(longest)
            deck.insert(_EARLY, longest)
        for kind in deck:
            yield Planned(number, kind.name, next(targets[kind.name]), rng.uniform(*kind.hold), rng.getrandbits(32))
            number += 1


def _in_turn(rng: random.Random, targets: Sequence[str]) -> Iterator[str]:
    while True:
        order = list(targets)
        rng.shuffle(order)
        yield from order
