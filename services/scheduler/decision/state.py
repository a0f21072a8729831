"""All that the scheduler knows, and every change of it: observations, decisions, and deciding.

A standby folds the same records as the leader (`observe_*`, `declare_cluster`, `apply`) and comes to the same state,
whatever the order between the streams: `hash` proves it. The leader applies its own decisions as it makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.asked.requested import as_requested, requested_in, requested_plans
from services.scheduler.decision.asked.scaled import scaled_in, scaled_plans
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.deciding.pending import Pending
from services.scheduler.decision.deciding.requests import Answer, Asked, Requests, reject
from services.scheduler.decision.deciding.settling import Settling
from services.scheduler.decision.digest import StateDigest
from services.scheduler.decision.fingerprint import fingerprint
from services.scheduler.decision.leaving.exodus import Exodus
from services.scheduler.decision.placing.gangs import settle_gangs
from services.scheduler.decision.placing.purse import spent_on
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.scoring.prices import price_of
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.moves import Moves
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import (
    Decision,
    RequestRef,
    WorkloadForgotten,
    WorkloadPlaced,
)
from shared.events.v1.leases import LeaseAsked, LeaseGranted
from shared.events.v1.metrics import NodeMetricsSampled
from shared.events.v1.objects import ClusterObserved, SyncMarked
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.workloads import FieldError, Workload
from shared.model.identities import WORKLOAD_SUBJECT, ObjectKey


class SchedulerState:
    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.fleet = Fleet(config)
        self._workloads = Workloads(self.fleet)
        self._exodus = Exodus(self.fleet, self._workloads)
        moves = Moves(config)
        self.settling = Settling(self.fleet, self._workloads, moves, self._exodus)
        self._requests = Requests(self.fleet, self._workloads, moves, self._exodus, self.settling)
        self._pending = Pending(self.fleet, self._workloads, moves, self._exodus, self.settling)
        self.preemption = self._pending.preemption
        self._digest = StateDigest(self.fleet.table, self._workloads, self.fleet.clusters)

    # --- folding what is observed ---

    def observe_object(self, key: ObjectKey, raw: bytes | None) -> None:
        """A record of `fleet.objects`; None is a tombstone. Raises DecodeError, with nothing changed."""
        self.fleet.observe_object(key, raw)
        while self.fleet.jobs_changed:
            self._workloads.sync_share(self.fleet.jobs_changed.pop())

    def observe_cluster(self, heartbeat: ClusterObserved, heard_at: int) -> None:
        """`heard_at` is of the same clock as the times at which is decided."""
        self.fleet.clusters.observe(heartbeat, heard_at)

    def forget_cluster(self, name: str) -> None:
        """The tombstone of a heartbeat: the cluster left the fleet."""
        self.fleet.clusters.forget(name)

    def observe_sync(self, marker: SyncMarked) -> None:
        """Changes nothing: the heartbeat behind the markers says whether the cluster's objects are complete."""

    def declare_cluster(self, name: str, declared: ClusterDeclared | None) -> None:
        self.fleet.declare_cluster(name, declared)

    def observe_usage(self, sample: NodeMetricsSampled) -> None:
        self.fleet.observe_usage(sample)

    def observe_scaling(self, key: str, said: WorkloadScaled | None, position: str) -> None:
        """A record of `fleet.scaling`, which is decided upon at the next `decide_pending`; None is a tombstone."""
        self.fleet.recommendations.observe(key, said, position)

    def observe_result(self, report: CommandReported, heard_at: int) -> None:
        """A confirmed withdrawal is decided upon at the next `decide_pending`. `heard_at`: see `observe_cluster`."""
        if report.lease is not None:
            self.fleet.leases.asked(report.cluster, heard_at)
        if report.outcome != "withdrawn" or not report.subject.startswith(WORKLOAD_SUBJECT):
            return
        key = report.subject.removeprefix(WORKLOAD_SUBJECT)
        record = self._workloads.get(key)
        if record is not None and record.confirms(report.cluster, report.generation):
            self.settling.confirmed.setdefault(key, set()).add(report.cluster)

    def note_generation(self, decision: Decision, generation: int) -> None:
        """The journal has this decision at this offset. To be called once for each one applied, in their order."""
        if not isinstance(decision, WorkloadPlaced):
            return
        record = self._workloads.get(decision.workload.key_text)
        if record is not None and record.placed.uid == decision.uid:
            record.note(generation)

    # --- folding decisions ---

    def apply(self, decision: Decision) -> None:
        """Folds one decision of the journal; it states the whole outcome for its workload."""
        if isinstance(decision, WorkloadPlaced):
            key = decision.workload.key_text
            plans, _ = self._requests.plan(as_requested(decision.workload, decision.pod_sets))
            plans = requested_plans(plans, requested_in(decision.pod_sets))
            self.settling.fold(key, decision, scaled_plans(decision.workload, plans, scaled_in(decision)))
            self.fleet.recommendations.note(key)
        elif isinstance(decision, WorkloadForgotten):
            record = self._workloads.get(decision.key)
            if record is not None and record.placed.uid == decision.uid:
                self.settling.forget(record)

    # --- deciding ---

    def decide_request(self, request: WorkloadRequested, ref: RequestRef, now_ms: int) -> list[Decision]:
        """What a request leads to: nothing where it changes nothing. The decisions are applied already."""
        for answers in self.decide_requests(((request, ref),), now_ms):
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise AssertionError("every request is answered")

    def decide_requests(self, requests: Iterable[Asked], now_ms: int) -> Iterator[list[Answer]]:
        """What `decide_request` does for one after the other; faster where new workloads of one pod come in a row.

        Yields the answers to the next few, which are applied; of those behind them nothing is decided yet. An answer is
        an error where `decide_request` raises it.
        """
        return self._requests.decide(requests, now_ms)

    def reject(self, key: str, ref: RequestRef, errors: tuple[FieldError, ...]) -> list[Decision]:
        """The refusal of a request, for what could not be read as well."""
        return reject(key, ref, errors)

    def decide_pending(self, now_ms: int) -> list[Decision]:
        """What changes since the last time made worth deciding again, up to a limit; see `has_work`.

        Confirmed withdrawals are decided in full: the report that confirmed them counts as consumed.
        """
        return [*self._pending.decide(now_ms), *self._requests.decide_scaled(now_ms)]

    @property
    def has_work(self) -> bool:
        """Whether `decide_pending` would go on where it stopped for its limit."""
        return self._pending.has_work or bool(self.fleet.recommendations.changed)

    @property
    def leaving(self) -> int:
        """Workloads with replicas that wait to leave a cluster."""
        return len(self._workloads.leaving)

    def take_rebalances(self) -> int:
        """How many replicas began to move to better places since this was asked last."""
        return self._pending.rebalancing.take_begun()

    def queues(self) -> Iterator[tuple[str, float, int]]:
        """Of each queue its dominant share, and how many workloads wait; nothing without queues."""
        queues, turns = self._workloads.queues, self._workloads.turns
        if queues is not None and turns is not None:
            for name in queues.names:
                yield name, queues.share(name), turns.waiting(name)

    @property
    def cut_off(self) -> bool:
        """Whether so many clusters are lost that it is rather the scheduler who is."""
        return self._exodus.cut_off

    def hash(self) -> str:
        """Equal for states that decide alike: workloads, placements, and what is held on every node."""
        return fingerprint(self.fleet, (record.placed for record in self._workloads))

    def digest(self) -> str:
        """A weaker and cheap `hash`: it costs what changed since the last time."""
        return self._digest.value()

    def grant(self, cluster: str, asked: LeaseAsked) -> LeaseGranted:
        """What an executor may go on running, by all that was decided until now."""
        found = ((subject, self.find(subject.removeprefix(WORKLOAD_SUBJECT))) for subject in asked.subjects)
        subjects = tuple(subject for subject, record in found if record is not None and cluster in record.clusters)
        return LeaseGranted(cluster=cluster, life=asked.life, number=asked.number, subjects=subjects)

    # --- asking ---

    def find(self, key: str) -> WorkloadRecord | None:
        return self._workloads.get(key)

    def price_of(self, record: WorkloadRecord) -> Mapping[str, float]:
        """What the replicas of each pod set cost an hour, by the prices of now; see `placing.purse`."""
        return {
            plan.name: price_of(spent_on(self.fleet, record.key, plan, item))
            for plan, item in zip(record.plans, record.placed.pod_sets, strict=False)
            if plan.holds_room
        }

    def would_place(self, workload: Workload, plans: Sequence[PodSetPlan], index: int, now_ms: int) -> bool:
        """Whether all replicas of one of these plans find a place, beside all that is there and what the plans before
        it find, as a request would place them; with those that start together with it. Nothing comes of it.
        """
        key, drafts, gang = str(workload.key), [], plans[index].gang
        tried = plans if gang is not None and gang.with_others else plans[: index + 1]
        budget = Budget(max(2 * sum(plan.desired for plan in tried), self.config.placements_per_call))
        allowance = self._workloads.queues.rest(workload, tried) if self._workloads.queues is not None else None
        purse = self.settling.purse(key, plans, self._workloads.live(key), beside=True)
        for plan in tried:
            draft = self.settling.draft(key, workload, plan, None, now_ms)
            draft.allowance = allowance if plan.holds_room else None
            draft.purse = purse if plan.holds_room else None
            draft.settle(budget)
            drafts.append(draft)
        settle_gangs(drafts, budget)
        placed = not drafts[index].missing
        for draft in drafts:
            draft.discard()
        return placed
