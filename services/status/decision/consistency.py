"""Whether a cluster's executor holds what was asked, and the log what the cluster has: what is known, and what of it.

An inventory is compared with the placements by subject. What was decided shortly before the inventory was taken may
still be on its way and is not judged; and objects of a workload that nobody knows count as left over when two
inventories in a row show them, since a placement may be read after what follows from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from services.status.decision.plan import Plan
from shared.events.v1.inventories import InventoryReported
from shared.events.v1.objects import ClusterObserved

# How long a command may take from its decision to the executor.
GRACE_MS = 60_000
MISSED_INVENTORIES = 3
_SUBJECT = "workload/"
_SHOWN = 8

State = Literal["True", "False", "Unknown"]
ClusterFinding = tuple[str, State, str, str]
PlanOf = Callable[[str], Plan | None]


class Drift(StrEnum):
    """How what a cluster holds of a workload differs from what was asked."""

    MISSING = "CommandMissing"  # its executor knows nothing of it
    STALE = "GenerationStale"  # its executor obeys an older decision
    ORPHANED = "ObjectsOrphaned"  # its objects are there, and nobody asks for them


@dataclass(frozen=True, slots=True)
class Held:
    generation: int
    commanded: bool
    objects: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an executor said that it holds, by workload key."""

    reported_at: int
    interval_ms: int
    held: Mapping[str, Held]


def inventory_of(reported: InventoryReported) -> Inventory:
    return Inventory(
        reported.reported_at,
        reported.interval_ms,
        {
            item.subject.removeprefix(_SUBJECT): Held(item.generation, item.commanded, item.objects)
            for item in reported.subjects
            if item.subject.startswith(_SUBJECT)
        },
    )


def drift_of(key: str, plan: Plan, inventory: Inventory | None, *, asked: bool) -> Drift | None:
    """How a cluster differs from a plan; None where it does not, or where that cannot be told yet.

    `asked`: the cluster should run something of the workload, or withdraw it.
    """
    if inventory is None or plan.decided_at + GRACE_MS > inventory.reported_at:
        return None
    held = inventory.held.get(key)
    if not asked:
        return Drift.ORPHANED if held is not None and held.objects else None
    if held is None or not held.commanded:
        return Drift.MISSING
    return Drift.STALE if held.generation < plan.generation else None


@dataclass(frozen=True, slots=True)
class Unlike:
    """What we hold of a resource of a cluster, in numbers of objects, and what its watcher says that it should be."""

    held: int
    expected: int


@dataclass(slots=True)
class Consistency:
    """What is known of one cluster. `drifting` is by workload, as of the last inventory."""

    inventory: Inventory | None = None
    drifting: dict[str, Drift] = field(default_factory=dict)
    left_over: frozenset[str] = frozenset()
    unlike: dict[str, Unlike] = field(default_factory=dict)

    def take(self, inventory: Inventory | None, asked: AbstractSet[str], plan_of: PlanOf) -> set[str]:
        """Compares a new inventory with the plans of the workloads that are `asked` of the cluster, and of any other.

        Returns the workloads of which something changed by it.
        """
        before, known = self.drifting, self.left_over
        self.inventory = inventory
        drifting: dict[str, Drift] = {}
        left_over: set[str] = set()
        held = inventory.held if inventory is not None else {}
        for key in asked | held.keys():
            plan = plan_of(key)
            if plan is None and key in held and held[key].objects:
                left_over.add(key)
            elif plan is not None and (drift := drift_of(key, plan, inventory, asked=key in asked)) is not None:
                drifting[key] = drift
        self.left_over = frozenset(left_over)
        drifting |= dict.fromkeys(self.left_over & known, Drift.ORPHANED)
        self.drifting = drifting
        return {key for key in {*before, *drifting} if before.get(key) != drifting.get(key)}

    def counts(self) -> Counter[Drift]:
        return Counter(self.drifting.values())

    def findings(self, observed: ClusterObserved, *, silent: bool, now_ms: int) -> Iterator[ClusterFinding]:
        yield self._objects(observed, silent=silent)
        yield self._commands(now_ms)

    def _objects(self, observed: ClusterObserved, *, silent: bool) -> ClusterFinding:
        kind, audited = "ObjectsConsistent", observed.audited
        if silent:
            return kind, "Unknown", "ClusterSilent", "nobody tells what the cluster has"
        if self.unlike:
            words = (f"{name}: {one.held} objects, not {one.expected}" for name, one in sorted(self.unlike.items()))
            return kind, "False", "LogDiffers", _listed("not as the watcher published it", list(words))
        if audited is None:
            return kind, "Unknown", "NotAudited", "no audit is complete yet"
        if audited.unchecked:
            return kind, "Unknown", "NotCompared", _listed("not compared", list(audited.unchecked))
        if audited.unlike:
            number = audited.unlike_cluster + audited.unlike_log
            return kind, "True", "Repaired", _listed(f"{number} objects were published again", list(audited.unlike))
        return kind, "True", "Compared", f"{audited.objects} objects"

    def _commands(self, now_ms: int) -> ClusterFinding:
        kind, inventory = "CommandsConsistent", self.inventory
        if inventory is None:
            return kind, "Unknown", "NotReported", "the cluster's executor has not said what it holds"
        if now_ms - inventory.reported_at > MISSED_INVENTORIES * inventory.interval_ms:
            return kind, "Unknown", "ExecutorSilent", "the executor's inventories are missing"
        if self.drifting:
            words = [f"{drift.value} {key}" for key, drift in sorted(self.drifting.items())]
            first = min(self.drifting.values(), key=list(Drift).index)
            return kind, "False", first.value, _listed(f"{len(words)} workloads are not as asked", words)
        return kind, "True", "AsAsked", f"{len(inventory.held)} workloads"


def _listed(what: str, items: list[str]) -> str:
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{what}: {', '.join(items[:_SHOWN])}{more}"
