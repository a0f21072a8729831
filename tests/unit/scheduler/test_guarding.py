"""What a replaced leader leaves in `fleet.placements` behind a newer record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.scheduler import guarding
from services.scheduler.guarding import PlacementGuard
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import ALL_TOPICS, PLACEMENTS
from shared.events.v1.placements import PlacementPublished
from shared.ports.event_log import START, NewRecord
from tests.unit.status.world import placement, refusal

ENDED, MOVED, AHEAD, LAST = "shop/ended", "shop/moved", "shop/ahead", "shop/surely"
MISSTATED, TOLD_AGAIN = "shop/misstated", "shop/told-again"
POSITION = 50


class Guarded:
    """A log whose placements are guarded; `repeated` fills as they are to be published again."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.published = {
            MOVED: placement(key=MOVED, generation=9),
            MISSTATED: placement(key=MISSTATED, generation=4),
            TOLD_AGAIN: placement(key=TOLD_AGAIN, generation=4),
        }
        self.repeated: asyncio.Queue[str] = asyncio.Queue()

    def say(self, key: str, published: PlacementPublished | None, generation: int | None = None) -> None:
        """The generation is a tombstone's; without one it is of before they had any."""
        headers = [("fleet_seq", str(generation).encode())] if generation is not None else []
        self.log.append(NewRecord(PLACEMENTS.name, key.encode(), published.to_json() if published else None, headers))

    async def repeats(self) -> set[str]:
        """All that are repeated up to a placement that surely is."""
        self.say(LAST, placement(key=LAST, generation=1))
        found: set[str] = set()
        async with asyncio.timeout(30):
            while LAST not in found:
                found.add(await self.repeated.get())
        return found - {LAST, MISSTATED}


@pytest.fixture
async def guarded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    monkeypatch.setattr(guarding, "_DOUBT_S", 0.01)
    made = Guarded()
    await made.log.ensure_topics(ALL_TOPICS)
    made.say(TOLD_AGAIN, made.published[TOLD_AGAIN])
    begin = dict.fromkeys(await made.log.partitions(PLACEMENTS.name), START)
    guard = PlacementGuard(
        made.log,
        SystemClock(),
        made.published,
        lambda: POSITION,
        made.repeated.put_nowait,
        begin,
        [MISSTATED, TOLD_AGAIN],
    )
    running = asyncio.create_task(guard.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_older_placement_that_stands_last_is_published_over(guarded: Guarded) -> None:
    """Found by simulation: a deleted workload rose again, and the request that created it anew was refused."""
    guarded.say(ENDED, None)
    guarded.say(ENDED, placement(key=ENDED, generation=5))
    assert await guarded.repeats() == {ENDED}
    guarded.say(MOVED, placement(key=MOVED, generation=9))
    guarded.say(MOVED, placement(key=MOVED, generation=8))
    assert await guarded.repeats() == {MOVED}


async def test_what_is_told_in_its_order_is_left_alone(guarded: Guarded) -> None:
    guarded.say(ENDED, placement(key=ENDED, generation=5))
    guarded.say(ENDED, None)
    guarded.say("shop/refused", refusal("shop/refused", generation=6))
    guarded.say("shop/refused", None)
    guarded.say(MOVED, placement(key=MOVED, generation=8))
    guarded.say(MOVED, placement(key=MOVED, generation=9))
    guarded.say(AHEAD, placement(key=AHEAD, generation=POSITION))
    guarded.log.append(NewRecord(PLACEMENTS.name, b"shop/nonsense", b"{"))
    guarded.log.append(NewRecord(PLACEMENTS.name, b"\xff", b"{"))
    assert await guarded.repeats() == set()


@pytest.mark.parametrize("generation", [None, 8, 9])
async def test_an_older_tombstone_that_stands_last_is_published_over(guarded: Guarded, generation: int | None) -> None:
    """Found by simulation: a replaced leader repeated a refusal's tombstone behind the placement of its successor."""
    guarded.say(MOVED, placement(key=MOVED, generation=9))
    guarded.say(MOVED, None, generation)
    assert await guarded.repeats() == {MOVED}


async def test_the_tombstone_of_a_successor_is_left_alone(guarded: Guarded) -> None:
    guarded.say(MOVED, placement(key=MOVED, generation=9))
    guarded.say(MOVED, None, POSITION)
    assert await guarded.repeats() == set()


async def test_a_placement_without_the_refusal_that_was_told_beside_it_is_published_over(guarded: Guarded) -> None:
    refused = placement(key=MOVED, generation=9, rejection=refusal(MOVED).rejection)
    guarded.say(MOVED, refused)
    assert await guarded.repeats() == set()
    guarded.published[MOVED] = refused
    guarded.say(MOVED, placement(key=MOVED, generation=9))
    assert await guarded.repeats() == {MOVED}


async def test_what_was_found_to_stand_last_before_is_published_over_unless_that_was_done(guarded: Guarded) -> None:
    async with asyncio.timeout(30):
        assert await guarded.repeated.get() == MISSTATED
    assert await guarded.repeats() == set()
