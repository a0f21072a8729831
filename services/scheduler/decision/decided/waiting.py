"""Workloads with replicas that have no place yet, in the order in which they are tried again.

Grouped by demand: where no node passes for one of a group, none passes for any, so a change costs as much as there are
different demands, however many workloads wait. The higher priority goes first, then the older request; between groups
the larger pods, where requests are of one window (`scoring.line`). A round goes on over several calls, so that a long
queue does not hold up requests.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.scoring.line import Line, Place

# Priority (negative), when it was requested, and which workload: of those of one demand the least is tried first.
Entry = tuple[int, int, str]


class _Turn(NamedTuple):
    """The next of a demand's workloads in a round; `number` is the demand's."""

    place: Place
    number: int
    size: float
    entry: Entry
    demand: Demand


class WaitingQueue:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._groups: dict[Demand, list[Entry]] = {}
        self._entries: dict[str, tuple[Entry, frozenset[Demand]]] = {}
        # How many workloads of each priority wait.
        self._ranks: Counter[int] = Counter()
        self._round: list[_Turn] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def in_round(self) -> bool:
        return bool(self._round)

    def put(self, key: str, priority: int, requested_at: int, demands: Iterable[Demand]) -> None:
        """The workload waits for these demands; for none of them it waits no longer."""
        wanted = frozenset(demands)
        entry = -priority, requested_at, key
        known = self._entries.get(key)
        if known == (entry, wanted) or (known is None and not wanted):
            return
        if known is not None:
            self._remove(*known)
            del self._entries[key]
            self._ranks[-known[0][0]] -= 1
            if not self._ranks[-known[0][0]]:
                del self._ranks[-known[0][0]]
        if wanted:
            self._entries[key] = (entry, wanted)
            self._ranks[priority] += 1
            for demand in wanted:
                insort(self._groups.setdefault(demand, []), entry)

    def heads(self) -> list[tuple[Entry, Demand]]:
        """Of each demand the workload that is tried first, in this order."""
        return sorted(((entries[0], demand) for demand, entries in self._groups.items()), key=lambda item: item[0])

    def after(self, entry: Entry, demand: Demand) -> Entry | None:
        """The next of a demand's workloads behind an entry."""
        entries = self._groups.get(demand, [])
        position = bisect_right(entries, entry)
        return entries[position] if position < len(entries) else None

    @property
    def first_rank(self) -> int | None:
        """The highest priority of all that waits."""
        return max(self._ranks, default=None)

    def start_round(self, size: Callable[[Demand], float | None]) -> None:
        """Everything that waits is tried once more, where there is room for it at all: `size` of a demand's pods is
        None where there is none.
        """
        found = ((size(demand), demand, entries[0]) for demand, entries in self._groups.items())
        self._round = [
            self._turn(entry, number, large, demand)
            for number, (large, demand, entry) in enumerate(found)
            if large is not None
        ]
        heapify(self._round)

    def next(self) -> tuple[str, Demand] | None:
        """The next workload of this round, and the demand for which it is tried; None at the end of the round."""
        while self._round:
            turn = heappop(self._round)
            entry, demand = turn.entry, turn.demand
            self._push_after(turn)
            known = self._entries.get(entry[2])
            if known is not None and demand in known[1]:
                return entry[2], demand
        return None

    def skip(self, demand: Demand) -> None:
        """There is no more room for this demand in this round."""
        self._round = [item for item in self._round if item.demand != demand]
        heapify(self._round)

    def _turn(self, entry: Entry, number: int, size: float, demand: Demand) -> _Turn:
        priority, requested_at, key = entry
        return _Turn(self._line.place(-priority, requested_at, key, size), number, size, entry, demand)

    def _push_after(self, turn: _Turn) -> None:
        following = self.after(turn.entry, turn.demand)
        if following is not None:
            heappush(self._round, self._turn(following, turn.number, turn.size, turn.demand))

    def _remove(self, entry: Entry, demands: frozenset[Demand]) -> None:
        for demand in demands:
            entries = self._groups[demand]
            del entries[bisect_right(entries, entry) - 1]
            if not entries:
                del self._groups[demand]
