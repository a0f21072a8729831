"""Defects of the scheduler: its fence, its journal, its positions, its lease, its promises of room."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from services.scheduler.decision import derivation
from services.scheduler.decision.clusters import ClusterTable
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.fence import EpochFence
from services.scheduler.decision.leaving.evacuation import Evacuation
from services.scheduler.decision.placing.confinement import Confinement
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.placing.replicas import Mark
from services.scheduler.decision.preempting.budgets import Budgets
from services.scheduler.decision.preempting.claims import PriorityClaim
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.seen.leases import Leases
from services.scheduler.decision.seen.reservations import ShareReservations
from services.scheduler.decision.seen.troubles import Troubles
from services.scheduler.decision.table import nodes
from services.scheduler.inputs import partitions_of
from services.scheduler.intake import Intake
from services.scheduler.journal import Checkpoint, journal_partition, publisher_group
from services.scheduler.leadership import Leadership
from services.scheduler.publisher import JournalPublisher
from services.scheduler.refusals import Refusals
from services.scheduler.replica import Replica
from services.scheduler.shell import SchedulerService
from shared.events.v1.decisions import DecisionsMade, EpochStarted
from shared.ports.event_log import END, START, Partition, Publisher
from tests.simulation.generator import CROWD, FAREWELLS, FLOOD, GANGS, HURRY, ONCE, RANKS
from tests.simulation.mutants.fronts import nobody_looks_for_room, nobody_reminds, the_broker_refuses_nobody
from tests.simulation.mutants.mutant import mutant

_MUCH = 1_000_000


@mutant("stale epoch", faults=(HURRY, "slow_log:scheduler+pause:scheduler"), behind=the_broker_refuses_nobody)
def readers_of_the_journal_do_not_fence() -> Iterator[None]:
    """A leader that was paused comes back and appends one more batch; readers of the journal take it for valid."""
    original = EpochFence.admits

    def admits(self: EpochFence, entry: EpochStarted | DecisionsMade) -> bool:
        return original(self, entry) or isinstance(entry, DecisionsMade)

    with patch.object(EpochFence, "admits", admits):
        yield


@mutant(
    "fleet.commands",
    "fleet.placements",
    "not ended",
    "untold",
    faults=(FAREWELLS, "lossy_appends:scheduler"),
    behind=nobody_reminds,
)
def checkpoint_before_acknowledgement() -> Iterator[None]:
    """Positions are committed before the effect: what was still on its way when the process died is never sent."""

    async def commit(self: JournalPublisher, publisher: Publisher) -> None:
        del publisher
        checkpoint = Checkpoint(self.position, self._fence.epoch, self._fence.leader, self._inputs, self._ahead)
        stored = {journal_partition(self._cell): checkpoint.to_committed()}
        await self._events.commit(publisher_group(self._cell), stored)
        self._committed_offset = checkpoint.offset

    with patch.object(JournalPublisher, "commit", commit):
        yield


async def _resumed_at(leadership: Leadership, topic: str, where: int) -> dict[Partition, int]:
    return dict.fromkeys(await partitions_of(leadership._events, [topic]), where)


@mutant("unanswered", faults=("kill:scheduler",))
def a_new_leader_begins_at_the_end() -> Iterator[None]:
    """`auto.offset.reset=latest`: what was asked between the last decision and the takeover is never answered."""
    with patch.object(Leadership, "_resume_positions", lambda self, topic: _resumed_at(self, topic, END)):
        yield


@mutant("not ended", "lost", "unasked", "answered twice", "wrong answer", faults=("kill:scheduler",))
def a_new_leader_begins_at_the_start() -> Iterator[None]:
    """`auto.offset.reset=earliest`: a takeover carries out requests again that later ones had replaced."""
    with patch.object(Leadership, "_resume_positions", lambda self, topic: _resumed_at(self, topic, START)):
        yield


@mutant("overcommitted", faults=(CROWD, "outage:executor"), behind=nobody_looks_for_room)
def reservations_are_not_held() -> Iterator[None]:
    """Room is counted as taken only when a pod was seen: what is placed meanwhile is promised twice."""
    original = ShareReservations.set_share

    def set_share(
        self: ShareReservations, nodes: Any, request: Any, ready: Any = (), facts: Any = None, *, bound: bool = False
    ) -> None:
        del request
        original(self, nodes, None, ready, facts, bound=bound)

    with patch.object(ShareReservations, "set_share", set_share):
        yield


@mutant("torn gang", faults=(GANGS, CROWD, "kill:scheduler"))
def a_gang_takes_what_there_is() -> Iterator[None]:
    """Replicas that have to start together take what room there is: two halves wait for each other for ever."""
    original = PodSetDraft.take_back

    def take_back(self: PodSetDraft, mark: Mark) -> None:
        if self.gang is None:
            original(self, mark)

    with patch.object(PodSetDraft, "take_back", take_back), patch.object(Profile, "room_in_all", lambda *_: _MUCH):
        yield


@mutant("runs twice", faults=(ONCE,))
def what_moves_starts_before_it_is_gone() -> Iterator[None]:
    """What runs at most once is started in its next cluster when the former was told to withdraw it, and not when it
    has.
    """
    with patch.object(Confinement, "barred", lambda _: frozenset()):
        yield


@mutant("runs twice", faults=(ONCE, "cut_off"))
def a_lease_is_over_when_the_cluster_is_silent() -> Iterator[None]:
    """What ran by the lease of a silent cluster is started elsewhere while its executor may let it run."""
    with patch.object(Leases, "is_over", return_value=True):
        yield


@mutant("unfair preemption", faults=(RANKS, CROWD))
def equals_make_room_for_each_other() -> Iterator[None]:
    """Workloads of one priority take each other's room, in turns and without end."""

    def rank(self: PriorityClaim, record: WorkloadRecord) -> int | None:
        return record.placed.rank if record.placed.rank <= self.priority else None

    with patch.object(PriorityClaim, "rank", rank):
        yield


@mutant("broken budget", faults=(RANKS, CROWD))
def budgets_are_not_asked() -> Iterator[None]:
    """What is more important takes whatever it needs, however little of the others is left."""
    with patch.object(Budgets, "violating", lambda *_: set()):
        yield


@mutant("moved in silence", faults=("outage:watcher",))
def silence_is_taken_for_departure() -> Iterator[None]:
    """Replicas of a cluster that is merely silent are placed elsewhere, while they still run where they were."""
    original = ClusterTable.watch_silence

    def watch_silence(self: ClusterTable, now_ms: int) -> None:
        original(self, now_ms)
        for cluster in self:
            if cluster.silent and not cluster.gone:
                self._mark_gone(cluster, gone=True)
                self.version += 1

    with patch.object(ClusterTable, "watch_silence", watch_silence):
        yield


@mutant("moved in silence", faults=("outage:watcher",))
def what_leaves_is_removed_at_once() -> Iterator[None]:
    """Replicas of a cluster that is lost are given up as soon as others have a place, before any of them is ready."""
    with patch.object(Evacuation, "_unready", lambda *_: Counter()):
        yield


@mutant("left in haste", faults=("outage:watcher", "pause:watcher"))
def a_cluster_is_left_as_soon_as_it_is_silent() -> Iterator[None]:
    """A heartbeat too late, and the workloads move: a network that goes on and off moves the fleet to and fro."""
    with patch.object(Troubles, "_patience", lambda *_: 0):
        yield


@mutant("leads on", faults=("pause:scheduler",), behind=the_broker_refuses_nobody)
def a_replaced_leader_goes_on() -> Iterator[None]:
    """A leader does not look whether it was replaced: it decides, and answers users, for as long as it lives."""

    with patch.object(JournalPublisher, "_heed"):
        yield


@mutant("needless takeover", faults=("jump_clock:scheduler",))
def the_lease_is_measured_by_the_wall_clock() -> Iterator[None]:
    """NTP sets a standby's clock forward, and a leader that is well is replaced."""

    async def stand_by(self: SchedulerService, replica: Replica, refusals: Refusals, stop: asyncio.Event) -> None:
        lease_ms = self._settings.scheduler_lease_s * 1000
        heard = self._clock.now_ms() if replica.fence.epoch else 0
        while not stop.is_set() and self._clock.now_ms() - heard < lease_ms and not replica.resigned:
            entries = await replica.follow_journal(0.2)
            await replica.follow_inputs(0.01)
            refusals.drop()
            heard = self._clock.now_ms() if entries else heard

    with patch.object(SchedulerService, "_stand_by", stand_by):
        yield


@mutant("untold")
def a_rejection_is_not_published() -> Iterator[None]:
    """A refused request ends in the journal alone: nobody who asked ever learns of it."""

    def rejected(*_: object) -> Iterator[derivation.Derived]:
        return iter(())

    with patch.object(derivation, "_rejected", rejected):
        yield


@mutant("backlog", faults=(FLOOD,))
def requests_are_queued_without_a_bound() -> Iterator[None]:
    """Requests are read as fast as the log gives them, however slowly they are decided: memory grows with the lag."""
    with patch.object(Intake, "_has_room", return_value=True), patch.object(Intake, "full", new=False):
        yield


@mutant("replay", faults=("kill:scheduler",))
def ties_are_broken_by_chance() -> Iterator[None]:
    """A decision depends on what no log has, so that nobody can say why it is as it is: a random number.

    Every promise is kept all the same.
    """
    with patch.object(nodes, "stable_order", lambda *_: random.random()):
        yield
