"""When a replica heard of a cluster: by its own clock, whatever the watcher says; which placements count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.replica import Replica
from shared.adapters.memory.event_log import MemoryLog
from shared.events.registry import DecodeError
from shared.events.topics import ALL_TOPICS, OBJECTS, PLACEMENTS
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.model.identities import heartbeat_key
from shared.ports.event_log import NewRecord, Record
from shared.testing.clock import FakeClock
from tests.unit.status.world import KEY, placement, refusal

HOUR_MS = 3_600_000
PATIENCE_S = 15.0


class Following:
    """A replica of a log in which one watcher, whose clock is wrong by `skew_ms`, tells of its cluster."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.clock = FakeClock()
        self.log = MemoryLog(self.clock)
        self.replica = Replica(self.log, self.clock, SchedulerConfig(), 0, "r", _refuse)
        self._stack = stack

    async def begin(self) -> None:
        await self.replica.rebuild(self._stack)

    def beat(self, skew_ms: int = 0, *, ready: bool = True) -> None:
        observed = ClusterObserved(
            cluster="east", epoch=1, observed_at=self.clock.now_ms() + skew_ms, interval_ms=5_000, ready=ready
        )
        self.log.append(NewRecord(OBJECTS.name, heartbeat_key("east").encode(), observed.to_json(), ()))

    async def follow(self, seconds: float = 0.0) -> None:
        """Time goes on, and the replica looks every second."""
        for _ in range(round(seconds)):
            await self.clock.advance(1.0)
            await self.replica.follow_inputs(0)
        await self.replica.follow_inputs(0)

    async def heard(self) -> bool:
        state = self.replica.state
        state.decide_pending(self.clock.now_ms())
        cluster = state.fleet.clusters.get("east")
        return cluster is not None and cluster.heard


def _refuse(record: Record, error: DecodeError) -> None:
    raise AssertionError(f"{record}: {error}")


@pytest.fixture
async def following() -> AsyncIterator[Following]:
    async with AsyncExitStack() as stack:
        made = Following(stack)
        await made.log.ensure_topics(ALL_TOPICS)
        yield made


async def test_a_heartbeat_matters_to_a_decision_where_its_cluster_is_not_as_it_was(following: Following) -> None:
    await following.begin()
    counts = []
    for ready in (True, True, False, False):
        following.beat(ready=ready)
        counts.append(await following.replica.follow_inputs(0))
    following.log.append(NewRecord(OBJECTS.name, b"east/core/v1/nodes/-/n0", None, ()))
    counts.append(await following.replica.follow_inputs(0))
    assert counts == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("skew_ms", [-HOUR_MS, 0, HOUR_MS])
async def test_a_watcher_whose_clock_is_wrong_is_heard_while_it_speaks_and_silent_when_it_does_not(
    following: Following, skew_ms: int
) -> None:
    await following.begin()
    following.beat(skew_ms)
    await following.follow(PATIENCE_S - 1)
    assert await following.heard()
    await following.follow(2)
    assert not await following.heard()


async def test_what_stood_in_the_log_before_is_as_old_as_its_record(following: Following) -> None:
    following.beat()
    await following.clock.advance(PATIENCE_S + 1)
    await following.begin()
    assert not await following.heard()


async def test_what_came_during_a_pause_of_its_own_is_as_old_as_its_record(following: Following) -> None:
    await following.begin()
    await following.follow(1)
    following.beat()
    await following.clock.advance(PATIENCE_S + 1)
    await following.follow()
    assert not await following.heard(), "the watcher may be as dead as this process looked"
    following.beat()
    await following.follow()
    assert await following.heard()


P4, P5 = placement({"east": 1}, generation=4), placement({"east": 2}, generation=5)
DELETING = placement(generation=5, deleting=True)
Said = PlacementPublished | int | None


@pytest.mark.parametrize(
    ("said", "known", "right"),
    [
        ([P4, P5], P5, True),
        ([P5, P4], P5, False),
        ([P5, 4], P5, False),
        ([P5, 4, P5], P5, True),
        ([P5, 5], P5, False),
        ([DELETING, 5], None, True),
        ([P5, 6], None, True),
        ([P5, 6, P4], None, False),
        ([P5, 6, P4, 6], None, True),
        ([P4, None], None, True),
        ([P4, None, P5], P5, True),
        ([refusal(generation=5), 5], None, True),
        ([P5, refusal(generation=4), 4], P5, False),
    ],
)
async def test_of_the_placements_counts_what_is_newest_whichever_stands_last(
    following: Following, said: list[Said], known: PlacementPublished | None, right: bool
) -> None:
    """Numbers are tombstones of that generation, and None one without. What stands last wrongly is noted."""
    for each in said:
        headers = [("fleet_seq", str(each).encode())] if isinstance(each, int) else []
        value = each.to_json() if isinstance(each, PlacementPublished) else None
        following.log.append(NewRecord(PLACEMENTS.name, KEY.encode(), value, headers))
    await following.begin()
    assert following.replica.published.get(KEY) == known
    assert following.replica.misstated == (set() if right else {KEY})
    assert sum(following.replica.unguarded.values()) == len(said)


async def test_a_successor_need_not_look_at_what_its_predecessor_looked_at(following: Following) -> None:
    await following.begin()
    following.log.append(NewRecord(PLACEMENTS.name, KEY.encode(), P4.to_json()))
    passed = []
    for _ in range(3):
        await following.clock.advance(60)
        await following.replica.pass_over_guarded()
        passed.append(sum(following.replica.unguarded.values()))
    assert passed == [0, 1, 1], "what was written within the last minute may be wrong"
