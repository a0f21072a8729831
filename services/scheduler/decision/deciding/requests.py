"""What requests lead to.

Admission: `create` of a workload that is there with another specification is refused, as are `change` and `delete`
of one that is not; what asks for what is there already decides nothing. A workload that is being deleted counts as
not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plan_cache import PlanCache
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.asked.priorities import PLAIN, Importance, importance_of
from services.scheduler.decision.decided.records import WorkloadRecord, uid_for
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.deciding.following import Following
from services.scheduler.decision.deciding.settling import Settling, settle_together
from services.scheduler.decision.leaving.exodus import Exodus
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.placing.single import Admitted, conclude_single, conclude_stuck, place_singles
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.moves import Moves
from shared.events.v1.decisions import (
    Decision,
    RequestRef,
    RequestRejected,
    WorkloadPlaced,
)
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.workloads import ApplyWorkload, DeleteWorkload, FieldError, Workload

Asked = tuple[WorkloadRequested, RequestRef]
Answer = list[Decision] | Exception
T = TypeVar("T")
P = ParamSpec("P")

_CACHED_PLANS = 4096
_NOWHERE: frozenset[int] = frozenset()
_NO_ERRORS: tuple[FieldError, ...] = ()


class Requests:
    def __init__(self, fleet: Fleet, workloads: Workloads, moves: Moves, exodus: Exodus, settling: Settling) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._moves = moves
        self._exodus = exodus
        self._settling = settling
        self._reserve = settling.reserve
        self._plans = PlanCache(_CACHED_PLANS)
        self._gpu_resource = fleet.config.gpu_resource
        self._by_images = fleet.config.weights.images > 0
        self._following = Following(fleet.recommendations, self.plan)
        self._any_default = any(item.default for item in fleet.config.priority_classes.values())

    def decide(self, requests: Iterable[Asked], now_ms: int) -> Iterator[list[Answer]]:
        """What `decide_request` does for one after the other; faster where new workloads of one pod come in a row.

        Yields the answers to the next few, which are applied; of those behind them nothing is decided yet. An answer is
        an error where `decide_request` raises it.
        """
        self._fleet.clusters.watch_silence(now_ms)
        run: dict[str, Admitted] = {}
        for request, ref in requests:
            if not run:
                # Otherwise nothing was decided since it looked last.
                self._reserve.look(now_ms)
            body = request.root
            key = body.workload.key_text
            if isinstance(body, DeleteWorkload):
                yield from self._decide_run(run, now_ms)
                yield [_tried(self._decide_delete, key, ref)]
                continue
            if key in run:
                yield from self._decide_run(run, now_ms)
            admitted: Admitted | Answer
            try:
                admitted = self._admit(key, body, ref)
            except Exception as error:  # noqa: BLE001 - the answer to this one
                admitted = error
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

    def plan(self, workload: Workload) -> tuple[tuple[PodSetPlan, ...], tuple[FieldError, ...]]:
        return plan_workload(workload, self._gpu_resource, self._plans, images=self._by_images)

    # --- admission ---

    def _admit(self, key: str, body: ApplyWorkload, ref: RequestRef) -> Admitted | list[Decision]:
        """A request that can be decided upon; else the answer."""
        workload = body.workload
        record = self._workloads.get(key)
        live = record if record is not None and not record.placed.deleting else None
        if live is not None and (live.placed.request.id == ref.id or live.placed.workload == workload):
            return []
        if (live is not None or body.operation == "change") and (errors := _misplaced(body, live)):
            return reject(key, ref, errors)
        plans, errors = self.plan(workload)
        if live is not None and not errors:
            plans = self._following.changed(workload, plans, live)
        if not errors and self._is_plain(workload, plans):
            importance, wrong = PLAIN, _NO_ERRORS
        else:
            importance, wrong = importance_of(workload, self._fleet.config.priority_classes)
        queues = self._workloads.queues
        if queues is not None:
            errors = (*queues.errors(workload), *errors)
        if errors or wrong:
            return reject(key, ref, (*wrong, *errors))
        single = record is None and queues is None and not self._reserve.head and len(plans) == 1 and plans[0].single
        return Admitted(key, workload, plans, ref, importance, single)

    def _is_plain(self, workload: Workload, plans: Sequence[PodSetPlan]) -> bool:
        """Whether nobody says anything of a priority class: neither it, nor its pods, nor the fleet for all others."""
        said = workload.priority_class is not None or workload.preemption_policy is not None or self._any_default
        return not said and len(plans) == 1 and not plans[0].names_class

    # --- what is scaled ---

    def decide_scaled(self, now_ms: int) -> list[Decision]:
        """Workloads of which the autoscaler wants other replicas or requests than was decided, up to a limit."""
        changed, decisions = self._fleet.recommendations.changed, list[Decision]()
        left = self._fleet.config.placements_per_call
        for key in sorted(changed) if changed else ():
            if left <= 0:
                break
            changed.discard(key)
            record = self._workloads.live(key)
            admitted = self._rescaled(record) if record is not None else None
            if record is not None and admitted is not None:
                left -= 1 + sum(
                    abs(new.desired - old.desired) for new, old in zip(admitted.plans, record.plans, strict=True)
                )
                self._reserve.look(now_ms)
                decisions.append(self._decide_workload(admitted, record, now_ms, anew=False))
        return decisions

    def _rescaled(self, record: WorkloadRecord) -> Admitted | None:
        """The workload as it was accepted, as it should be now; None if it is so."""
        placed, plans = record.placed, self._following.now(record)
        if plans is None:
            return None
        importance = Importance(placed.priority, placed.preempts)
        return Admitted(record.key, placed.workload, plans, placed.request, importance, False)

    # --- new workloads of one pod ---

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
                yield [_tried(self._decide_stuck, waiting.pop(0), now_ms)]

    def _decide_singles(self, run: Sequence[Admitted], now_ms: int) -> tuple[list[Answer], bool]:
        """Decides upon the first ones; and whether the next has no place."""
        if self._moves.any_avoided or self._exodus.any_avoided:
            avoided = [self._settling.avoided(single.key, single.plans[0], now_ms) for single in run]
        else:
            avoided = [_NOWHERE] * len(run)
        places, stuck = place_singles(self._fleet, run, avoided)
        decided: list[WorkloadPlaced | Exception] = []
        for single, place in zip(run, places, strict=False):
            if isinstance(place, Exception):
                decided.append(place)
                continue
            try:
                decided.append(conclude_single(single, place, uid_for(single.key, single.ref.id)))
            except Exception as error:  # noqa: BLE001 - the answer to this one
                decided.append(error)
        answers: list[Answer] = []
        begin = self._workloads.begin
        for single, place, placed in zip(run, places, decided, strict=False):
            if isinstance(place, Exception) or isinstance(placed, Exception):
                answers.append(placed if isinstance(placed, Exception) else [placed])
                continue
            try:
                begin(placed, single.plans, place.share, place.hold, known=place.known)
                answers.append([placed])
            except Exception as error:  # noqa: BLE001 - the answer to this one
                answers.append(error)
        return answers, stuck

    def _decide_stuck(self, single: Admitted, now_ms: int) -> list[Decision]:
        """A new workload of one pod that has no place."""
        special = self._moves.any_avoided or self._exodus.any_avoided or single.workload.placement.at_most_once
        placed = conclude_stuck(self._fleet, single, uid_for(single.key, single.ref.id)) if not special else None
        if placed is None:
            return self._decide_admitted(single, now_ms)
        self._settling.fold(single.key, placed, single.plans)
        return [placed]

    # --- all others ---

    def _decide_admitted(self, admitted: Admitted, now_ms: int) -> list[Decision]:
        return [self._decide_workload(admitted, self._workloads.get(admitted.key), now_ms)]

    def _decide_workload(
        self, admitted: Admitted, record: WorkloadRecord | None, now_ms: int, *, anew: bool = True
    ) -> WorkloadPlaced:
        """`anew`: its specification is another one."""
        key, workload, plans, ref, importance, _ = admitted
        live = record.placed if record is not None and not record.placed.deleting else None
        former = {plan.name: plan for plan in record.plans} if record is not None and live is not None else {}
        budget = Budget(self._fleet.config.placements_per_call, closed=self._waits_its_turn(admitted))
        allowance = self._settling.allowance(key, workload, plans, record if live is not None else None)
        purse = self._settling.purse(key, plans, record if live is not None else None)
        moves = live is not None and live.workload.queue != workload.queue
        confined = self._settling.confinement(workload, record, now_ms)
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
                budget = Budget(self._fleet.config.placements_per_call)
            if confined is None:
                draft.settle(budget)
            drafts.append(draft)
        if confined is not None:
            confined.settle(budget)
        if len(drafts) > 1 or drafts[0].gang is not None:
            settle_together(drafts, budget)
        placed = WorkloadPlaced(
            workload=workload,
            uid=live.uid if live is not None else uid_for(key, ref.id),
            workload_generation=live.workload_generation + anew if live is not None else 1,
            request=ref,
            pod_sets=tuple([draft.outcome() for draft in drafts]),
            withdrawn=self._settling.withdrawn(record, drafts) if record is not None else (),
            unleased=_unleased(workload, record.placed) if record is not None else (),
            priority=importance.priority,
            preempts=importance.preempts,
        )
        self._settling.fold(key, placed, plans, drafts)
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
            return self._settling.draft(key, workload, plan, None, now_ms)
        draft = self._settling.draft(key, workload, plan, record.placement(plan.name), now_ms)
        if before.demand != plan.demand:
            draft.refit()
        if before.sharing != plan.sharing:
            draft.conform()
        return draft

    def _decide_delete(self, key: str, ref: RequestRef) -> list[Decision]:
        record = self._workloads.get(key)
        if record is not None and record.placed.deleting:
            return []
        if record is None:
            error = FieldError(field="workload.name", reason="NotFound", message=f"there is no workload {key}")
            return reject(key, ref, (error,))
        placed = record.decided_anew(
            request=ref, pod_sets=(), withdrawn=self._settling.withdrawn(record, ()), deleting=True
        )
        self._settling.fold(key, placed, ())
        return [placed, *self._settling.end(record)]

    def _waits_its_turn(self, admitted: Admitted) -> bool:
        """Whether others wait for the room that a request would take: then it has its turn as they have theirs. Without
        queues that is so where room is kept for one of them.
        """
        waiting, queues, key = self._workloads.waiting, self._workloads.queues, admitted.key
        demands = [plan.demand for plan in admitted.plans if plan.holds_room]
        if queues is None:
            priority = admitted.importance.priority
            rank = admitted.workload.priority if priority is None else priority
            if not self._reserve.comes_behind(key, "", rank, admitted.ref.published_at, demands):
                return False
        elif len(waiting) <= (key in waiting):
            return False
        return any(self._fleet.profile_for(demand).has_room() for demand in demands)


def reject(key: str, ref: RequestRef, errors: tuple[FieldError, ...]) -> list[Decision]:
    """The refusal of a request, for what could not be read as well."""
    return [RequestRejected(key=key, request=ref, errors=errors)]


def _unleased(workload: Workload, before: WorkloadPlaced) -> tuple[str, ...]:
    """Where a workload that runs by leases from now on may be running by what was asked before."""
    if not workload.placement.leased:
        return ()
    return before.unleased if before.workload.placement.leased else tuple(sorted(before.commanded))


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
