"""The reconciler of one cluster: commands and observations in, calls and reports out.

Level-triggered: nothing is remembered of *why* a subject was woken. Its turn compares what its newest command wants
with what is known of the cluster, and asks for the calls that are missing; when none is missing, it says how things
are. So a lost wake-up, a repeated record, a crash between two calls or an answer that never came all end the same way.

Invariants:
- No turn begins before the topic was read to its end, and before the objects that a turn may touch were listed.
- What is below a subject's fence is refused. The fence is the newest of what was admitted, what any live object of the
  subject was written for, and what was remembered of a subject that was forgotten.
- Only objects that carry our marks, and their own identity in them, are deleted, each by its uid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.executor.decision.answers import on_answer
from services.executor.decision.backoff import Policy
from services.executor.decision.commands import Commands
from services.executor.decision.desired import MalformedCommandError, fence_of, resolve
from services.executor.decision.identity import BASE_GROUP_KINDS, BASE_KINDS
from services.executor.decision.instructions import Apply, Call, Report, Wake
from services.executor.decision.inventory import take_inventory
from services.executor.decision.lease import Lease
from services.executor.decision.leasing import ask_for_lease, may_apply, plan_lapsed
from services.executor.decision.observations import NAMESPACE_KIND, Observations
from services.executor.decision.plan import Plan
from services.executor.decision.reports import failure_of, is_news, refusal_of, report_of
from services.executor.decision.state import State
from services.executor.decision.stimuli import (
    CallReturned,
    CommandMalformed,
    CommandSeen,
    CommandsRead,
    CommandTombstoned,
    FeedBroken,
    KindNotServed,
    KindServed,
    LeaseLooked,
    ListFinished,
    ListStarted,
    ObjectGone,
    ObjectSeen,
    SubjectFailed,
    TurnStarted,
)
from services.executor.decision.subject import Subject
from services.executor.decision.turn import everything_is_known, overtaken_by, plan_run, plan_withdrawal
from shared.events.v1.commands import CommandIssued
from shared.events.v1.inventories import InventoryReported
from shared.events.v1.leases import LeaseGranted
from shared.events.v1.results import CommandReported
from shared.kernel.machine import Instruction, Stimulus


class Reconciler:
    """A `Machine` for one cluster. `start` gives the first instructions."""

    def __init__(self, cluster: str, policy: Policy, life: str = "") -> None:
        """`life` is another one for each process, and each time that it begins anew."""
        self._policy = policy
        self._state = State(cluster, Lease(life))
        self._observations = Observations(self._state)
        self._commands = Commands(self._state, self._observations)

    @property
    def subjects(self) -> int:
        return len(self._state.subjects)

    @property
    def owned_objects(self) -> int:
        return len(self._state.world.live)

    @property
    def waiting_for(self) -> str:
        """What has to be listed before any turn can begin; empty if nothing."""
        world = self._state.world
        problems = (world.kind_problem(kind) for kind in BASE_GROUP_KINDS)
        return next((problem for problem in problems if problem), "")

    def inventory(self, at_ms: int, interval_ms: int) -> InventoryReported | None:
        """All that is held; None as long as that is not known. The next one is promised within `interval_ms`."""
        return take_inventory(self._state, at_ms, interval_ms)

    def start(self, cause: str) -> list[Instruction]:
        watches = self._observations.watch(NAMESPACE_KIND, cause, owned=False)
        return watches + [item for kind in BASE_KINDS for item in self._observations.watch(kind, cause)]

    def handle(self, stimulus: Stimulus) -> Sequence[Instruction]:
        woken: list[str]
        instructions: list[Instruction]
        match stimulus:
            case TurnStarted():
                return self._turn(stimulus)
            case CallReturned():
                on_answer(self._state, self._policy, stimulus)
                return []
            case SubjectFailed():
                return self._failed(stimulus)
            case CommandSeen(command=CommandIssued(lease=LeaseGranted() as granted)):
                self._state.lease.take(granted)
                woken, instructions = self._state.leased(), []
            case LeaseLooked():
                woken, instructions = self._look_at_lease(stimulus)
            case CommandSeen():
                woken, instructions = self._commands.on_seen(stimulus)
                instructions += ask_for_lease(self._state, stimulus, new=stimulus.subject)
            case CommandTombstoned():
                woken, instructions = self._commands.on_tombstone(stimulus), []
            case CommandMalformed():
                woken, instructions = [], self._commands.on_malformed(stimulus)
            case CommandsRead():
                first = not self._state.caught_up
                woken, instructions = self._commands.on_read(stimulus)
                instructions += ask_for_lease(self._state, stimulus) if first else []
            case _:
                woken, instructions = self._observe(stimulus)
        return instructions + self._wakes(woken, stimulus.id)

    def _observe(self, stimulus: Stimulus) -> tuple[list[str], list[Instruction]]:
        observations = self._observations
        match stimulus:
            case ObjectSeen():
                return observations.on_seen(stimulus)
            case ObjectGone():
                return observations.on_gone(stimulus), []
            case ListStarted():
                woken = observations.on_list_started(stimulus)
            case ListFinished():
                woken = observations.on_list_finished(stimulus)
            case FeedBroken():
                woken = observations.on_broken(stimulus)
            case KindNotServed():
                woken = observations.on_not_served(stimulus)
            case KindServed():
                woken = observations.on_served(stimulus)
                self._resolve_again(woken)
            case _:
                raise TypeError(f"{type(stimulus).__name__} is no stimulus of a reconciler")
        return woken, []

    def _look_at_lease(self, stimulus: LeaseLooked) -> tuple[list[str], list[Instruction]]:
        state = self._state
        lapsed = [name for name in state.leased() if not state.lease.allows(name, stimulus.at_ms)]
        asked = ask_for_lease(state, stimulus) if state.lease.is_due(stimulus.at_ms) else []
        return lapsed, asked

    @property
    def leases(self) -> bool:
        """Whether anything runs by the lease: else nobody need look at it."""
        return bool(self._state.leased())

    def may_carry_out(self, call: Call, now_ms: int) -> bool:
        """Whether a call may still be made, which was decided some time ago."""
        return not isinstance(call, Apply) or may_apply(self._state, call.subject, now_ms)

    def _wakes(self, subjects: Iterable[str], cause: str) -> list[Instruction]:
        if not self._state.caught_up:
            return []  # a newer command may still come; all are woken at the end of the topic
        return [Wake(cause=cause, subject=subject) for subject in dict.fromkeys(subjects)]

    def _resolve_again(self, names: Iterable[str]) -> None:
        """Identities depend on whether a kind lives in namespaces, which may be known only now."""
        for name in names:
            subject = self._state.subjects[name]
            try:
                resolved = resolve(subject.command, self._state.world.namespaced)
            except MalformedCommandError:
                continue  # one object in two namespaces turned out to be one: applied twice, it stays the last
            self._state.disclaim(name, subject.resolved)
            subject.resolved = resolved
            self._state.claim(name, resolved)

    def _turn(self, stimulus: TurnStarted) -> list[Instruction]:
        subject = self._state.subjects.get(stimulus.subject)
        if subject is None:
            return []
        state = self._state
        plan = Plan(subject, state.world, state.claims, state.full_nodes, self._policy, stimulus.at_ms, stimulus.id)
        refusal: CommandReported | None = None
        if everything_is_known(plan):
            applied = overtaken_by(plan)
            if applied is not None:
                command = subject.command
                refusal = refusal_of(
                    state.cluster, subject.name, fence_of(command), command.digest, applied, stimulus.at_ms
                )
            elif subject.command.action == "withdraw":
                plan_withdrawal(plan)
            elif not may_apply(state, subject.name, stimulus.at_ms):
                plan_lapsed(plan, state.lease.tolerated_until(subject.name))
            else:
                self._resync_if_due(subject, stimulus)
                plan_run(plan)
        wakes = self._note_nodes(plan)
        if refusal is not None:
            return wakes + self._said(subject, refusal, stimulus.id)
        return wakes + (list(plan.calls) or self._concluded(plan))

    def _note_nodes(self, plan: Plan) -> list[Instruction]:
        """What the subject waits for of nodes. Whose pods are in the way there has a turn."""
        plan.subject.missing_nodes = frozenset(plan.missing_nodes)
        full = self._state.note_full(plan.subject, frozenset(plan.full_nodes))
        there = {live.subject for node in full for live in plan.world.live.on_node(node)}
        return self._wakes(sorted(there & self._state.subjects.keys()), plan.cause)

    def _resync_if_due(self, subject: Subject, stimulus: TurnStarted) -> None:
        if subject.resync_at_ms and stimulus.at_ms < subject.resync_at_ms:
            return
        if subject.resync_at_ms:
            subject.resync()
        # Spread, so that what was started together is not checked together for ever.
        subject.resync_at_ms = stimulus.at_ms + round(self._policy.resync_ms * (0.75 + 0.5 * stimulus.chance))

    def _concluded(self, plan: Plan) -> list[Instruction]:
        subject = plan.subject
        report = report_of(plan)
        if report is not None and report.outcome in {"applied", "withdrawn"}:
            subject.forget_unnamed()
            if subject.recalled:
                self._state.forget(subject.name)
        # One that is due and had no turn to do it in, for want of a lease or of a list, has its turn when that comes.
        if subject.resync_at_ms > plan.now_ms and subject.command.action == "run":
            plan.wake(subject.resync_at_ms)
        instructions = self._said(subject, report, plan.cause) if report is not None else []
        if plan.wake_at_ms is not None:
            instructions.append(Wake(cause=plan.cause, subject=subject.name, at_ms=plan.wake_at_ms))
        return instructions

    def _failed(self, stimulus: SubjectFailed) -> list[Instruction]:
        subject = self._state.subjects.get(stimulus.subject)
        if subject is None:
            return []
        report = failure_of(subject, "InternalError", stimulus.message, stimulus.at_ms)
        return self._said(subject, report, stimulus.id)

    @staticmethod
    def _said(subject: Subject, report: CommandReported, cause: str) -> list[Instruction]:
        if not is_news(subject, report):
            return []
        return [Report(cause=cause, report=report, traceparent=subject.traceparent)]
