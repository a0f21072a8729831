"""What is to be decided without a request: what the fleet did since, and who waits.

In this order, so that each leaves to the next what it has no use for: withdrawals that were confirmed, clusters that
left, replicas that lost their places, clusters that have to be left, whoever waits for room, who may take that of
others, and who would be better off elsewhere. One call goes up to a limit, and the next one on from there.
"""

from __future__ import annotations

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.decided.turns import Turns
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.deciding.settling import Settling
from services.scheduler.decision.leaving.exodus import Exodus, RoomVersion
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.preempting.preemption import Preemption
from services.scheduler.decision.rebalancing.rebalancing import Rebalancing
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.moves import Moves
from services.scheduler.decision.seen.reservations import ShareKey
from shared.events.v1.decisions import (
    Decision,
)

_NEVER = (-1, -1, -1, -1)


class Pending:
    def __init__(self, fleet: Fleet, workloads: Workloads, moves: Moves, exodus: Exodus, settling: Settling) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._moves = moves
        self._exodus = exodus
        self._settling = settling
        self._reserve = settling.reserve
        self.rebalancing = Rebalancing(fleet, workloads, exodus.troubles)
        self.preemption = Preemption(
            fleet, workloads, settling.drafts_of, settling.conclude, settling.reserve.keep_from
        )
        # Shares that may have lost a replica, of clusters that are not heard.
        self._unheard: set[ShareKey] = set()
        self._surveyed = False
        self._tried_at = _NEVER
        self._clusters_at = -1
        # Whether nothing was left of a call for all who would take the room of others.
        self._preempts_later = False

    def decide(self, now_ms: int) -> list[Decision]:
        """What changes since the last time made worth deciding again, up to a limit; see `has_work`.

        Confirmed withdrawals are decided in full: the report that confirmed them counts as consumed.
        """
        fleet = self._fleet
        fleet.leases.begin(now_ms)
        fleet.clusters.watch_silence(now_ms)
        budget = Budget(self._fleet.config.placements_per_call)
        decisions = self._decide_confirmed(budget, now_ms)
        decisions += self._decide_stranded(budget, now_ms)
        decisions += self._decide_moves(budget, now_ms)
        decisions += self._decide_evacuations(budget, now_ms)
        if self._clusters_at != fleet.clusters.version:
            self._clusters_at = fleet.clusters.version
            for key in sorted(self._workloads.everywhere):
                decisions += self._settling.redecide(key, budget, now_ms)
        self._reserve.look(now_ms)
        try:
            decisions += self._decide_waiting(budget, now_ms)
            decisions += self._decide_preemptions(budget, now_ms)
        finally:
            self._reserve.let_go()
        if self._workloads.rebalancing:
            decisions += self._decide_rebalancing(budget, now_ms)
        return decisions

    @property
    def has_work(self) -> bool:
        """Whether `decide` would go on where it stopped for its limit."""
        fleet = self._fleet
        workloads = self._workloads
        in_round = workloads.turns.in_round if workloads.turns is not None else workloads.waiting.in_round
        if in_round or workloads.unfinished or workloads.stranded or fleet.pods.unsettled or self._preempts_later:
            return True
        return bool(len(self._workloads.waiting)) and self._tried_at != self.room_version()

    def room_version(self) -> RoomVersion:
        """Changes whenever there may be room where there was none."""
        return self._fleet.table.freed, self._fleet.clusters.version, self._moves.version, self._reserve.version

    # --- what the fleet did ---

    def _decide_confirmed(self, budget: Budget, now_ms: int) -> list[Decision]:
        decisions: list[Decision] = []
        confirmed, self._settling.confirmed = self._settling.confirmed, {}
        for key, clusters in confirmed.items():
            record = self._workloads.get(key)
            left = [cluster for cluster in record.leaving if cluster not in clusters] if record is not None else []
            if record is None or len(left) == len(record.leaving):
                continue
            retired = tuple(sorted(record.leaving.keys() - set(left)))
            if ended := self._settling.end(record, retired):
                decisions += ended
                continue
            placed = record.decided_anew(withdrawn=tuple(sorted(left)), retired=retired)
            self._settling.fold(key, placed, record.plans)
            decisions.append(placed)
            if placed.workload.placement.at_most_once:
                # It has waited for this, and for no room.
                decisions += self._settling.redecide(key, budget, now_ms)
        return decisions

    def _decide_stranded(self, budget: Budget, now_ms: int) -> list[Decision]:
        """Where clusters left the fleet: their replicas go elsewhere, and no deletion waits for them."""
        self._workloads.note_departures()
        decisions: list[Decision] = []
        for key in sorted(self._workloads.stranded):
            if budget.spent:
                break
            budget.left -= 1
            record = self._workloads.get(key)
            if record is not None:
                decisions += (
                    self._settling.end(record)
                    if record.placed.deleting
                    else self._settling.redecide(key, budget, now_ms)
                )
        return decisions

    def _lost(self) -> set[str]:
        """Workloads that may have lost a replica, as far as their clusters are heard. The others are looked at then."""
        fleet = self._fleet
        if not self._surveyed:
            # Nodes that went while nobody led: nothing is observed of them any more.
            self._surveyed = True
            fleet.pods.unsettled.update(fleet.slots.unfounded())
        if not fleet.pods.unsettled and not self._unheard:
            return set()
        unsettled = {share for share in self._unheard | fleet.pods.unsettled if self._workloads.get(share.workload)}
        fleet.pods.unsettled.clear()
        self._unheard = {share for share in unsettled if not self._settling.is_heard(share.cluster)}
        return {share.workload for share in unsettled - self._unheard}

    def _decide_moves(self, budget: Budget, now_ms: int) -> list[Decision]:
        """Replicas that lost their node, and those that their cluster cannot schedule, as far as it is heard."""
        fleet = self._fleet
        due = self._moves.due(fleet.pods.unschedulable, now_ms)
        moving = {share: count for share, count in due.items() if self._settling.is_heard(share.cluster)}
        for share in moving:
            self._moves.avoid(share, now_ms)
        lost = self._lost()
        decisions: list[Decision] = []
        for key in sorted(lost | {share.workload for share in moving}):
            if key in self._workloads.bound or any(share.workload == key for share in moving):
                own = {share: count for share, count in moving.items() if share.workload == key}
                decisions += self._settling.redecide(key, budget, now_ms, own)
        return decisions

    def _decide_evacuations(self, budget: Budget, now_ms: int) -> list[Decision]:
        """Replicas that have to leave their clusters, and those that wait to leave."""
        decisions: list[Decision] = []
        if not self._exodus.look(now_ms):
            return decisions
        for key in sorted(self._workloads.leased):
            record = self._workloads.live(key)
            if record and any(
                self._settling.is_released(name, record.placed, now_ms) for name in record.placed.withdrawn
            ):
                decisions += self._settling.redecide(key, budget, now_ms)
        for key in self._exodus.turns(self.room_version):
            if budget.spent:
                break
            decisions += self._settling.redecide(key, budget, now_ms, mover=self._exodus.evacuation)
        return decisions

    def _decide_rebalancing(self, budget: Budget, now_ms: int) -> list[Decision]:
        """Replicas that are better off elsewhere, when nothing that waits or has to leave can have the room."""
        decisions: list[Decision] = []

        def is_free() -> bool:
            return not self._reserve.head and not self.has_work and self._exodus.is_done(self.room_version())

        for key in self.rebalancing.turns(now_ms, is_free):
            if budget.spent:
                break
            decisions += self._settling.redecide(key, budget, now_ms, mover=self.rebalancing)
        return decisions

    # --- who waits ---

    def _decide_waiting(self, budget: Budget, now_ms: int) -> list[Decision]:
        fleet, waiting = self._fleet, self._workloads.waiting
        decisions: list[Decision] = []
        if self._workloads.turns is not None:
            return self._decide_in_turn(self._workloads.turns, budget, now_ms)
        for key in sorted(self._workloads.unfinished):
            if not budget.spent:
                self._keep_from(key)
                decisions += self._settling.redecide(key, budget, now_ms)
        if not waiting.in_round and not budget.spent and self._tried_at != self.room_version():
            self._tried_at = self.room_version()
            self._reserve.let_go()
            waiting.start_round(self._size)
        while not budget.spent and (turn := waiting.next()) is not None:
            key, demand = turn
            self._keep_from(key)
            if not fleet.profile_for(demand).has_room():
                waiting.skip(demand)
                continue
            if not self._settling.is_hopeless(key):
                decisions += self._settling.redecide(key, budget, now_ms)
            budget.left -= 1
        return decisions

    def _size(self, demand: Demand) -> float | None:
        """Of such a pod; None where there is no room for one."""
        profile = self._fleet.profile_for(demand)
        return self._fleet.line.size(profile.request) if profile.has_room() else None

    def _keep_from(self, key: str) -> None:
        """The workload is about to be tried: it takes no room that is kept for another."""
        record = self._workloads.live(key) if self._reserve.head else None
        if record is not None:
            self._reserve.keep_from(record)

    def _decide_preemptions(self, budget: Budget, now_ms: int) -> list[Decision]:
        """What nothing had room for takes that of what is less important, or was borrowed of its queue's guarantee."""
        workloads = self._workloads
        in_round = workloads.turns.in_round if workloads.turns is not None else workloads.waiting.in_round
        self._preempts_later = False
        if not self.preemption.conceivable or in_round or workloads.unfinished:
            return []
        if self._tried_at != self.room_version():
            return []
        decisions = self.preemption.decide(budget, now_ms) if not budget.spent else []
        self._preempts_later = budget.spent
        if decisions:
            # What made room may have a place elsewhere.
            self._tried_at = _NEVER
        return decisions

    def _decide_in_turn(self, turns: Turns, budget: Budget, now_ms: int) -> list[Decision]:
        """Of each workload one decision, the last: the others are nobody's business."""
        fleet, workloads = self._fleet, self._workloads
        decisions: list[Decision] = []
        if not turns.in_round and (self._tried_at != self.room_version() or workloads.unfinished):
            decisions = self._decide_roomless(budget, now_ms)
            self._tried_at = self.room_version()
            turns.start_round(self._size)
        while not budget.spent and (turn := turns.next()) is not None:
            key, demand = turn
            record = workloads.live(key)
            self._keep_from(key)
            has_room = fleet.profile_for(demand).has_room()
            if not has_room and not self._reserve.kept:
                turns.skip(demand)
                continue
            if not has_room and key not in workloads.unfinished:
                # For those of other queues there may be room.
                turns.done()
                continue
            size = turns.size(record) if record is not None else 1
            own = Budget(budget.left if size is None else min(size, budget.left))
            budget.left -= own.left
            made = [] if self._settling.is_hopeless(key) else self._settling.redecide(key, own, now_ms)
            for decision in made:
                self._settling.unseen.pop(key, None)
                self._settling.unseen[key] = decision
            budget.left += own.left - 1
            if not made or key not in workloads.unfinished:
                turns.done()
        made, self._settling.unseen = list(self._settling.unseen.values()), {}
        return [*decisions, *made]

    def _decide_roomless(self, budget: Budget, now_ms: int) -> list[Decision]:
        """What is about to be placed and has no room anywhere has no turn in the round to come: it is told so."""
        decisions: list[Decision] = []
        for key in sorted(self._workloads.unfinished):
            record = self._workloads.live(key)
            if record is None or budget.spent:
                continue
            short = {item.name for item in record.placed.pod_sets if item.reason}
            if not any(self._fleet.profile_for(plan.demand).has_room() for plan in record.plans if plan.name in short):
                decisions += self._settling.redecide(key, budget, now_ms)
                budget.left -= 1
        return decisions
