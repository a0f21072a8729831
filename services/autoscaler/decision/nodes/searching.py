"""The best of many candidates, of which each costs a trial on the node table.

A candidate is how many new nodes each group gets. First come those for whom every pending pod finds a place, the more
important ones before all others, and then the head-room; among equals counts what the candidate is worth. Where there
are few enough candidates it is the argmax over all of them: they are taken by the most that each could be worth, and
what cannot be better than the best so far is not tried. Else it is one that no exchange of single nodes makes better,
as far as trials reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from services.autoscaler.decision.nodes.rewards import Utilities
from services.autoscaler.decision.nodes.scheduling import BoolArray, FloatArray, IntArray

# So many candidates are looked at, though few of them are tried.
_MOST_VECTORS = 200_000

Sizes = tuple[int, ...]


class Candidate(NamedTuple):
    """`placed` counts pods that wait and find a place, by priority from the highest; last the head-room's."""

    sizes: Sizes
    placed: tuple[int, ...]
    value: float
    utilities: Utilities

    def is_better(self, other: Candidate) -> bool:
        """Of equals the one with fewer nodes, then of the groups that come first."""
        mine = self.placed, self.value, -sum(self.sizes), self.sizes
        return mine > (other.placed, other.value, -sum(other.sizes), other.sizes)


class Judge(Protocol):
    """`vectors` has a candidate in each row. `complete` is, as `Candidate.placed`, the most that any could reach."""

    complete: tuple[int, ...]

    def try_out(self, sizes: Sizes) -> Candidate: ...

    def allows(self, vectors: IntArray) -> BoolArray:
        """Whether they are within all limits."""

    def may_fit(self, vectors: IntArray) -> BoolArray:
        """False where some pod certainly finds no place."""

    def bounds(self, vectors: IntArray) -> FloatArray:
        """What they are worth at most."""


class Search:
    """`most` is by group how many new nodes there may be; `trials` how many candidates are tried."""

    def __init__(self, judge: Judge, most: IntArray, trials: int) -> None:
        self._judge = judge
        self._most = most
        self._trials = trials
        self.tried: dict[Sizes, Candidate] = {}
        # Whether nothing better can be among the candidates.
        self.proven = False

    @property
    def spent(self) -> bool:
        return len(self.tried) >= self._trials

    def try_out(self, sizes: Sizes) -> Candidate:
        """Tries it, whether or not trials are spent."""
        found = self.tried.get(sizes)
        if found is None:
            found = self.tried[sizes] = self._judge.try_out(sizes)
        return found

    def best_from(self, start: Candidate) -> Candidate:
        best = self._climb(start)
        # As floating point, which does not overflow.
        if np.prod(self._most + 1.0) > _MOST_VECTORS:
            return best
        return self._best_of_all(best)

    def _best_of_all(self, best: Candidate) -> Candidate:
        vectors = np.stack(np.meshgrid(*(np.arange(most + 1) for most in self._most), indexing="ij"), axis=-1)
        vectors = vectors.reshape(-1, len(self._most))
        vectors = vectors[self._judge.allows(vectors)]
        bounds, fits = self._judge.bounds(vectors), self._judge.may_fit(vectors)
        for place in np.argsort(-bounds, kind="stable").tolist():
            complete = best.placed == self._judge.complete
            if complete and bounds[place] < best.value:
                break
            if complete and not fits[place]:
                continue
            sizes = tuple(vectors[place].tolist())
            if self.spent and sizes not in self.tried:
                return best
            found = self.try_out(sizes)
            if found.is_better(best):
                best = found
        self.proven = True
        return best

    def _climb(self, best: Candidate) -> Candidate:
        """By exchanges of single nodes, until none is better."""
        improved = True
        while improved:
            improved = False
            for sizes in self._nearby(best):
                if self.spent and sizes not in self.tried:
                    return best
                found = self.try_out(sizes)
                if found.is_better(best):
                    best, improved = found, True
                    break
        return best

    def _nearby(self, best: Candidate) -> Iterator[Sizes]:
        """One node less of a group, one or two for one of another, by the most that they could be worth."""
        groups = len(self._most)
        moves: list[IntArray] = []
        for group in range(groups):
            less = np.zeros(groups, np.int64)
            less[group] = -1
            moves.append(less)
            for other in range(groups):
                if other != group:
                    for fewer, more in ((1, 1), (1, 2), (2, 1)):
                        move = np.zeros(groups, np.int64)
                        move[group], move[other] = -fewer, more
                        moves.append(move)
        vectors = np.array(best.sizes) + np.array(moves)
        vectors = vectors[((vectors >= 0) & (vectors <= self._most)).all(axis=1)]
        bounds = self._judge.bounds(vectors)
        useful = self._judge.allows(vectors) & (bounds > best.value)
        if best.placed == self._judge.complete:
            useful &= self._judge.may_fit(vectors)
        vectors, bounds = vectors[useful], bounds[useful]
        for place in np.argsort(-bounds, kind="stable").tolist():
            yield tuple(vectors[place].tolist())
