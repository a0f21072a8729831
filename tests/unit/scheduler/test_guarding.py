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
POSITION = 50


class Guarded:
    """A log whose placements are guarded; `repeated` fills as they are to be published again."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.published = {MOVED: placement(key=MOVED, generation=9)}
        self.repeated: asyncio.Queue[str] = asyncio.Queue()

    def say(self, key: str, published: PlacementPublished | None) -> None:
        self.log.append(NewRecord(PLACEMENTS.name, key.encode(), published.to_json() if published else None))

    async def repeats(self) -> set[str]:
        """All that are repeated up to a placement that surely is."""
        self.say(LAST, placement(key=LAST, generation=1))
        found: set[str] = set()
        async with asyncio.timeout(10):
            while LAST not in found:
                found.add(await self.repeated.get())
        return found - {LAST}


@pytest.fixture
async def guarded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    monkeypatch.setattr(guarding, "_DOUBT_S", 0.01)
    # All that a test says is said while it reads.
    monkeypatch.setattr(guarding, "END", START)
    made = Guarded()
    await made.log.ensure_topics(ALL_TOPICS)
    guard = PlacementGuard(made.log, SystemClock(), made.published, lambda: POSITION, made.repeated.put_nowait)
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
