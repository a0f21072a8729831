"""Workloads with replicas that have no place yet, in the order in which they are tried again.

Grouped by demand: where no node passes for one of a group, none passes for any, so a change costs as much as there are
different demands, however many workloads wait. Within and between groups the higher priority goes first, then the older
request. A round goes on over several calls, so that a long queue does not hold up requests.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from services.scheduler.decision.asked.demands import Demand

# Priority (negative), when it was requested, and which workload.
Entry = tuple[int, int, str]


def entry_of(priority: int, requested_at: int, key: str) -> Entry:
    """The place of a workload in a line: the least is tried first."""
    return -priority, requested_at, key


class WaitingQueue:
    def __init__(self) -> None:
        self._groups: dict[Demand, list[Entry]] = {}
        self._entries: dict[str, tuple[Entry, frozenset[Demand]]] = {}
        # How many workloads of each priority wait.
        self._ranks: Counter[int] = Counter()
        self._round: list[tuple[Entry, int, Demand]] = []

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
        entry = entry_of(priority, requested_at, key)
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

    def start_round(self, has_room: Callable[[Demand], bool]) -> None:
        """Everything that waits is tried once more, where there is room for it at all."""
        self._round = [
            (entries[0], number, demand)
            for number, (demand, entries) in enumerate(self._groups.items())
            if has_room(demand)
        ]
        heapify(self._round)

    def next(self) -> tuple[str, Demand] | None:
        """The next workload of this round, and the demand for which it is tried; None at the end of the round."""
        while self._round:
            entry, number, demand = heappop(self._round)
            self._push_after(entry, number, demand)
            known = self._entries.get(entry[2])
            if known is not None and demand in known[1]:
                return entry[2], demand
        return None

    def skip(self, demand: Demand) -> None:
        """There is no more room for this demand in this round."""
        self._round = [item for item in self._round if item[2] != demand]
        heapify(self._round)

    def _push_after(self, entry: Entry, number: int, demand: Demand) -> None:
        entries = self._groups.get(demand, [])
        position = bisect_right(entries, entry)
        if position < len(entries):
            heappush(self._round, (entries[position], number, demand))

    def _remove(self, entry: Entry, demands: frozenset[Demand]) -> None:
        for demand in demands:
            entries = self._groups[demand]
            del entries[bisect_right(entries, entry) - 1]
            if not entries:
                del self._groups[demand]
