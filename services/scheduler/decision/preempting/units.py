"""What may give way on a node, and what is about to go from it anyway.

Units are the replicas that go together: mostly a single one, all of a pod set that is placed whole. Where Flotilla
binds pods it is known which replica has which room. Of pods that a cluster's own scheduler bound it is known how many a
pod set has on a node, and not which of them its controller deletes when there are to be fewer: see `Unit.known`, and
`victims`.

Pods that stand for no replica any more are about to go: of victims of before, and of whatever was scaled down or
deleted. Their room counts as free for who would displace others otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.preempting.claims import Claim
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey, ShareReservations
from services.scheduler.decision.seen.slots import Hold, NodeSlot


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Replicas of a share that go together. `positions` are theirs in the share, or None where any will do.

    `holds` are what they take, on one node or more. `known`: whether it is these pods that go when the share has fewer
    replicas. `ready` counts pods that were seen ready.
    """

    share: ShareReservations
    rank: int
    requested_at: int
    positions: tuple[int, ...] | None
    holds: tuple[Hold, ...]
    replicas: int
    ready: int
    known: bool

    @property
    def importance(self) -> tuple[int, bool, int, ShareKey, tuple[int, ...]]:
        """More important ones are less: of a higher rank, then ready, then older."""
        return -self.rank, not self.ready, self.requested_at, self.share.key, self.positions or ()


@dataclass(slots=True)
class Taken:
    """What gave way in decisions that are in the making: `holds` are lifted, and the shares not decided anew yet."""

    units: list[Unit] = field(default_factory=list)
    holds: dict[Hold, None] = field(default_factory=dict)

    def add(self, units: Iterable[Unit], going: Iterable[Hold]) -> None:
        self.holds.update(dict.fromkeys(going))
        for unit in units:
            self.units.append(unit)
            self.holds.update(dict.fromkeys(unit.holds))

    def drop(self, unit: Unit) -> None:
        """It stays."""
        self.units.remove(unit)
        for hold in unit.holds:
            del self.holds[hold]


# A position of a share if it is known, what the replica holds, how many ready pods it has, and whether it is this one
# that goes.
_Pair = tuple[int | None, Hold, int, bool]


@dataclass(frozen=True, slots=True)
class OnNode:
    """`going` are holds of pods that are about to go, `units` may give way. Neither depends on the order of folding."""

    going: tuple[Hold, ...]
    units: tuple[Unit, ...]


class Units:
    """`bound`: who is to have the room is bound by Flotilla. Then only what Flotilla bound counts: the executor, which
    sees to it that a node has room, knows of nothing else (docs/adr/0012).
    """

    def __init__(self, fleet: Fleet, workloads: Workloads, claim: Claim, *, bound: bool) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._claim = claim
        self._bound = bound

    def on(self, slot: NodeSlot, taken: Taken) -> OnNode:
        """`taken` gave way already."""
        groups: dict[ShareReservations, list[Hold]] = {}
        for hold in slot.holds:
            share = hold.owner or (hold.pod.share if hold.pod is not None else None)
            if share is not None and (share.bound or not self._bound):
                groups.setdefault(share, []).append(hold)
        going: list[Hold] = []
        units: list[Unit] = []
        for share in sorted(groups, key=lambda share: share.key):
            record = self._workloads.live(share.key.workload)
            pairs = _pairs(record, share, slot, groups[share])
            paired = {hold for _, hold, _, _ in pairs}
            if share.bound or not share.replicas:
                gone = [hold for hold in groups[share] if hold not in paired]
            else:
                gone = _surplus(share, groups[share])
            going += gone
            units += self._of_share(share, record, pairs, taken)
        return OnNode(tuple(hold for hold in going if hold not in taken.holds), tuple(units))

    def _of_share(
        self, share: ShareReservations, record: WorkloadRecord | None, pairs: Iterable[_Pair], taken: Taken
    ) -> Iterator[Unit]:
        rank = self._claim.rank(record) if record is not None and not _moves(record) else None
        plan = plan_of(record, share.key.pod_set) if record is not None else None
        if rank is None or record is None or plan is None:
            return
        age = record.placed.request.published_at
        if plan.division is Division.TOGETHER:
            whole = _whole(self._fleet, share, rank, age)
            if share.seen <= share.replicas and not any(hold in taken.holds for hold in whole.holds):
                yield whole
            return
        for position, hold, ready, known in pairs:
            if hold not in taken.holds:
                positions = (position,) if position is not None else None
                yield Unit(share, rank, age, positions, (hold,), 1, ready, known)


def _pairs(
    record: WorkloadRecord | None, share: ShareReservations, slot: NodeSlot, holds: Sequence[Hold]
) -> list[_Pair]:
    """The replicas of a share on a node."""
    if record is None or not share.replicas:
        return []
    return _bound(record, share, slot, holds) if share.bound else _others(share, slot, holds)


def _bound(record: WorkloadRecord, share: ShareReservations, slot: NodeSlot, holds: Sequence[Hold]) -> list[_Pair]:
    """Where Flotilla binds: each replica on a node with its own pod, or else with what is held there for it.

    The room of a pod that stands for no replica is that of one whose own pod is yet to come, while there is such a one.
    """
    ordinals = ordinals_of(record, share)
    own = {hold.pod.ordinal: hold for hold in holds if hold.pod is not None}
    pairs: list[_Pair] = []
    rest: list[int] = []
    for position in share.on(slot)[0]:
        hold = own.get(ordinals[position]) if position < len(ordinals) else None
        if hold is None:
            rest.append(position)
        else:
            pairs.append((position, hold, _ready(hold), True))
    paired = {hold for _, hold, _, _ in pairs}
    # Reservations first; of pods those that are about to go last, and then the large ones: never too much room.
    left = sorted((hold for hold in holds if hold not in paired), key=_first_to_stand)
    pairs += ((position, hold, 0, True) for position, hold in zip(rest, left, strict=False))
    return pairs


def _others(share: ShareReservations, slot: NodeSlot, holds: Sequence[Hold]) -> list[_Pair]:
    """Where a cluster's own scheduler binds. While there are more pods than replicas nobody knows which go."""
    pairs: list[_Pair] = []
    for position in share.on(slot)[0]:
        reserved = share.hold_at(position)
        if reserved is not None:
            pairs.append((position, reserved, 0, True))
    if share.seen <= share.replicas:
        alone = all(other is slot for other in share.slots_seen)
        pairs += ((None, hold, _ready(hold), alone) for hold in holds if hold.owner is None)
    return pairs


def _surplus(share: ShareReservations, holds: Sequence[Hold]) -> list[Hold]:
    """Pods that a cluster's own scheduler bound, and that are about to go for sure."""
    ending = [hold for hold in holds if hold.pod is not None and hold.pod.facts.ending]
    return sorted(ending, key=_first_to_stand, reverse=True)[: max(share.seen - share.replicas, 0)]


def ordinals_of(record: WorkloadRecord, share: ShareReservations) -> Sequence[int]:
    """By position in a share of pods that Flotilla binds."""
    placement = record.placement(share.key.pod_set)
    shares = placement.shares if placement is not None else ()
    return next((item.ordinals for item in shares if item.cluster == share.key.cluster), ())


def _all_holds(fleet: Fleet, share: ShareReservations) -> Iterator[Hold]:
    for position in range(share.replicas):
        hold = share.hold_at(position)
        if hold is not None:
            yield hold
    for pod in fleet.pods.pods_of(share):
        if pod.hold is not None:
            yield pod.hold


def _whole(fleet: Fleet, share: ShareReservations, rank: int, age: int) -> Unit:
    holds = tuple(_all_holds(fleet, share))
    positions = tuple(range(share.replicas))
    return Unit(share, rank, age, positions, holds, share.replicas, share.ready, known=True)


def plan_of(record: WorkloadRecord, pod_set: str) -> PodSetPlan | None:
    return next((plan for plan in record.plans if plan.name == pod_set), None)


def _moves(record: WorkloadRecord) -> bool:
    """Whether replicas of it wait to leave a cluster: what is to replace them is left alone. So are gangs."""
    return any(item.leaving or item.started for item in record.placed.pod_sets)


def _ready(hold: Hold) -> int:
    return int(hold.pod is not None and hold.pod.ready)


def _first_to_stand(hold: Hold) -> tuple[bool, bool, tuple[tuple[str, int], ...]]:
    ending = hold.pod is not None and hold.pod.facts.ending
    return hold.pod is not None, ending, tuple((name, -amount) for name, amount in hold.request.amounts)
