"""Turns on a leader's event loop: who comes in the middle of a flood, and who has had a slice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from functools import partial
from math import inf

import pytest

from services.cli.fleet.requesting import request_record
from services.scheduler import leadership
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.journal import decode_entry, is_entry
from services.scheduler.settings import SchedulerSettings
from services.scheduler.shell import SchedulerService
from services.scheduler.turns import SLICE_S, Breaks, Turn
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, DECISIONS, PLACEMENTS
from shared.events.v1.decisions import DecisionsMade, WorkloadPlaced
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.ports.event_log import NewRecord, Partition, Position, Publisher
from shared.testing.clock import FakeClock

FLOOD = 400


class _Held:
    """A publisher whose acknowledgements wait until `acknowledging` is set."""

    def __init__(self, publisher: Publisher, acknowledging: asyncio.Event) -> None:
        self._publisher = publisher
        self._acknowledging = acknowledging
        self.flush, self.close, self.send_many = publisher.flush, publisher.close, publisher.send_many

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        return asyncio.ensure_future(self._acknowledge(await self._publisher.send(record)))

    async def _acknowledge(self, position: Awaitable[Position]) -> Position:
        await self._acknowledging.wait()
        return await position


class SlowJournal(MemoryLog):
    """What a sole publisher appends to its journal stands there at once, and is acknowledged when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledging = asyncio.Event()
        self.acknowledging.set()

    async def sole_publisher(  # type: ignore[override] # the port's is any publisher
        self, client_id: str, writer: str, announce: Iterable[Partition] = ()
    ) -> Publisher:
        made = await super().sole_publisher(client_id, writer, announce)
        return _Held(made, self.acknowledging) if "journal" in client_id else made

    def ask(self, namespace: str, count: int) -> None:
        for number in range(count):
            pod_set = {"name": "main", "replicas": 1, "image": "nginx"}
            body = {"namespace": namespace, "name": f"w{number}", "podSets": [pod_set]}
            request = WorkloadRequested.model_validate({"operation": "apply", "workload": body})
            self.append(request_record(request, source="test")[0])

    def decided(self) -> list[str]:
        """The namespaces of what stands in the journal."""
        entries = [decode_entry(record) for record in self.records(DECISIONS.name) if is_entry(record)]
        made = [d for entry in entries if isinstance(entry, DecisionsMade) for d in entry.decisions]
        return [decision.workload.namespace for decision in made if isinstance(decision, WorkloadPlaced)]

    def sizes(self) -> list[int]:
        """Of each entry of the journal that has decisions, how many."""
        entries = [decode_entry(record) for record in self.records(DECISIONS.name) if is_entry(record)]
        return [len(entry.decisions) for entry in entries if isinstance(entry, DecisionsMade) and entry.decisions]

    def entries(self) -> int:
        """How many entries of the journal have decisions."""
        return len(self.sizes())

    def published(self) -> list[str]:
        found = [decode(PlacementPublished, record.value) for record in self.records(PLACEMENTS.name)]
        return [item.placement.workload.namespace for item in found if item.placement is not None]

    async def until(self, namespace: str, where: str, count: int = 1) -> None:
        look = self.decided if where == "journal" else self.published
        async with asyncio.timeout(30):
            while look().count(namespace) < count:  # noqa: ASYNC110 - what stands in a log is looked at
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("slice_s", [SLICE_S, 0.0], ids=["some in a slice", "one in a slice"])
async def test_who_comes_in_a_flood_is_decided_before_what_could_have_been_done_ahead_of_it(
    slice_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "Turn", partial(Turn, seconds=slice_s))
    log, stop = SlowJournal(), asyncio.Event()
    await log.ensure_topics(ALL_TOPICS)
    settings = SchedulerSettings(scheduler_id="one", scheduler_renew_s=60, http_port=-1)
    service = SchedulerService(log, SystemClock(), settings, SchedulerConfig())
    leading = asyncio.create_task(service.run(stop))
    log.ask("first", 1)
    await log.until("first", "placements")
    log.acknowledging.clear()
    log.ask("noisy", FLOOD)
    await log.until("noisy", "journal")
    # So many rounds of the loop that all of it could have been decided.
    for _ in range(10 * FLOOD):
        await asyncio.sleep(0)
    log.ask("quiet", 1)
    await log.until("quiet", "journal")
    assert log.decided().count("noisy") < FLOOD // 2, "the flood was decided ahead, all of it to be published first"
    log.acknowledging.set()
    await log.until("quiet", "placements")
    await log.until("noisy", "placements", FLOOD)
    stop.set()
    await leading


async def test_what_a_crowd_asks_while_an_entry_is_on_its_way_makes_up_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leadership, "Turn", partial(Turn, seconds=5.0))
    log, stop = SlowJournal(), asyncio.Event()
    await log.ensure_topics(ALL_TOPICS)
    settings = SchedulerSettings(scheduler_id="one", scheduler_renew_s=60, http_port=-1)
    service = SchedulerService(log, SystemClock(), settings, SchedulerConfig())
    leading = asyncio.create_task(service.run(stop))
    log.ask("first", 1)
    await log.until("first", "placements")
    log.acknowledging.clear()
    for number in range(leadership._CROWD):
        log.ask(f"crowd-{number}", 1)
    await log.until("crowd-0", "journal")
    before = log.entries()
    for number in range(3):
        log.ask(f"late-{number}", 1)
        for _ in range(200):
            await asyncio.sleep(0)
    assert log.entries() == before, "each of a crowd has an entry of its own"
    log.acknowledging.set()
    await log.until("late-2", "placements")
    assert log.entries() == before + 1
    stop.set()
    await leading


async def test_behind_the_entry_of_a_crowd_the_next_one_gathers_and_behind_all_others_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leadership, "Turn", partial(Turn, seconds=5.0))
    log, stop = SlowJournal(), asyncio.Event()
    await log.ensure_topics(ALL_TOPICS)
    settings = SchedulerSettings(scheduler_id="one", scheduler_renew_s=60, http_port=-1)
    service = SchedulerService(log, SystemClock(), settings, SchedulerConfig())
    leading = asyncio.create_task(service.run(stop))
    # Whoever waited for as long as that would be too late for `until`.
    monkeypatch.setattr(leadership, "_CROWD_LINGER_S", 3_600.0)
    for number in range(leadership._CROWD - 1):
        log.ask(f"alone-{number}", 1)
    for number in range(3):
        await log.until(f"alone-{number}", "placements")
        log.ask(f"behind-{number}", 1)
        await log.until(f"behind-{number}", "placements")
    monkeypatch.setattr(leadership, "_CROWD_LINGER_S", 1.0)
    for number in range(leadership._CROWD):
        log.ask(f"crowd-{number}", 1)
    await log.until("crowd-0", "journal")
    before = log.entries()
    for number in range(3):
        log.ask(f"late-{number}", 1)
        for _ in range(200):
            await asyncio.sleep(0)
    assert log.entries() == before
    await log.until("late-2", "placements")
    assert log.entries() == before + 1
    stop.set()
    await leading


async def test_where_many_namespaces_have_a_backlog_an_entry_has_some_turns_of_each() -> None:
    log, stop, namespaces = SlowJournal(), asyncio.Event(), 60
    await log.ensure_topics(ALL_TOPICS)
    settings = SchedulerSettings(scheduler_id="one", scheduler_renew_s=60, http_port=-1)
    service = SchedulerService(log, SystemClock(), settings, SchedulerConfig())
    leading = asyncio.create_task(service.run(stop))
    log.ask("first", 1)
    await log.until("first", "placements")
    log.acknowledging.clear()
    log.ask("opening", 1)
    await log.until("opening", "journal")
    before = log.entries()
    for number in range(namespaces):
        log.ask(f"busy-{number}", 5)
    for _ in range(40 * namespaces):
        await asyncio.sleep(0)
    assert log.entries() == before
    log.acknowledging.set()
    for number in range(namespaces):
        await log.until(f"busy-{number}", "placements", 5)
    # More than a turn of each, which whoever comes now waits for anyway, and less than all that waits.
    assert leadership._GATHERED_TURNS * namespaces <= log.sizes()[before] < 5 * namespaces
    stop.set()
    await leading


async def test_a_backlog_of_many_is_gathered_though_the_last_entry_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leadership, "Turn", partial(Turn, seconds=0.0))
    log, stop, namespaces = SlowJournal(), asyncio.Event(), 60
    await log.ensure_topics(ALL_TOPICS)
    settings = SchedulerSettings(scheduler_id="one", scheduler_renew_s=60, http_port=-1)
    service = SchedulerService(log, SystemClock(), settings, SchedulerConfig())
    leading = asyncio.create_task(service.run(stop))
    log.ask("first", 1)
    await log.until("first", "placements")
    for number in range(namespaces):
        log.ask(f"busy-{number}", 8)
    for number in range(namespaces):
        await log.until(f"busy-{number}", "placements", 8)
    # Until few are left each entry has as many turns as are gathered.
    assert min(log.sizes()[1:4]) >= leadership._GATHERED_TURNS * namespaces, log.sizes()
    stop.set()
    await leading


async def test_a_slice_that_is_over_lets_what_is_on_its_way_arrive() -> None:
    clock, steps = FakeClock(), list[int]()

    async def on_its_way() -> None:
        """As many steps as a record takes through its client."""
        for number in range(5):
            steps.append(number)
            await asyncio.sleep(0)

    turn = Turn(clock)
    await clock.advance(SLICE_S / 2)
    arriving = asyncio.create_task(on_its_way())
    await turn.go_on()
    assert steps == []
    later = SLICE_S
    clock.monotonic = lambda: later  # type: ignore[method-assign]
    await turn.go_on()
    assert arriving.done()
    assert not turn.over


async def test_as_many_are_handed_over_together_as_fit_into_a_slice_at_this_pace() -> None:
    clock = FakeClock()
    turn = Turn(clock)
    assert turn.fitting(16) == inf
    await clock.advance(4 * SLICE_S)
    assert turn.fitting(16) == pytest.approx(4)
    assert turn.fitting(1) == pytest.approx(0.25)


async def resting(breaks: Breaks, changed: asyncio.Event, namespaces: list[str]) -> asyncio.Task[None]:
    """A break that has begun, of a flood that is alone for as long as there is one namespace."""
    taking = asyncio.create_task(breaks.take(changed, lambda: len(namespaces) == 1))
    for _ in range(5):
        await asyncio.sleep(0)
    return taking


async def test_a_flood_rests_twice_as_long_as_it_worked_where_somebody_was_served_lately() -> None:
    clock, changed = FakeClock(), asyncio.Event()
    breaks = Breaks(clock)
    breaks.served()
    breaks.work()
    await clock.advance(0.008)
    taking = await resting(breaks, changed, ["noisy"])
    await clock.advance(0.015)
    changed.set()
    await asyncio.sleep(0)
    assert not taking.done()
    await clock.advance(0.002)
    changed.set()
    async with asyncio.timeout(30):
        await taking


async def test_a_break_ends_when_somebody_comes() -> None:
    clock, changed, namespaces = FakeClock(), asyncio.Event(), ["noisy"]
    breaks = Breaks(clock)
    breaks.served()
    breaks.work()
    await clock.advance(0.02)
    taking = await resting(breaks, changed, namespaces)
    assert not taking.done()
    namespaces.append("quiet")
    changed.set()
    async with asyncio.timeout(30):
        await taking


async def test_nobody_rests_who_is_alone_all_the_time() -> None:
    clock, changed = FakeClock(), asyncio.Event()
    breaks = Breaks(clock)
    breaks.work()
    await clock.advance(0.02)
    assert (await resting(breaks, changed, ["noisy"])).done()
    breaks.served()
    await clock.advance(3)
    breaks.work()
    await clock.advance(0.02)
    assert (await resting(breaks, changed, ["noisy"])).done()
