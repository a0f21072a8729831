"""One cluster's executor: feeds the reconciler and carries out what it says.

The reconciler is only touched from the event loop, between awaits, so it needs no lock. A defect in one subject's turn
is logged, counted, reported and tried again later; the other subjects do not notice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec

from services.executor import metrics
from services.executor.calls import Caller
from services.executor.decision.backoff import CallFailed, Policy
from services.executor.decision.identity import GroupKind, ServedKind
from services.executor.decision.instructions import Call, Report, Wake, Watch
from services.executor.decision.reconciler import Reconciler
from services.executor.decision.stimuli import (
    CallReturned,
    CommandMalformed,
    CommandSeen,
    CommandsRead,
    CommandTombstoned,
    LeaseLooked,
    SubjectFailed,
    TurnStarted,
)
from services.executor.intake import NoSubjectError, read_command
from services.executor.inventories import InventoryTaker
from services.executor.node_groups import NodeGroups
from services.executor.wakefulness import Wakefulness, was_suspended
from services.executor.watching import follow
from services.executor.work_queue import WorkQueue
from shared.events.v1.inventories import InventoryReported
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import NODE_GROUP_SUBJECT
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ClusterApi
from shared.ports.event_log import Record
from shared.ports.node_groups import NodeGroupProviders
from shared.runtime.ids import new_id

log = get_logger(__name__)

# After so many rounds a subject goes to the end of the queue, so that a long one does not keep a worker.
_ROUNDS = 20
_DEFECT_RETRY_MS = 30_000
_LEASE_LOOK_S = 1.0
# How long calls may go on after the service was asked to stop.
_GRACE_S = 5.0


class ClusterExecutor:
    def __init__(
        self,
        cluster: str,
        api: ClusterApi,
        report: Callable[[Report], None],
        report_inventory: Callable[[InventoryReported], None],
        clock: Clock,
        policy: Policy,
        *,
        inventory_s: float,
        workers: int,
        calls: int,
        slots: asyncio.Semaphore,
        providers: NodeGroupProviders,
    ) -> None:
        self._cluster = cluster
        self._api = api
        self._report = report
        self._clock = clock
        self._reconciler = Reconciler(cluster, policy, new_id())
        self._inventories = InventoryTaker(self._look, report_inventory, clock, inventory_s)
        self._queue = WorkQueue(clock)
        self._kinds: dict[GroupKind, ServedKind] = {}
        self._awake = Wakefulness(clock)
        self._caller = Caller(api, self._kinds, slots, self._awake, self._is_allowed)
        self._node_groups = NodeGroups(cluster, api, providers, report, clock, policy, slots=slots, awake=self._awake)
        self._workers = asyncio.Semaphore(workers)
        self._calls = calls
        self._watches: asyncio.Queue[Watch] = asyncio.Queue()
        self._working: set[asyncio.Task[None]] = set()
        self._stopping = False
        # Whether something may run by the lease.
        self._leased = asyncio.Event()
        self._seen_at: dict[str, int] = {}

    def problem(self) -> str:
        """Why no subject can be worked on; empty if they can."""
        return self._reconciler.waiting_for

    def deliver(self, records: Sequence[Record], caught_up: bool) -> None:
        """Takes records of the command topic; see `CommandFeed`."""
        for record in records:
            try:
                stimulus = read_command(record, self._clock.now_ms())
            except NoSubjectError as error:
                metrics.COMMANDS.labels(self._cluster, "NoSubject").inc()
                log.warning("a command without a subject", position=str(record.position), error=str(error))
                continue
            metrics.COMMANDS.labels(self._cluster, type(stimulus).__name__).inc()
            if _is_of_node_group(stimulus):
                self._node_groups.tell(stimulus)
                continue
            if isinstance(stimulus, CommandSeen):
                self._seen_at[stimulus.subject] = stimulus.at_ms
                if stimulus.command.leased:
                    self._leased.set()
            self._tell(stimulus, where=str(record.position))
        if caught_up:
            read = CommandsRead(id=new_id(), at_ms=self._clock.now_ms())
            self._node_groups.tell(read)
            self._tell(read, where="end of commands")
        metrics.SUBJECTS.labels(self._cluster).set(self._reconciler.subjects)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, then lets the calls that are under way end, for a while.

        What takes longer is cut off: every call is idempotent, and the next process begins with the whole state.
        Raises SuspendedError, in a group, when the process was paused: what it knew is not to be acted upon.
        """
        self._carry_out(self._reconciler.start(new_id()))
        async with asyncio.TaskGroup() as turns, asyncio.TaskGroup() as endless:
            tasks = [
                endless.create_task(self._watch(), name=f"{self._cluster}-watches"),
                endless.create_task(self._dispatch(turns), name=f"{self._cluster}-dispatch"),
                endless.create_task(self._inventories.run(), name=f"{self._cluster}-inventories"),
                endless.create_task(self._awake.watch(), name=f"{self._cluster}-awake"),
                endless.create_task(self._keep_lease(), name=f"{self._cluster}-lease"),
                endless.create_task(self._node_groups.run(), name=f"{self._cluster}-node-groups"),
            ]
            await stop.wait()
            self._stopping = True
            for task in tasks:
                task.cancel()
            working = set(self._working)
            if working:
                _, late = await asyncio.wait(working, timeout=_GRACE_S)
                for task in late:
                    task.cancel()

    async def _keep_lease(self) -> None:
        """Until cancelled."""
        while True:
            await self._leased.wait()
            await self._clock.sleep(_LEASE_LOOK_S)
            if self._reconciler.leases:
                self._tell(LeaseLooked(id=new_id(), at_ms=self._clock.now_ms()), where="lease")
            else:
                self._leased.clear()

    def _is_allowed(self, call: Call) -> bool:
        return self._reconciler.may_carry_out(call, self._clock.now_ms())

    def _look(self, interval_ms: int) -> InventoryReported | None:
        inventory = self._reconciler.inventory(self._clock.now_ms(), interval_ms)
        if inventory is not None:
            left_over = sum(not item.commanded for item in inventory.subjects)
            metrics.LEFT_OVER.labels(self._cluster).set(left_over)
        return inventory

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as feeds:
            while True:
                watch = await self._watches.get()
                feeds.create_task(follow(self._api, watch, self._tell, self._clock), name=f"watch-{watch.feed.kind}")

    async def _dispatch(self, turns: asyncio.TaskGroup) -> None:
        while True:
            await self._workers.acquire()
            subject = await self._queue.get()
            metrics.QUEUED.labels(self._cluster).set(len(self._queue))
            turn = turns.create_task(self._work(subject), name=f"turn-{subject}")
            self._working.add(turn)
            turn.add_done_callback(self._working.discard)

    async def _work(self, subject: str) -> None:
        try:
            await self._turns(subject)
        except Exception as error:
            if was_suspended(error):
                # Not this subject's affair: everything is to be read again.
                raise
            metrics.ERRORS.labels(self._cluster, "turn").inc()
            log.exception("a turn failed", cluster=self._cluster, subject=subject)
            now = self._clock.now_ms()
            message = _first_cause(error)
            self._tell(SubjectFailed(id=new_id(), at_ms=now, subject=subject, message=message), where=subject)
            self._queue.add_at(subject, now + _DEFECT_RETRY_MS)
        finally:
            self._queue.done(subject)
            self._workers.release()

    async def _turns(self, subject: str) -> None:
        """Turn after turn, until one has no calls."""
        for _ in range(_ROUNDS):
            if self._stopping:
                return
            stimulus = TurnStarted(id=new_id(), at_ms=self._clock.now_ms(), subject=subject, chance=_chance())
            instructions = self._reconciler.handle(stimulus)
            calls = [instruction for instruction in instructions if isinstance(instruction, Call)]
            self._carry_out(instructions)
            if not calls:
                return
            await self._make(calls)
        self._queue.add(subject)

    async def _make(self, calls: Sequence[Call]) -> None:
        """Makes the calls of one turn, some at a time, and tells each answer as it comes."""
        if len(calls) == 1:
            await self._call(calls[0])
            return
        slots = asyncio.Semaphore(self._calls)

        async def one(call: Call) -> None:
            async with slots:
                await self._call(call)

        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(one(call))

    async def _call(self, call: Call) -> None:
        started = self._clock.monotonic()
        answer = await self._caller.carry_out(call)
        metrics.CALL_SECONDS.observe(self._clock.monotonic() - started)
        said = answer.reason if isinstance(answer, CallFailed) else "ok"
        metrics.CALLS.labels(self._cluster, type(call).__name__, said).inc()
        if isinstance(answer, CallFailed):
            log.warning(
                "the API server refused",
                cluster=self._cluster,
                subject=call.subject,
                target=str(call.target),
                call=type(call).__name__,
                reason=answer.reason,
                message=answer.message[:256],
                cause=call.cause,
            )
        now = self._clock.now_ms()
        self._carry_out(
            self._reconciler.handle(CallReturned(id=new_id(), at_ms=now, call=call, answer=answer, chance=_chance()))
        )

    def _tell(self, stimulus: Stimulus, where: str) -> None:
        """Tells what came from outside; what cannot be read or handled is logged and counted, and the rest goes on."""
        try:
            self._carry_out(self._reconciler.handle(stimulus))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            metrics.ERRORS.labels(self._cluster, "object").inc()
            log.warning("an object cannot be read", cluster=self._cluster, where=where, error=str(error))
        except Exception:
            metrics.ERRORS.labels(self._cluster, type(stimulus).__name__).inc()
            log.exception("a stimulus was not handled", cluster=self._cluster, where=where)

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Wake(at_ms=0):
                    self._queue.add(instruction.subject)
                case Wake():
                    self._queue.add_at(instruction.subject, instruction.at_ms)
                case Report():
                    self._say(instruction)
                case Watch():
                    self._kinds[instruction.feed.kind] = instruction.served
                    self._watches.put_nowait(instruction)

    def _say(self, instruction: Report) -> None:
        report = instruction.report
        if report.outcome in {"applied", "withdrawn"}:
            seen_at = self._seen_at.pop(report.subject, None)
            if seen_at is not None:
                metrics.COMMAND_TO_REPORT_SECONDS.observe((report.reported_at - seen_at) / 1000)
        metrics.OBJECTS.labels(self._cluster).set(self._reconciler.owned_objects)
        self._report(instruction)


def _is_of_node_group(stimulus: Stimulus) -> bool:
    return isinstance(stimulus, CommandSeen | CommandMalformed | CommandTombstoned) and stimulus.subject.startswith(
        NODE_GROUP_SUBJECT
    )


def _first_cause(error: BaseException) -> str:
    """What a person needs to see of an exception, or of a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter
