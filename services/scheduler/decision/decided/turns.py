"""Whose turn it is among queues: each has a line of workloads that wait, in the order of `waiting`.

A round tries everything that waits once, as `waiting` does for a fleet without queues, and the next turn is that of the
queue with the least share (`queues`). A turn is one replica, or what has to be placed together, so that queues whose
workloads are all alike end up within one replica of each other; of a workload with many replicas it is a 32nd of them,
which bounds what a decision is made anew for. Whoever waits alone has all turns at once.

No one starves: a round ends only when everything in every line was tried, nothing is tried twice in it but for
replicas that found room, and what comes meanwhile stands behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.decided.queues import Queues
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.waiting import Entry, WaitingQueue
from services.scheduler.decision.scoring.line import Line

# Whether it is beyond the guarantee, the share, and the name of a queue: the least is next.
Rank = tuple[bool, float, str]
_TURNS_OF_A_WORKLOAD = 32


class Turns:
    def __init__(self, queues: Queues, line: Line) -> None:
        self._queues = queues
        self._lines = {name: WaitingQueue(line) for name in queues.names}
        self._where: dict[str, str] = {}
        # The head of each line that has one, in this round.
        self._heads: dict[str, tuple[str, Demand]] = {}
        self._turn = ""

    def put(self, key: str, queue: str, priority: int, requested_at: int, demands: Iterable[Demand]) -> None:
        """As `WaitingQueue.put`."""
        former = self._where.get(key, queue)
        if former != queue:
            self._lines[former].put(key, 0, 0, ())
        line = self._lines[queue]
        line.put(key, priority, requested_at, demands)
        if key in line:
            self._where[key] = queue
        else:
            self._where.pop(key, None)

    def waiting(self, queue: str) -> int:
        """How many workloads of a queue wait."""
        return len(self._lines[queue])

    def heads(self) -> Iterator[tuple[Rank, WaitingQueue, Entry, Demand]]:
        """Of each line, and each demand in it, the workload that is tried first; how soon that is the queue's turn."""
        for name, line in self._lines.items():
            for entry, demand in line.heads():
                yield (*self._queues.rank(name, demand), name), line, entry, demand

    @property
    def contended(self) -> bool:
        """Whether more than one queue has something that waits."""
        return sum(bool(len(line)) for line in self._lines.values()) > 1

    @property
    def in_round(self) -> bool:
        return bool(self._heads) or any(line.in_round for line in self._lines.values())

    def start_round(self, size: Callable[[Demand], float | None]) -> None:
        """As `WaitingQueue.start_round`."""
        self._heads.clear()
        for line in self._lines.values():
            line.start_round(size)

    def next(self) -> tuple[str, Demand] | None:
        """The workload whose turn it is, and a demand of it; None at the end of the round. `done` ends the turn."""
        for name, line in self._lines.items():
            if name not in self._heads and line.in_round and (head := line.next()) is not None:
                self._heads[name] = head
        if not self._heads:
            return None
        ranks = {name: self._queues.rank(name, demand) for name, (_, demand) in self._heads.items()}
        self._turn = min(ranks, key=lambda name: (ranks[name], name))
        return self._heads[self._turn]

    def done(self) -> None:
        """The next turn of this queue is another workload's."""
        del self._heads[self._turn]

    def skip(self, demand: Demand) -> None:
        """There is no more room for this demand in this round."""
        for line in self._lines.values():
            if line.in_round:
                line.skip(demand)
        self._heads = {name: head for name, head in self._heads.items() if head[1] != demand}

    def size(self, record: WorkloadRecord) -> int | None:
        """How many replicas are placed in this turn at most; None where nobody else waits for one."""
        if len(self._heads) == 1 or any(plan.division is Division.TOGETHER for plan in record.plans):
            return None
        return size_of_turn(record)


def size_of_turn(record: WorkloadRecord) -> int:
    return max(1, max(plan.desired for plan in record.plans) // _TURNS_OF_A_WORKLOAD)
