"""Leading a cell: requests and observations in, decisions to the journal, one batch an append.

The tasks of a term share the folded state on one event loop: some feed (inputs, requests, results), one decides and
appends, one publishes what the journal then says. The state runs ahead of the journal by what is in flight; if an
append fails or a higher epoch appears, everything of this term is dropped and the replica is rebuilt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress

from services.scheduler import metrics
from services.scheduler.appending import Appender
from services.scheduler.decision.scoring.kernel import MOST
from services.scheduler.entries import Round, Seen
from services.scheduler.guarding import PlacementGuard
from services.scheduler.inputs import partitions_of
from services.scheduler.intake import Intake
from services.scheduler.journal import load_checkpoint
from services.scheduler.publisher import FencedError, JournalPublisher
from services.scheduler.refusals import Refusals
from services.scheduler.reminding import Reminder
from services.scheduler.replica import Replica
from services.scheduler.request_feed import RequestFeed
from services.scheduler.requests import Answered, decide_records
from services.scheduler.result_feed import ResultFeed
from services.scheduler.settings import SchedulerSettings
from services.scheduler.turns import Breaks, Turn, rest
from shared.events.registry import DecodeError
from shared.events.topics import DECISIONS, REQUESTS, RESULTS, SOLE_WRITERS
from shared.events.v1.decisions import Decision
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import (
    START,
    EventLog,
    LogError,
    Partition,
    Publisher,
    Reader,
    Record,
    WriterReplacedError,
)

log = get_logger(__name__)

# Records end a wait at once.
_READ_S = 5.0
# So many entries may be unpublished when one is appended that somebody waits for. Others wait until none is, and gather
# about so many decisions meanwhile: an entry costs as much as two of them.
_MOST_UNPUBLISHED = 2
_GATHERED = 16
# Where many namespaces have a backlog, so many turns of each: what an entry costs is then what they all wait for, and
# whoever comes behind them waits for a turn of each anyway.
_GATHERED_TURNS = 2
# So many namespaces that got all their answers with one entry are a crowd: what comes while that entry is on its way
# makes up the next one, and not several.
_CROWD = 4
# Behind the entry of a crowd the next one waits for so long, if nothing was left over. Each entry costs the scheduler
# as much as two decisions, and the broker a request with a batch for every cluster and partition that it is about.
_CROWD_LINGER_S = 0.02
# Requests are read and decided together, as many as fit into a slice by the pace of the last: at most `MOST`, and of
# large ones less than a slice is spent on reading them.
_BYTES_AT_ONCE = 64 * 1024
# Objects are folded in portions of about a slice.
_INPUTS_AT_ONCE = 100
_DRAIN_S = 10.0


class Leadership:
    """One term of one leader. `journal` is the publisher that started its epoch; it is closed with the term."""

    def __init__(
        self,
        events: EventLog,
        clock: Clock,
        settings: SchedulerSettings,
        replica: Replica,
        refusals: Refusals,
        journal: Publisher,
    ) -> None:
        self._events = events
        self._clock = clock
        self._settings = settings
        self._replica = replica
        self._state = replica.state
        self._record = replica.record
        self._epoch = replica.fence.epoch
        self._refusals = refusals
        self._intake: Intake
        self._feed: RequestFeed
        self._changed = asyncio.Event()
        self._results = ResultFeed(clock, replica, refusals, self._changed)
        self._at_once = MOST
        # Namespaces that got all their answers with the last entry.
        self._served = 0
        # The last entry of which the generation became known.
        self._noted = -1
        self._breaks = Breaks(clock)
        # Workloads whose placement is published again.
        self._restate: set[str] = set()
        self._journal = journal
        self._began = clock.monotonic()
        self._follower: JournalPublisher
        self._appender: Appender

    async def run(self, stop: asyncio.Event) -> None:
        """Leads until `stop` is set. Raises FencedError or LogError when this term is over."""
        metrics.LEADER.set(1)
        try:
            async with AsyncExitStack() as stack:
                await self._lead(stop, stack)
        except (FencedError, LogError, BaseExceptionGroup) as error:
            raise _why_over(error) from error
        finally:
            metrics.LEADER.set(0)

    async def _lead(self, stop: asyncio.Event, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._journal.close)
        name = f"{SOLE_WRITERS['scheduler']}derived-{self._settings.scheduler_cell}"
        derived = await self._events.sole_publisher("scheduler-derived", name)
        stack.push_async_callback(derived.close)
        names = ("requests", "requests-again", "results", "publisher")
        requests, again, results, entries = await self._readers(stack, names)
        await requests.assign(await self._resume_positions(REQUESTS.name))
        await results.assign(await self._resume_positions(RESULTS.name))
        start = {partition.partition: offset for partition, offset in requests.positions().items()}
        self._intake = Intake(start, self._replica.resume_ahead)
        feed = self._feed = RequestFeed(self._intake, self._changed)
        checkpoint = await load_checkpoint(self._events, self._settings.scheduler_cell)
        self._follower = JournalPublisher(
            self._events,
            self._clock,
            self._settings.scheduler_cell,
            checkpoint,
            self._replica.published,
            self._note_generation,
            self._changed,
        )
        self._appender = Appender(
            self._clock, self._settings, self._replica, self._results, self._journal, self._follower, self._began
        )
        repeat = self._results.publish_again
        reminder = Reminder(self._events, self._replica.published, lambda: self._follower.position, repeat)
        guard = PlacementGuard(
            self._events,
            self._clock,
            self._replica.published,
            lambda: self._follower.position,
            self._state_again,
            self._replica.unguarded,
            self._replica.misstated,
        )
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._feed_inputs(), name="inputs"),
                tasks.create_task(feed.read(requests), name="requests"),
                tasks.create_task(feed.read_again(again), name="requests-again"),
                tasks.create_task(self._results.read(results, self._settings.scheduler_batch), name="results"),
                tasks.create_task(self._follow(entries, derived), name="publisher"),
                tasks.create_task(self._follower.keep_checkpoint(derived), name="checkpoint"),
                tasks.create_task(reminder.run(), name="reminder"),
                tasks.create_task(guard.run(), name="guard"),
            ]
            await self._decide(stop, derived)
            await self._drain()
            for task in running:
                task.cancel()
        await self._follower.commit(derived)

    async def _follow(self, entries: Reader, derived: Publisher) -> None:
        await self._follower.run(entries, derived, self._epoch, self._replica.journal_position)

    async def _readers(self, stack: AsyncExitStack, names: Sequence[str]) -> list[Reader]:
        """Opened side by side: meanwhile nothing is decided."""

        async def opened(what: str) -> Reader:
            reader = await self._events.reader(f"scheduler-{what}")
            stack.push_async_callback(reader.close)
            return reader

        async with asyncio.TaskGroup() as tasks:
            opening = [tasks.create_task(opened(what)) for what in names]
        return [task.result() for task in opening]

    async def _resume_positions(self, topic: str) -> dict[Partition, int]:
        known = self._replica.resume.get(topic, {})
        return {p: known.get(p.partition, START) for p in await partitions_of(self._events, [topic])}

    async def _feed_inputs(self) -> None:
        while True:
            if await self._replica.follow_inputs(_READ_S, _INPUTS_AT_ONCE):
                self._changed.set()
            # Also while a cluster always has something to tell, deciding gets its turn.
            await asyncio.sleep(0)

    async def _decide(self, stop: asyncio.Event, derived: Publisher) -> None:
        stopped = asyncio.create_task(stop.wait(), name="stop")
        stopped.add_done_callback(lambda _: self._changed.set())
        try:
            while not stop.is_set():
                await self._wait()
                await self._round(derived)
                if self._changed.is_set():
                    # The feeding tasks get their turn also while there is always something to decide.
                    await rest()
        finally:
            stopped.cancel()

    async def _wait(self) -> bool:
        """Returns when something has changed, and False when it is time to renew."""
        idle = self._appender.at + self._settings.scheduler_renew_s - self._clock.monotonic()
        try:
            async with asyncio.timeout(max(idle, 0.001)):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def _decide_requests(self, decided: Round) -> None:
        """Decides what waits, a slice at a time, and returns when the next entry may be appended.

        That is soon if some namespace waits for nothing else. The rest of a flood has time: its decisions are gathered
        while the entry before them is on its way to the journal, and while that is published none is made. So whoever
        comes waits for what one round trip brings, and not for all that could be done ahead.
        """
        served, urgent, slices = 0, not len(self._intake), 0
        # Decisions until everybody who was there when something changed has had a turn.
        due = 0
        while True:
            before = decided.count
            served += self._decide_slice(decided)
            due -= decided.count - before
            soon = (urgent or served) and self._served < _CROWD
            slices += 1
            if not soon and self._is_behind(decided.count, slices):
                await rest()
                continue
            while self._appender.unpublished > (_MOST_UNPUBLISHED if soon else 0):
                gathering = decided.count < self._most_gathered and not self._follower.publishing
                if len(self._intake) and (gathering or (due > 0 and decided.count < self._settings.scheduler_batch)):
                    await rest()
                    break
                if not await self._wait():
                    await self._appender.append([], Seen())
                if self._intake.namespaces > 1 and decided.count < self._settings.scheduler_batch:
                    due = self._intake.namespaces
                    break
            else:
                self._served = served or self._served
                return

    def _is_behind(self, decided: int, slices: int) -> bool:
        """Whether an entry is to gather more though it could be appended: many have a backlog, and with small entries
        it would only grow. Bounded by slices too: a request may lead to no decision.
        """
        crowded = self._intake.namespaces >= _CROWD and not self._follower.publishing
        return crowded and max(decided, slices) < self._most_gathered

    def _decide_slice(self, decided: Round) -> int:
        """How many namespaces have all their answers now."""
        if self._intake.peek() is None:
            return 0
        emptied = 0
        with metrics.DECIDE_SECONDS.time():
            turn, now_ms, done = Turn(self._clock), self._clock.now_ms(), 0
            while decided.count < self._settings.scheduler_batch and len(self._intake) and not (done and turn.over):
                most = min(self._at_once, self._settings.scheduler_batch - decided.count)
                records = self._intake.ahead(most, _BYTES_AT_ONCE)
                for answers in decide_records(self._state, records, self._settings.scheduler_max_request_bytes, now_ms):
                    for record, answered in zip(records, answers, strict=False):
                        self._note_answer(record, answered, now_ms)
                        decided.add(answered.decisions, self._answered)
                        emptied += self._intake.pop()
                    done += len(answers)
                    del records[: len(answers)]
                    if turn.over:
                        break
                self._at_once = int(min(max(turn.fitting(done), 1), MOST))
        self._feed.taken()
        if emptied:
            self._breaks.served()
        return emptied

    @property
    def _most_gathered(self) -> int:
        """Decisions that are made while an entry is on its way, though nobody waits for the next one alone."""
        return min(max(_GATHERED, _GATHERED_TURNS * self._intake.namespaces), self._settings.scheduler_batch)

    async def _round(self, derived: Publisher) -> None:
        await self._follower.ensure_topics(self._replica.clusters)
        decided = Round()
        self._breaks.work()
        self._results.observe()
        await self._decide_requests(decided)
        with metrics.DECIDE_SECONDS.time():
            decided.add(self._record.call(self._state, "decide_pending", self._clock.now_ms()), self._answered)
        metrics.REQUESTS_WAITING.set(len(self._intake))
        metrics.NAMESPACES_PASSED_OVER.set(self._intake.passed_over)
        metrics.LEAVING.set(self._state.leaving)
        for queue, share, waiting in self._state.queues():
            metrics.QUEUE_SHARE.labels(queue).set(share)
            metrics.QUEUE_WAITING.labels(queue).set(waiting)
        metrics.CUT_OFF.set(self._state.cut_off)
        self._count_moves()
        if len(self._intake) or self._results.waits or self._state.has_work:
            self._changed.set()
        # Dead letters stand in their topic before the journal says that their requests were consumed.
        await self._refusals.deliver(self._journal)
        while self._results.repeat:
            await self._follower.republish(derived, *self._results.repeat.pop())
        while self._restate:
            await self._follower.restate(derived, self._restate.pop())
        entries = decided.entries()
        for entry in entries:
            if entry.seen is None:
                await self._appender.append_all(entry.decisions, self._all_seen())
            else:
                await self._appender.append(entry.decisions, entry.seen)
        await self._pause(appended=bool(entries))
        if not entries and (self._appender.renews or self._results.asked):
            await self._appender.append_all([], Seen())

    async def _pause(self, *, appended: bool) -> None:
        """Between two rounds: a flood rests, and a crowd whose requests are all answered may gather."""
        if len(self._intake):
            await self._breaks.take(self._changed, lambda: self._intake.namespaces == 1)
            self._changed.set()
        elif appended and self._served >= _CROWD:
            await self._clock.sleep(max(self._appender.at + _CROWD_LINGER_S - self._clock.monotonic(), 0))

    def _count_moves(self) -> None:
        preemptions, victims = self._state.preemption.take_counts()
        if preemptions:
            metrics.PREEMPTIONS.inc(preemptions)
            metrics.VICTIMS.inc(victims)
        if rebalances := self._state.take_rebalances():
            metrics.REBALANCES.inc(rebalances)

    def _note_answer(self, record: Record, answered: Answered, now_ms: int) -> None:
        self._record.took(record, now_ms)
        if answered.defect is not None:
            log.error("request failed", request=answered.ref.id, workload=answered.key, exc_info=answered.defect)
        if answered.unread:
            metrics.REQUESTS.labels("malformed").inc()
            self._refusals.add(record, DecodeError(answered.unread))
        else:
            refused = any(decision.kind == "rejected" for decision in answered.decisions)
            metrics.REQUESTS.labels("rejected" if refused else "accepted").inc()
            self._bury_rejected(record, answered.decisions)

    def _note_generation(self, decision: Decision, offset: int) -> None:
        if offset != self._noted:
            self._noted = offset
            self._record.took_offset(DECISIONS.name, self._settings.scheduler_cell, offset)
        self._state.note_generation(decision, offset)

    def _bury_rejected(self, record: Record, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if decision.kind == "rejected":
                self._refusals.add(record, DecodeError(decision.errors))

    def _state_again(self, key: str) -> None:
        self._restate.add(key)
        self._changed.set()

    def _answered(self) -> Seen:
        """Which requests have been decided upon."""
        lowest, ahead = self._intake.decided()
        return Seen({REQUESTS.name: lowest}, ahead)

    def _all_seen(self) -> Seen:
        answered = self._answered()
        inputs = self._replica.input_positions() | answered.inputs | {RESULTS.name: dict(self._results.seen)}
        return Seen(inputs, answered.ahead)

    async def _drain(self) -> None:
        """Resigns, and publishes what the journal has, for a while: a successor would publish the rest."""
        await self._appender.append_all([], Seen(), resigned=True)
        await self._journal.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._follower.all_published()


def _why_over(error: BaseException) -> BaseException:
    """The one error of a term whose tasks may have failed together: a defect first, then that we were replaced."""
    leaves = _leaves(error)
    for leaf in leaves:
        if not isinstance(leaf, FencedError | LogError):
            return error
    for leaf in leaves:
        if isinstance(leaf, FencedError | WriterReplacedError):
            return FencedError(str(leaf))
    return LogError("; ".join(sorted({str(leaf) for leaf in leaves})))


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
