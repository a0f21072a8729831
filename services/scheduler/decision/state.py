"""All that the scheduler knows, and every change of it: observations, decisions, and deciding.

A standby folds the same records as the leader (`observe_*`, `declare_cluster`, `apply`) and comes to the same state,
whatever the order between the streams: `hash` proves it. The leader applies its own decisions as it makes them.

Admission: `create` of a workload that is there with another specification is refused, as are `change` and `delete`
of one that is not; what asks for what is there already decides nothing. A workload that is being deleted counts as
not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ParamSpec, TypeVar

from services.scheduler.decision.asked.admission import PlanCache, PodSetPlan, plan_workload
from services.scheduler.decision.asked.manifests import Division, grace_ms
from services.scheduler.decision.asked.priorities import PLAIN, importance_of
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.decided.records import WorkloadRecord, uid_for
from services.scheduler.decision.decided.turns import Turns
from services.scheduler.decision.decided.waiting import entry_of
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.digest import StateDigest
from services.scheduler.decision.fingerprint import fingerprint
from services.scheduler.decision.leaving.evacuation import Evacuation
from services.scheduler.decision.leaving.exodus import Exodus, RoomVersion
from services.scheduler.decision.placing.allowance import QUEUE_LIMIT, Allowance
from services.scheduler.decision.placing.confinement import Confinement
from services.scheduler.decision.placing.drafts import PodSetDraft, settle_followers
from services.scheduler.decision.placing.gangs import is_hopeless, settle_gangs
from services.scheduler.decision.placing.purse import OVER_BUDGET, Purse, purse_of, spent_on
from services.scheduler.decision.placing.replicas import Budget, Replica
from services.scheduler.decision.placing.single import Admitted, Place, conclude_single, place_singles
from services.scheduler.decision.preempting.preemption import Preemption
from services.scheduler.decision.preempting.reserving import Reserve
from services.scheduler.decision.rebalancing.rebalancing import Rebalancing
from services.scheduler.decision.scoring.prices import price_of
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.moves import Moves
from services.scheduler.decision.seen.reservations import ShareKey
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import (
    Decision,
    PodSetPlacement,
    RequestRef,
    RequestRejected,
    WorkloadForgotten,
    WorkloadPlaced,
)
from shared.events.v1.leases import LeaseAsked, LeaseGranted
from shared.events.v1.metrics import NodeMetricsSampled
from shared.events.v1.objects import ClusterObserved, SyncMarked
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.events.v1.workloads import ApplyWorkload, DeleteWorkload, FieldError, Workload
from shared.model.identities import WORKLOAD_SUBJECT, ObjectKey

Asked = tuple[WorkloadRequested, RequestRef]
Answer = list[Decision] | Exception
T = TypeVar("T")
P = ParamSpec("P")

_CACHED_PLANS = 4096
_NOWHERE: frozenset[int] = frozenset()
_NO_ERRORS: tuple[FieldError, ...] = ()
_NEVER = (-1, -1, -1, -1)


class SchedulerState:
    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.fleet = Fleet(config)
        self._workloads = Workloads(self.fleet)
        self._confirmed: dict[str, set[str]] = {}
        self._moves = Moves(config)
        self._exodus = Exodus(self.fleet, self._workloads)
        self._rebalancing = Rebalancing(self.fleet, self._workloads, self._exodus.troubles)
        self._reserve = Reserve(self.fleet, self._workloads, self._drafts_of)
        self.preemption = Preemption(
            self.fleet, self._workloads, self._drafts_of, self._conclude, self._reserve.keep_from
        )
        self._plans = PlanCache(_CACHED_PLANS)
        self._any_default = any(item.default for item in config.priority_classes.values())
        self._digest = StateDigest(self.fleet.table, self._workloads, self.fleet.clusters)
        # Shares that may have lost a replica, of clusters that are not heard.
        self._unheard: set[ShareKey] = set()
        self._surveyed = False
        self._tried_at = _NEVER
        # Workloads whose last decision is made anew, and will be seen by nobody as it is: a turn among queues follows.
        self._unseen: dict[str, Decision] = {}
        self._clusters_at = -1
        # Whether nothing was left of a call for all who would take the room of others.
        self._preempts_later = False

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

    def observe_result(self, report: CommandReported, heard_at: int) -> None:
        """A confirmed withdrawal is decided upon at the next `decide_pending`. `heard_at`: see `observe_cluster`."""
        if report.lease is not None:
            self.fleet.leases.asked(report.cluster, heard_at)
        if report.outcome != "withdrawn" or not report.subject.startswith(WORKLOAD_SUBJECT):
            return
        key = report.subject.removeprefix(WORKLOAD_SUBJECT)
        record = self._workloads.get(key)
        if record is not None and record.confirms(report.cluster, report.generation):
            self._confirmed.setdefault(key, set()).add(report.cluster)

    def note_generation(self, decision: Decision, generation: int) -> None:
        """The journal has this decision at this offset. To be called once for each one applied, in their order."""
        if not isinstance(decision, WorkloadPlaced):
            return
        record = self._workloads.get(str(decision.workload.key))
        if record is not None and record.placed.uid == decision.uid:
            record.note(generation)

    # --- folding decisions ---

    def apply(self, decision: Decision) -> None:
        """Folds one decision of the journal; it states the whole outcome for its workload."""
        if isinstance(decision, WorkloadPlaced):
            plans, _ = self._plan(decision.workload)
            self._fold(str(decision.workload.key), decision, plans)
        elif isinstance(decision, WorkloadForgotten):
            record = self._workloads.get(decision.key)
            if record is not None and record.placed.uid == decision.uid:
                self._forget(record)

    def _plan(self, workload: Workload) -> tuple[tuple[PodSetPlan, ...], tuple[FieldError, ...]]:
        images = self.config.weights.images > 0
        return plan_workload(workload, self.config.gpu_resource, self._plans, images=images)

    def _fold(
        self, key: str, placed: WorkloadPlaced, plans: tuple[PodSetPlan, ...], drafts: Iterable[PodSetDraft] = ()
    ) -> None:
        ready = {draft.plan.name: draft.ready_holds for draft in drafts}
        self._workloads.fold(key, placed, plans, ready, instead=key in self._unseen)

    def _forget(self, record: WorkloadRecord) -> None:
        self._workloads.forget(record)
        self._confirmed.pop(record.key, None)
        self._moves.forget(record.key)

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
        self.fleet.clusters.watch_silence(now_ms)
        run: dict[str, Admitted] = {}
        for request, ref in requests:
            self._reserve.look(now_ms)
            body = request.root
            key = body.workload.key_text
            if run and (key in run or isinstance(body, DeleteWorkload)):
                yield from self._decide_run(run, now_ms)
            if isinstance(body, DeleteWorkload):
                yield [_tried(self._decide_delete, key, ref)]
                continue
            admitted = _tried(self._admit, key, body, ref)
            if isinstance(admitted, Admitted) and admitted.single:
                run[key] = admitted
                if self._workloads.together:
                    # Before the next one is looked at, for whom room is kept may be another.
                    yield from self._decide_run(run, now_ms)
                continue
            yield from self._decide_run(run, now_ms)
            if isinstance(admitted, Admitted):
                admitted = _tried(self._decide_admitted, admitted, now_ms)
            yield [admitted]
        yield from self._decide_run(run, now_ms)

    def reject(self, key: str, ref: RequestRef, errors: tuple[FieldError, ...]) -> list[Decision]:
        """The refusal of a request, for what could not be read as well."""
        return [RequestRejected(key=key, request=ref, errors=errors)]

    def decide_pending(self, now_ms: int) -> list[Decision]:
        """What changes since the last time made worth deciding again, up to a limit; see `has_work`.

        Confirmed withdrawals are decided in full: the report that confirmed them counts as consumed.
        """
        fleet = self.fleet
        fleet.leases.begin(now_ms)
        fleet.clusters.watch_silence(now_ms)
        budget = Budget(self.config.placements_per_call)
        decisions = self._decide_confirmed(budget, now_ms)
        decisions += self._decide_stranded(budget, now_ms)
        decisions += self._decide_moves(budget, now_ms)
        decisions += self._decide_evacuations(budget, now_ms)
        if self._clusters_at != fleet.clusters.version:
            self._clusters_at = fleet.clusters.version
            for key in sorted(self._workloads.everywhere):
                decisions += self._redecide(key, budget, now_ms)
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
        """Whether `decide_pending` would go on where it stopped for its limit."""
        fleet = self.fleet
        workloads = self._workloads
        in_round = workloads.turns.in_round if workloads.turns is not None else workloads.waiting.in_round
        if in_round or workloads.unfinished or workloads.stranded or fleet.pods.unsettled or self._preempts_later:
            return True
        return bool(len(self._workloads.waiting)) and self._tried_at != self._room_version()

    @property
    def leaving(self) -> int:
        """Workloads with replicas that wait to leave a cluster."""
        return len(self._workloads.leaving)

    def take_rebalances(self) -> int:
        """How many replicas began to move to better places since this was asked last."""
        return self._rebalancing.take_begun()

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

    def _room_version(self) -> RoomVersion:
        """Changes whenever there may be room where there was none."""
        return self.fleet.table.freed, self.fleet.clusters.version, self._moves.version, self._reserve.version

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
        purse = self._purse(key, plans, self._workloads.live(key), beside=True)
        for plan in tried:
            draft = self._draft(key, workload, plan, None, now_ms)
            draft.allowance = allowance if plan.holds_room else None
            draft.purse = purse if plan.holds_room else None
            draft.settle(budget)
            drafts.append(draft)
        settle_gangs(drafts, budget)
        placed = not drafts[index].missing
        for draft in drafts:
            draft.discard()
        return placed

    # --- one workload ---

    def _admit(self, key: str, body: ApplyWorkload, ref: RequestRef) -> Admitted | list[Decision]:
        """A request that can be decided upon; else the answer."""
        workload = body.workload
        record = self._workloads.get(key)
        live = record if record is not None and not record.placed.deleting else None
        if live is not None and (live.placed.request.id == ref.id or live.placed.workload == workload):
            return []
        if errors := _misplaced(body, live):
            return self.reject(key, ref, errors)
        plans, errors = self._plan(workload)
        if not errors and self._is_plain(workload, plans):
            importance, wrong = PLAIN, _NO_ERRORS
        else:
            importance, wrong = importance_of(workload, self.config.priority_classes)
        queues = self._workloads.queues
        if queues is not None:
            errors = (*queues.errors(workload), *errors)
        if errors or wrong:
            return self.reject(key, ref, (*wrong, *errors))
        single = record is None and queues is None and not self._reserve.head and len(plans) == 1 and plans[0].single
        return Admitted(key, workload, plans, ref, importance, single)

    def _is_plain(self, workload: Workload, plans: Sequence[PodSetPlan]) -> bool:
        """Whether nobody says anything of a priority class: neither it, nor its pods, nor the fleet for all others."""
        said = workload.priority_class is not None or workload.preemption_policy is not None or self._any_default
        return not said and len(plans) == 1 and not plans[0].names_class

    def _decide_admitted(self, admitted: Admitted, now_ms: int) -> list[Decision]:
        return [self._decide_workload(admitted, self._workloads.get(admitted.key), now_ms)]

    def _decide_run(self, run: dict[str, Admitted], now_ms: int) -> Iterator[list[Answer]]:
        """New workloads of one pod each, and none of them twice; `run` is empty afterwards."""
        waiting, most = [*run.values()], len(run)
        run.clear()
        while waiting:
            answers, stuck = self._decide_singles(waiting[:most], now_ms)
            # Where one has no place, others may have none: few are tried together, and then more.
            most = 1 if stuck else 2 * most
            if answers:
                yield answers
            del waiting[: len(answers)]
            if stuck:
                # There is no place for the next, and more to say than that.
                yield [_tried(self._decide_admitted, waiting.pop(0), now_ms)]

    def _decide_singles(self, run: Sequence[Admitted], now_ms: int) -> tuple[list[Answer], bool]:
        """Decides upon the first ones; and whether the next has no place."""
        if self._moves.any_avoided or self._exodus.any_avoided:
            avoided = [self._avoided(single.key, single.plans[0], now_ms) for single in run]
        else:
            avoided = [_NOWHERE] * len(run)
        places, stuck = place_singles(self.fleet, run, avoided)
        decided: list[WorkloadPlaced | Exception] = []
        for single, place in zip(run, places, strict=False):
            try:
                decided.append(
                    conclude_single(single, place, uid_for(single.key, single.ref.id))
                    if isinstance(place, Place)
                    else place
                )
            except Exception as error:  # noqa: BLE001 - the answer to this one
                decided.append(error)
        answers: list[Answer] = []
        begin = self._workloads.begin
        for single, place, placed in zip(run, places, decided, strict=False):
            try:
                if isinstance(placed, WorkloadPlaced) and isinstance(place, Place):
                    begin(placed, single.plans, place.share, place.hold, known=place.known)
                    answers.append([placed])
                elif isinstance(placed, Exception):
                    answers.append(placed)
            except Exception as error:  # noqa: BLE001 - the answer to this one
                answers.append(error)
        return answers, stuck

    def _decide_workload(self, admitted: Admitted, record: WorkloadRecord | None, now_ms: int) -> WorkloadPlaced:
        key, workload, plans, ref, importance, _ = admitted
        live = record.placed if record is not None and not record.placed.deleting else None
        former = {plan.name: plan for plan in record.plans} if record is not None and live is not None else {}
        budget = Budget(self.config.placements_per_call, closed=self._waits_its_turn(admitted))
        allowance = self._allowance(key, workload, plans, record if live is not None else None)
        purse = self._purse(key, plans, record if live is not None else None)
        moves = live is not None and live.workload.queue != workload.queue
        confined = self._confinement(workload, record, now_ms)
        drafts = []
        for plan in plans:
            before = former.get(plan.name)
            draft = self._draft_on(key, workload, plan, before, record, now_ms)
            if confined is not None:
                confined.add(draft)
            draft.allowance = allowance if plan.holds_room else None
            draft.purse = purse if plan.holds_room else None
            if before is not None and (moves or before.demand != plan.demand):
                draft.keep_within_queue()
            if draft.gang is not None and draft.gang.restarts:
                # What runs and has to start anew does not wait in line for it: it would be given up meanwhile.
                budget = Budget(self.config.placements_per_call)
            if confined is None:
                draft.settle(budget)
            drafts.append(draft)
        if confined is not None:
            confined.settle(budget)
        if len(drafts) > 1 or drafts[0].gang is not None:
            _settle_together(drafts, budget)
        placed = WorkloadPlaced(
            workload=workload,
            uid=live.uid if live is not None else uid_for(key, ref.id),
            workload_generation=live.workload_generation + 1 if live is not None else 1,
            request=ref,
            pod_sets=tuple([draft.outcome() for draft in drafts]),
            withdrawn=self._withdrawn(record, drafts) if record is not None else (),
            unleased=_unleased(workload, record.placed) if record is not None else (),
            priority=importance.priority,
            preempts=importance.preempts,
        )
        self._fold(key, placed, plans, drafts)
        return placed

    def _draft_on(
        self,
        key: str,
        workload: Workload,
        plan: PodSetPlan,
        before: PodSetPlan | None,
        record: WorkloadRecord | None,
        now_ms: int,
    ) -> PodSetDraft:
        """What is there of a pod set goes on, as far as it can with what is asked now."""
        if before is None or record is None or not _continues(before, plan, record, workload):
            return self._draft(key, workload, plan, None, now_ms)
        draft = self._draft(key, workload, plan, record.placement(plan.name), now_ms)
        if before.demand != plan.demand:
            draft.refit()
        if before.sharing != plan.sharing:
            draft.conform()
        return draft

    def _conclude(
        self, record: WorkloadRecord, outcomes: tuple[PodSetPlacement, ...], drafts: Sequence[PodSetDraft]
    ) -> WorkloadPlaced:
        """Decides a workload anew as it was accepted."""
        present = {share.cluster for item in outcomes for share in item.shares}
        withdrawn = tuple(sorted((record.clusters | set(record.placed.withdrawn)) - present))
        placed = record.decided_anew(pod_sets=outcomes, withdrawn=withdrawn)
        self._fold(record.key, placed, record.plans, drafts)
        return placed

    def _drafts_of(self, record: WorkloadRecord, now_ms: int) -> list[PodSetDraft]:
        """A workload's outcome as it is, but for replicas that lost their place."""
        drafts = []
        allowance = self._allowance(record.key, record.placed.workload, record.plans, record)
        purse = self._purse(record.key, record.plans, record)
        confined = self._confinement(record.placed.workload, record, now_ms)
        for plan in record.plans:
            draft = self._draft(record.key, record.placed.workload, plan, record.placement(plan.name), now_ms)
            if confined is not None:
                confined.add(draft)
            draft.allowance = allowance if plan.holds_room else None
            draft.purse = purse if plan.holds_room else None
            draft.kept_for = self._reserve.head if self._reserve.kept else ""
            if plan.division is Division.NODES:
                draft.drop(lambda replica, draft=draft: self._is_lost(draft, replica))  # type: ignore[misc]
            drafts.append(draft)
        return drafts

    def _decide_delete(self, key: str, ref: RequestRef) -> list[Decision]:
        record = self._workloads.get(key)
        if record is not None and record.placed.deleting:
            return []
        if record is None:
            error = FieldError(field="workload.name", reason="NotFound", message=f"there is no workload {key}")
            return self.reject(key, ref, (error,))
        placed = record.decided_anew(request=ref, pod_sets=(), withdrawn=self._withdrawn(record, ()), deleting=True)
        self._fold(key, placed, ())
        return [placed, *self._end(record)]

    def _end(self, record: WorkloadRecord) -> list[Decision]:
        """A deleted workload that no cluster of the fleet has any more is forgotten."""
        placed = record.placed
        if not placed.deleting or not self.fleet.clusters.gone.issuperset(placed.withdrawn):
            return []
        forgotten = WorkloadForgotten(key=record.key, uid=placed.uid, unconfirmed=placed.withdrawn)
        self._forget(record)
        return [forgotten]

    def _withdrawn(self, record: WorkloadRecord | None, drafts: Iterable[PodSetDraft]) -> tuple[str, ...]:
        """The clusters that had a share, or were being left already, and now have none."""
        if record is None:
            return ()
        present = {replica.cluster for draft in drafts for replica in (*draft.replicas, *draft.leaving)}
        return tuple(sorted((record.clusters | set(record.placed.withdrawn)) - present))

    def _draft(
        self, key: str, workload: Workload, plan: PodSetPlan, previous: PodSetPlacement | None, now_ms: int
    ) -> PodSetDraft:
        draft = PodSetDraft(self.fleet, key, workload, plan, previous, self._avoided(key, plan, now_ms))
        if gone := self.fleet.clusters.gone:
            draft.drop(lambda replica: replica.cluster in gone)
        return draft

    def _confinement(self, workload: Workload, record: WorkloadRecord | None, now_ms: int) -> Confinement | None:
        """Where a workload may be that is in one cluster at a time; None for all others."""
        if not workload.placement.at_most_once:
            return None
        commanded = record.placed.commanded if record is not None else frozenset()

        def released(name: str) -> bool:
            return record is not None and self._is_released(name, record.placed, now_ms)

        return Confinement(self.fleet, commanded, released)

    def _is_released(self, name: str, placed: WorkloadPlaced, now_ms: int) -> bool:
        """Whether a cluster is known to run nothing of a workload, without having said so."""
        cluster = self.fleet.clusters.get(name)
        if cluster is None or cluster.runs_nothing:
            return cluster is not None
        leased = placed.workload.placement.leased and name not in placed.unleased
        return leased and cluster.lost and self.fleet.leases.is_over(name, now_ms, grace_ms(placed.workload))

    def _avoided(self, key: str, plan: PodSetPlan, now_ms: int) -> frozenset[int]:
        """The indexes of clusters where no new replica of a pod set shall go."""
        avoid = _NOWHERE
        if names := self._moves.avoided(key, plan.name, now_ms):
            avoided = (self.fleet.clusters.get(name) for name in names)
            avoid = frozenset(cluster.index for cluster in avoided if cluster is not None)
        if repelling := self._exodus.avoided(plan):
            avoid = avoid.union(repelling)
        return avoid

    def _redecide(
        self,
        key: str,
        budget: Budget,
        now_ms: int,
        moving: dict[ShareKey, int] | None = None,
        mover: Evacuation | Rebalancing | None = None,
    ) -> list[Decision]:
        """Settles a workload anew as it was accepted; decides nothing where nothing comes of it."""
        record = self._workloads.live(key)
        if record is None:
            return []
        drafts = self._drafts_of(record, now_ms)
        confined = drafts[0].confined if drafts else None
        if confined is not None:
            if isinstance(mover, Evacuation):
                self._vacate(record, drafts, confined, mover, now_ms)
            confined.settle(budget)
        for draft in drafts if confined is None else ():
            _move(draft, budget, moving or {})
            if mover is not None:
                mover.settle(key, draft, budget, record.placed.withdrawn)
            draft.settle(budget)
        _settle_together(drafts, budget)
        budget.end_try()
        outcomes = tuple(draft.outcome() for draft in drafts)
        if not _differ(outcomes, record.placed.pod_sets):
            for draft in drafts:
                draft.discard()
            return []
        return [self._conclude(record, outcomes, drafts)]

    def _vacate(
        self,
        record: WorkloadRecord,
        drafts: Sequence[PodSetDraft],
        confined: Confinement,
        evacuation: Evacuation,
        now_ms: int,
    ) -> None:
        """Leaves a cluster as a whole, if it has to and another one has room for it, to start there when it is gone."""
        cluster = evacuation.must_vacate(drafts, confined.released)
        if not cluster:
            return
        trial = Confinement(self.fleet, (), confined.released)
        budget = Budget(2 * sum(plan.desired for plan in record.plans) + 2 * len(self.fleet.clusters))
        tried = [self._draft(record.key, record.placed.workload, plan, None, now_ms) for plan in record.plans]
        purse = self._purse(record.key, record.plans, None)
        for draft, own in zip(tried, drafts, strict=True):
            draft.allowance, draft.purse = own.allowance, purse if draft.plan.holds_room else None
            trial.add(draft)
        trial.leave(cluster)
        trial.settle(budget)
        fits = not any(draft.missing for draft in tried if not draft.plan.follows)
        for draft in tried:
            draft.discard()
        if fits:
            evacuation.vacate(drafts)
            confined.leave(cluster)
        evacuation.no_room = evacuation.no_room or not fits

    def _lost(self) -> set[str]:
        """Workloads that may have lost a replica, as far as their clusters are heard. The others are looked at then."""
        fleet = self.fleet
        if not self._surveyed:
            # Nodes that went while nobody led: nothing is observed of them any more.
            self._surveyed = True
            fleet.pods.unsettled.update(fleet.slots.unfounded())
        unsettled = {share for share in self._unheard | fleet.pods.unsettled if self._workloads.get(share.workload)}
        fleet.pods.unsettled.clear()
        self._unheard = {share for share in unsettled if not self.is_heard(share.cluster)}
        return {share.workload for share in unsettled - self._unheard}

    def _is_lost(self, draft: PodSetDraft, replica: Replica) -> bool:
        """A bound replica whose pod is gone and whose node, in a cluster that we hear of, takes it no more, or came
        back too small for what is expected there.
        """
        if not self.is_heard(replica.cluster) or not draft.is_unseen(replica):
            return False
        slots = self.fleet.slots
        slot = slots.get(replica.cluster, replica.node)
        return not draft.passes(replica) or (slot is not None and slots.is_overbooked(slot))

    def is_heard(self, name: str) -> bool:
        """Whether what is known of a cluster's nodes and pods can be believed to be so now."""
        cluster = self.fleet.clusters.get(name)
        return cluster is not None and cluster.heard

    # --- many workloads ---

    def _decide_confirmed(self, budget: Budget, now_ms: int) -> list[Decision]:
        decisions: list[Decision] = []
        confirmed, self._confirmed = self._confirmed, {}
        for key, clusters in confirmed.items():
            record = self._workloads.get(key)
            left = [cluster for cluster in record.leaving if cluster not in clusters] if record is not None else []
            if record is None or len(left) == len(record.leaving):
                continue
            retired = tuple(sorted(record.leaving.keys() - set(left)))
            placed = record.decided_anew(withdrawn=tuple(sorted(left)), retired=retired)
            self._fold(key, placed, record.plans)
            decisions += [placed, *self._end(record)]
            if placed.workload.placement.at_most_once:
                # It has waited for this, and for no room.
                decisions += self._redecide(key, budget, now_ms)
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
                decisions += self._end(record) if record.placed.deleting else self._redecide(key, budget, now_ms)
        return decisions

    def _decide_moves(self, budget: Budget, now_ms: int) -> list[Decision]:
        """Replicas that lost their node, and those that their cluster cannot schedule, as far as it is heard."""
        fleet = self.fleet
        due = self._moves.due(fleet.pods.unschedulable, now_ms)
        moving = {share: count for share, count in due.items() if self.is_heard(share.cluster)}
        for share in moving:
            self._moves.avoid(share, now_ms)
        lost = self._lost()
        decisions: list[Decision] = []
        for key in sorted(lost | {share.workload for share in moving}):
            if key in self._workloads.bound or any(share.workload == key for share in moving):
                own = {share: count for share, count in moving.items() if share.workload == key}
                decisions += self._redecide(key, budget, now_ms, own)
        return decisions

    def _decide_evacuations(self, budget: Budget, now_ms: int) -> list[Decision]:
        """Replicas that have to leave their clusters, and those that wait to leave."""
        decisions: list[Decision] = []
        if not self._exodus.look(now_ms):
            return decisions
        for key in sorted(self._workloads.leased):
            record = self._workloads.live(key)
            if record and any(self._is_released(name, record.placed, now_ms) for name in record.placed.withdrawn):
                decisions += self._redecide(key, budget, now_ms)
        for key in self._exodus.turns(self._room_version):
            if budget.spent:
                break
            decisions += self._redecide(key, budget, now_ms, mover=self._exodus.evacuation)
        return decisions

    def _decide_rebalancing(self, budget: Budget, now_ms: int) -> list[Decision]:
        """Replicas that are better off elsewhere, when nothing that waits or has to leave can have the room."""
        decisions: list[Decision] = []

        def is_free() -> bool:
            return not self._reserve.head and not self.has_work and self._exodus.is_done(self._room_version())

        for key in self._rebalancing.turns(now_ms, is_free):
            if budget.spent:
                break
            decisions += self._redecide(key, budget, now_ms, mover=self._rebalancing)
        return decisions

    def _decide_waiting(self, budget: Budget, now_ms: int) -> list[Decision]:
        fleet, waiting = self.fleet, self._workloads.waiting
        decisions: list[Decision] = []
        if self._workloads.turns is not None:
            return self._decide_in_turn(self._workloads.turns, budget, now_ms)
        for key in sorted(self._workloads.unfinished):
            if not budget.spent:
                self._keep_from(key)
                decisions += self._redecide(key, budget, now_ms)
        if not waiting.in_round and not budget.spent and self._tried_at != self._room_version():
            self._tried_at = self._room_version()
            self._reserve.let_go()
            waiting.start_round(lambda demand: fleet.profile_for(demand).has_room())
        while not budget.spent and (turn := waiting.next()) is not None:
            key, demand = turn
            self._keep_from(key)
            if not fleet.profile_for(demand).has_room():
                waiting.skip(demand)
                continue
            if not self._is_hopeless(key):
                decisions += self._redecide(key, budget, now_ms)
            budget.left -= 1
        return decisions

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
        if self._tried_at != self._room_version():
            return []
        decisions = self.preemption.decide(budget, now_ms) if not budget.spent else []
        self._preempts_later = budget.spent
        if decisions:
            # What made room may have a place elsewhere.
            self._tried_at = _NEVER
        return decisions

    def _decide_in_turn(self, turns: Turns, budget: Budget, now_ms: int) -> list[Decision]:
        """Of each workload one decision, the last: the others are nobody's business."""
        fleet, workloads = self.fleet, self._workloads
        decisions: list[Decision] = []
        if not turns.in_round and (self._tried_at != self._room_version() or workloads.unfinished):
            decisions = self._decide_roomless(budget, now_ms)
            self._tried_at = self._room_version()
            turns.start_round(lambda demand: fleet.profile_for(demand).has_room())
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
            made = [] if self._is_hopeless(key) else self._redecide(key, own, now_ms)
            for decision in made:
                self._unseen.pop(key, None)
                self._unseen[key] = decision
            budget.left += own.left - 1
            if not made or key not in workloads.unfinished:
                turns.done()
        made, self._unseen = list(self._unseen.values()), {}
        return [*decisions, *made]

    def _decide_roomless(self, budget: Budget, now_ms: int) -> list[Decision]:
        """What is about to be placed and has no room anywhere has no turn in the round to come: it is told so."""
        decisions: list[Decision] = []
        for key in sorted(self._workloads.unfinished):
            record = self._workloads.live(key)
            if record is None or budget.spent:
                continue
            short = {item.name for item in record.placed.pod_sets if item.reason}
            if not any(self.fleet.profile_for(plan.demand).has_room() for plan in record.plans if plan.name in short):
                decisions += self._redecide(key, budget, now_ms)
                budget.left -= 1
        return decisions

    def _waits_its_turn(self, admitted: Admitted) -> bool:
        """Whether others wait for the room that a request would take: then it has its turn as they have theirs. Without
        queues that is so where room is kept for one of them.
        """
        waiting, queues, key = self._workloads.waiting, self._workloads.queues, admitted.key
        demands = [plan.demand for plan in admitted.plans if plan.holds_room]
        if queues is None:
            priority = admitted.importance.priority
            rank = admitted.workload.priority if priority is None else priority
            if not self._reserve.comes_behind(key, "", entry_of(rank, admitted.ref.published_at, key), demands):
                return False
        elif len(waiting) <= (key in waiting):
            return False
        return any(self.fleet.profile_for(demand).has_room() for demand in demands)

    def _allowance(
        self, key: str, workload: Workload, plans: Iterable[PodSetPlan], record: WorkloadRecord | None
    ) -> Allowance | None:
        queues = self._workloads.queues
        return queues.allowance(key, workload, plans, record) if queues is not None else None

    def _purse(
        self, key: str, plans: Sequence[PodSetPlan], record: WorkloadRecord | None, *, beside: bool = False
    ) -> Purse | None:
        """What a workload may cost, and what it has costs; None without a limit. `beside`: as for `purse_of`."""
        if all(plan.price_limit is None for plan in plans):
            return None
        placed = {}
        if record is not None:
            former = {plan.name: plan.division for plan in record.plans}
            kept = {plan.name for plan in plans if former.get(plan.name) is plan.division}
            placed = {item.name: item for item in record.placed.pod_sets if item.name in kept}
        return purse_of(self.fleet, key, plans, placed, beside=beside)

    def _is_hopeless(self, key: str) -> bool:
        """Whether nothing comes of another try, for sure: there is no room for so many that have to start together, the
        queue still is at its limit, or the cheapest place still costs more than is left.
        """
        record, queues = self._workloads.live(key), self._workloads.queues
        if record is None:
            return False
        pairs = ((plan, record.placement(plan.name)) for plan in record.plans)
        waiting = [(plan, placement) for plan, placement in pairs if placement is not None and placement.reason]
        queue = queues.of(record.placed.workload) if queues is not None else ""
        return all(
            is_hopeless(self.fleet, plan, placement)
            or (queues is not None and placement.reason == QUEUE_LIMIT and queues.is_full(queue, plan.demand))
            or (placement.reason == OVER_BUDGET and self._is_too_dear(record, plan))
            for plan, placement in waiting
        )

    def _is_too_dear(self, record: WorkloadRecord, plan: PodSetPlan) -> bool:
        purse = self._purse(record.key, record.plans, record)
        lowest = self.fleet.profile_for(plan.demand, plan.facts(record.placed.workload)).lowest_price()
        return purse is not None and lowest is not None and lowest > max(purse.left, 0)


def _settle_together(drafts: list[PodSetDraft], budget: Budget) -> None:
    """What one pod set's outcome means for the others."""
    settle_gangs(drafts, budget)
    settle_followers(drafts)


def _unleased(workload: Workload, before: WorkloadPlaced) -> tuple[str, ...]:
    """Where a workload that runs by leases from now on may be running by what was asked before."""
    if not workload.placement.leased:
        return ()
    return before.unleased if before.workload.placement.leased else tuple(sorted(before.commanded))


def _move(draft: PodSetDraft, budget: Budget, moving: dict[ShareKey, int]) -> None:
    """So many replicas of a share found no node: each goes elsewhere, if there is room."""
    for share, count in moving.items():
        if share.pod_set == draft.plan.name and draft.plan.division is Division.DIVIDED:
            for _ in range(count):
                draft.move_one(share.cluster, budget)


def _continues(before: PodSetPlan, plan: PodSetPlan, record: WorkloadRecord, workload: Workload) -> bool:
    """Whether replicas stay what they were. So they do where all that changed is that they are in one cluster, as they
    are anyway, or need not be any more.
    """
    if before.division is plan.division:
        return True
    once = record.placed.workload.placement.at_most_once != workload.placement.at_most_once
    both = {before.division, plan.division} == {Division.DIVIDED, Division.TOGETHER}
    return once and both and len(record.clusters) <= 1


def _tried(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """What it returns, or the error that it raises: one request's trouble is not that of those around it."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - the answer
        return error


def _misplaced(body: ApplyWorkload, live: WorkloadRecord | None) -> tuple[FieldError, ...]:
    """Why an operation does not suit what is there."""
    if body.operation == "create" and live is not None:
        message = f"workload {body.workload.key} exists and is different; use apply or change"
        return (FieldError(field="workload.name", reason="AlreadyExists", message=message),)
    if body.operation == "change" and live is None:
        message = f"there is no workload {body.workload.key}"
        return (FieldError(field="workload.name", reason="NotFound", message=message),)
    return ()


def _differ(outcomes: tuple[PodSetPlacement, ...], former: tuple[PodSetPlacement, ...]) -> bool:
    """Whether places changed, or why there are none; the counts in a message alone are not worth a decision."""
    if len(outcomes) != len(former):
        return True
    return any(
        (new.shares, new.desired, new.reason) != (old.shares, old.desired, old.reason)
        for new, old in zip(outcomes, former, strict=True)
    )
