"""What a day in virtual time came to: what nodes cost, how long replicas were waited for, and where there were too few.

A replica is wanted from the moment in which the workload should have more than it has: since more are asked for, or one
that was ready is gone. It is ready when there is one more that is; who was wanted first counts first. Where fewer are
asked for, those that were wanted last are not wanted any more. So nobody has to say which pod stands for which replica,
and both sides are measured alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.bench.support import quantile

_HOUR_MS = 3_600_000
# As in `tests.bench.forecast`: there are too few where the load is more than a tenth above the target.
_LEVEL = 1.1
_LATE_S = 60.0


class Figures(NamedTuple):
    """`cost` in the fleet's currency, `ready_*` in seconds of `waited` replicas. `late` is the part of these that
    waited longer than a minute, as nobody does for whom there is a node; `late_evicted` that of who did so after an
    eviction. `short`: share of the workloads' time with too few ready replicas, `full`: with more load than these
    request; `lost`: load beyond that, as a part of all. `disrupted` were ready and ended though they were wanted;
    `unready` are wanted at the end. `requested` is the part of the nodes' cpu that is.
    """

    cost: float
    ready_p50: float
    ready_p95: float
    ready_max: float
    late: float
    late_evicted: float
    short: float
    full: float
    lost: float
    waited: int
    unready: int
    disrupted: int
    mean_replicas: float
    mean_nodes: float
    requested: float


class _Wanted(NamedTuple):
    since_ms: int
    evicted: bool


@dataclass(slots=True)
class _Workload:
    desired: int = 0
    ready: int = 0
    wanted: deque[_Wanted] = field(default_factory=deque)


class Ledger:
    """Counts from `begin_ms` on; of what was asked for before that nothing is told. Times are in milliseconds."""

    def __init__(self, begin_ms: int) -> None:
        self.begin_ms = begin_ms
        self.costs: dict[str, float] = {}
        self._workloads: dict[str, _Workload] = {}
        # In seconds, and whether one was evicted before.
        self._took: list[tuple[float, bool]] = []
        self._looks = self._short = self._full = self._disrupted = 0
        self._load = self._lost = 0.0
        self._seen = self._replicas = self._nodes = 0
        self._requested: list[float] = []

    # --- nodes ---

    def paid(self, cluster: str, price: float, from_ms: int, to_ms: int) -> None:
        """A node, from its order to its end."""
        cost = price * max(0, to_ms - max(from_ms, self.begin_ms)) / _HOUR_MS
        self.costs[cluster] = self.costs.get(cluster, 0.0) + cost

    # --- replicas ---

    def want(self, workload: str, desired: int, now_ms: int) -> None:
        known = self._workloads.setdefault(workload, _Workload())
        known.desired = desired
        self._settle(known, now_ms, evicted=False)

    def desired(self, workload: str) -> int:
        return self._workloads[workload].desired

    def ready(self, workload: str) -> int:
        return self._workloads[workload].ready

    def came(self, workload: str, now_ms: int) -> None:
        """One more is ready."""
        known = self._workloads[workload]
        known.ready += 1
        if known.wanted:
            wanted = known.wanted.popleft()
            if wanted.since_ms >= self.begin_ms:
                self._took.append(_took(wanted, now_ms))

    def went(self, workload: str, now_ms: int) -> None:
        """One that was ready is no more."""
        known = self._workloads[workload]
        known.ready -= 1
        if known.ready < known.desired and now_ms >= self.begin_ms:
            self._disrupted += 1
        self._settle(known, now_ms, evicted=True)

    def _settle(self, known: _Workload, now_ms: int, *, evicted: bool) -> None:
        lacking = max(0, known.desired - known.ready)
        while len(known.wanted) > lacking:
            known.wanted.pop()
        known.wanted.extend([_Wanted(now_ms, evicted)] * (lacking - len(known.wanted)))

    # --- load ---

    def look(self, workload: str, load: float, target: float, request: int, now_ms: int) -> None:
        """`load` in thousandths of a core; `target` is what a replica takes of it, `request` what it asks for."""
        if now_ms < self.begin_ms:
            return
        ready = self._workloads[workload].ready
        self._looks += 1
        self._short += load > _LEVEL * ready * target
        self._full += load > ready * request
        self._load += load
        self._lost += max(0.0, load - ready * request)

    def see(self, replicas: int, nodes: int, requested: float, now_ms: int) -> None:
        """`requested` is the part of the nodes' cpu that is requested."""
        if now_ms >= self.begin_ms:
            self._seen += 1
            self._replicas, self._nodes = self._replicas + replicas, self._nodes + nodes
            self._requested.append(requested)

    # --- at the end ---

    def figures(self, now_ms: int) -> Figures:
        """Who waits still counts with what he has waited for until now."""
        waiting = [_took(wanted, now_ms) for known in self._workloads.values() for wanted in known.wanted]
        everyone = [*self._took, *waiting]
        took = [seconds for seconds, _ in everyone]
        late = [evicted for seconds, evicted in everyone if seconds > _LATE_S]
        return Figures(
            cost=round(sum(self.costs.values()), 2),
            ready_p50=quantile(took, 0.5),
            ready_p95=quantile(took, 0.95),
            ready_max=max(took, default=0.0),
            late=_part(len(late), len(took)),
            late_evicted=_part(sum(late), len(took)),
            short=_part(self._short, self._looks),
            full=_part(self._full, self._looks),
            lost=_part(self._lost, self._load),
            waited=len(took),
            unready=len(waiting),
            disrupted=self._disrupted,
            mean_replicas=round(self._replicas / max(1, self._seen), 1),
            mean_nodes=round(self._nodes / max(1, self._seen), 1),
            requested=round(_mean(self._requested), 4),
        )


def _took(wanted: _Wanted, now_ms: int) -> tuple[float, bool]:
    return (now_ms - wanted.since_ms) / 1000, wanted.evicted


def _part(some: float, all_: float) -> float:
    return round(some / all_, 5) if all_ else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
