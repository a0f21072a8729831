"""What is learned of workloads over days, and when that is told: each in its time, a few at once, all of it bounded."""

from __future__ import annotations

from dataclasses import dataclass

from services.autoscaler.decision.forecast import Demand
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.forecasts import ScalingForecast
from shared.events.v1.usage import UsageLearned

# Records of one round, so that what was restored together is not told together for ever.
_AT_ONCE = 200


@dataclass(slots=True)
class _Known:
    uid: str
    pod_set: str
    demand: Demand


class Learned:
    """`tell_ms`: how often a workload's is told; what was learned since then is lost with whoever learned it."""

    def __init__(self, tell_ms: int = 300_000) -> None:
        self._tell_ms = tell_ms
        self._restored: dict[str, UsageLearned] = {}
        self._known: dict[str, _Known] = {}
        # When each was told last, the longest ago first; those that are new are not in it yet.
        self._told: dict[str, int] = {}
        self._new: set[str] = set()
        self._written: set[str] = set()

    def restore(self, key: str, told: UsageLearned | None) -> None:
        """What was told last, as it stands in the log at the start. None is a tombstone."""
        if told is None:
            self._restored.pop(key, None)
            self._written.discard(key)
        else:
            self._restored[key] = told
            self._written.add(key)

    def place(self, key: str, placed: WorkloadPlaced | None) -> None:
        """A workload as it was decided upon, or that it is gone."""
        scaling = placed.workload.scaling if placed is not None and not placed.deleting else None
        if placed is None or scaling is None or scaling.forecast is None:
            self._forget(key)
            return
        name = placed.workload.scaled_pod_set
        known = self._known.get(key)
        if known is None or (known.uid, known.pod_set) != (placed.uid, name):
            self._begin(key, _Known(placed.uid, name, Demand(scaling.forecast)))
        elif known.demand.terms != scaling.forecast:
            known.demand = _changed(known.demand, scaling.forecast)

    def demand(self, key: str) -> Demand | None:
        known = self._known.get(key)
        return known.demand if known is not None else None

    def due(self, now_ms: int) -> list[tuple[str, UsageLearned | None]]:
        """What is to be told now, once all of the log was read: None where there is nothing any more."""
        found: list[tuple[str, UsageLearned | None]] = [
            (key, None) for key in sorted(self._written - self._known.keys())
        ]
        self._written &= self._known.keys()
        self._restored.clear()
        self._told.update(dict.fromkeys(sorted(self._new), now_ms))
        self._new.clear()
        for key in self._first_due(now_ms):
            del self._told[key]
            self._told[key] = now_ms
            known = self._known[key]
            demand = known.demand.told()
            if demand is not None:
                self._written.add(key)
                learned = UsageLearned(uid=known.uid, learned_at=now_ms, pod_set=known.pod_set, demand=demand)
                found.append((key, learned))
        return found

    def _first_due(self, now_ms: int) -> list[str]:
        due: list[str] = []
        for key, told_ms in self._told.items():
            # Where a clock was set back nobody knows how long ago it was.
            if 0 <= now_ms - told_ms < self._tell_ms or len(due) == _AT_ONCE:
                break
            due.append(key)
        return due

    def _begin(self, key: str, known: _Known) -> None:
        self._known[key] = known
        self._told.pop(key, None)
        self._new.add(key)
        told = self._restored.pop(key, None)
        if told is not None and (told.uid, told.pod_set) == (known.uid, known.pod_set):
            known.demand.restore(told.demand)

    def _forget(self, key: str) -> None:
        self._known.pop(key, None)
        self._told.pop(key, None)
        self._new.discard(key)


def _changed(former: Demand, terms: ScalingForecast) -> Demand:
    """As much of what was learned as the new terms can use."""
    demand = Demand(terms)
    demand.restore(former.told())
    return demand
