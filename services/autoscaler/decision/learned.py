"""What is learned of workloads over days, and when that is told: each in its time, a few at once, all of it bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.autoscaler.decision.forecast import Demand
from services.autoscaler.decision.vertical.estimates import recommended
from services.autoscaler.decision.vertical.use import ContainerUse, Instance
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.forecasts import ScalingForecast
from shared.events.v1.metrics import ContainerUsage
from shared.events.v1.usage import PodSetLearned, RequestsRecommended, UsageLearned

# Records of one round, so that what was restored together is not told together for ever.
_AT_ONCE = 200
# Of one workload; whatever else is in its pods is not learned.
_MOST_CONTAINERS = 64


@dataclass(slots=True)
class _Known:
    """`pod_set` is the one that is scaled; `uses` by pod set and container."""

    uid: str
    pod_set: str
    demand: Demand | None = None
    uses: dict[tuple[str, str], ContainerUse] = field(default_factory=dict)
    changed: bool = False


class Learned:
    """`tell_ms`: how often a workload's is told; what was learned since then is lost with whoever learned it."""

    def __init__(self, tell_ms: int = 300_000) -> None:
        self._tell_ms = tell_ms
        self._restored: dict[str, UsageLearned] = {}
        self._known: dict[str, _Known] = {}
        self._instances: dict[str, dict[str, Instance]] = {}
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
        if placed is None or placed.deleting:
            self._known.pop(key, None)
            self._told.pop(key, None)
            self._new.discard(key)
            return
        known = self._known.get(key)
        if known is None or known.uid != placed.uid:
            self._told.pop(key, None)
            self._new.add(key)
            known = self._known[key] = _Known(placed.uid, placed.workload.scaled_pod_set)
            self._continue(key, known)
        names = {pod_set.name for pod_set in placed.workload.pod_sets}
        for gone in [use for use in known.uses if use[0] not in names]:
            del known.uses[gone]
        if known.pod_set != placed.workload.scaled_pod_set:
            known.pod_set, known.demand = placed.workload.scaled_pod_set, None
        scaling = placed.workload.scaling
        self._forecast(key, known, scaling.forecast if scaling is not None else None)

    def use(self, workload: str, pod_set: str, pod: str, used: Iterable[ContainerUsage], now_ms: int) -> None:
        """What the containers of a pod use now."""
        known = self._known.get(workload)
        if known is None:
            return
        instances = self._instances.setdefault(pod, {})
        for part in used:
            use = known.uses.get((pod_set, part.name))
            if use is None:
                if len(known.uses) >= _MOST_CONTAINERS:
                    continue
                use = known.uses[pod_set, part.name] = ContainerUse()
            use.add(instances.setdefault(part.name, Instance()), part.cpu, part.memory, now_ms)
            known.changed = True

    def forget(self, pod: str) -> None:
        self._instances.pop(pod, None)

    def demand(self, key: str) -> Demand | None:
        known = self._known.get(key)
        return known.demand if known is not None else None

    def recommended(self, key: str) -> dict[str, dict[str, RequestsRecommended]]:
        """What a workload's containers should request, by pod set and container."""
        known = self._known.get(key)
        found: dict[str, dict[str, RequestsRecommended]] = {}
        if known is not None:
            each = Counter(pod_set for pod_set, _ in known.uses)
            for (pod_set, container), use in known.uses.items():
                found.setdefault(pod_set, {})[container] = recommended(use, each[pod_set])
        return found

    # --- what is told ---

    def due(self, now_ms: int) -> list[tuple[str, UsageLearned | None]]:
        """What is to be told now, once all of the log was read: None where there is nothing any more."""
        gone = sorted(self._written - self._known.keys())
        self._written.difference_update(gone)
        self._restored.clear()
        self._told.update(dict.fromkeys(sorted(self._new), now_ms))
        self._new.clear()
        found: list[tuple[str, UsageLearned | None]] = [(key, None) for key in gone]
        for key in self._first_due(now_ms):
            del self._told[key]
            self._told[key] = now_ms
            learned = _learned(self._known[key], now_ms)
            if learned is None:
                continue
            if learned.demand is not None or learned.pod_sets:
                self._written.add(key)
                found.append((key, learned))
            elif key in self._written:
                self._written.discard(key)
                found.append((key, None))
        return found

    def _first_due(self, now_ms: int) -> list[str]:
        due: list[str] = []
        for key, told_ms in self._told.items():
            # Where a clock was set back nobody knows how long ago it was.
            if 0 <= now_ms - told_ms < self._tell_ms or len(due) == _AT_ONCE:
                break
            due.append(key)
        return due

    # --- what is known of a workload ---

    def _continue(self, key: str, known: _Known) -> None:
        told = self._restored.get(key)
        if told is None or told.uid != known.uid:
            return
        for pod_set in told.pod_sets:
            for container in pod_set.containers:
                known.uses[pod_set.name, container.name] = ContainerUse.restored(container)

    def _forecast(self, key: str, known: _Known, terms: ScalingForecast | None) -> None:
        if terms is None:
            known.changed = known.changed or known.demand is not None
            known.demand = None
            return
        if known.demand is not None and known.demand.terms == terms:
            return
        former, told = known.demand, self._restored.get(key)
        known.demand = Demand(terms)
        if former is not None:
            known.demand.restore(former.told())
        elif told is not None and (told.uid, told.pod_set) == (known.uid, known.pod_set):
            known.demand.restore(told.demand)


def _learned(known: _Known, now_ms: int) -> UsageLearned | None:
    """None where nothing is new; it may have nothing in it."""
    if not known.changed and known.demand is None:
        return None
    known.changed = False
    pod_sets = []
    for name in dict.fromkeys(pod_set for pod_set, _ in known.uses):
        uses = {container: use for (pod_set, container), use in known.uses.items() if pod_set == name}
        told = tuple(use.told(container, recommended(use, len(uses))) for container, use in uses.items())
        pod_sets.append(PodSetLearned(name=name, containers=told))
    demand = known.demand.told() if known.demand is not None else None
    return UsageLearned(
        uid=known.uid, learned_at=now_ms, pod_set=known.pod_set, demand=demand, pod_sets=tuple(pod_sets)
    )
