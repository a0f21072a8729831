"""Guards `fleet.placements`: what a replaced leader leaves there behind a newer record is published over.

The broker fences a replaced leader, as long as it remembers its epochs. Where it does not, a late placement may stand
last under a key that has moved on or ended, or a late tombstone behind a placement that counts. Readers tell by the
generations, as long as both records are there; but compaction takes the right one away, and whoever rebuilds from the
topic then would believe what stands last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from services.scheduler.inputs import read_up
from services.scheduler.turns import Turn
from shared.events.envelope import SEQ, number_of
from shared.events.v1.placements import PlacementPublished
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, Partition, Reader, Record

log = get_logger(__name__)

_READ_S = 5.0
# What comes within this time is looked at together: a fetch for every few records costs more than they do. And the
# leader's own next record of a key is there by then; if it is not, it is published twice, and nothing else happens.
_DOUBT_S = 1.0


class _Request(msgspec.Struct, gc=False):
    id: str


class _Rejection(msgspec.Struct, gc=False):
    request: _Request


class _Published(msgspec.Struct, gc=False):
    """All that is needed of a placement."""

    generation: int
    rejection: _Rejection | None = None


class _Said(NamedTuple):
    """What a record says: of which generation it is, whether it is no tombstone, and the refusal that it shows."""

    generation: int
    there: bool = False
    refused: str = ""


# Older than everything: a tombstone without a generation, or what nobody can read.
_UNKNOWN = _Said(-1)


class PlacementGuard:
    """`published` are the placements as the leader has them; `position` is how far the journal has been published.

    `repeat(workload)` publishes its placement again, or that it has none. Looks at what stands in the topic behind
    `begin`, and before that at `misstated`, of which something older was found to stand last.
    """

    def __init__(
        self,
        events: EventLog,
        clock: Clock,
        published: Mapping[str, PlacementPublished],
        position: Callable[[], int],
        repeat: Callable[[str], None],
        begin: Mapping[Partition, int],
        misstated: Iterable[str] = (),
    ) -> None:
        self._events = events
        self._clock = clock
        self._published = published
        self._position = position
        self._repeat = repeat
        self._begin = begin
        self._misstated = misstated

    async def run(self) -> None:
        """Until it is cancelled. Raises LogError."""
        reader = await self._events.reader("scheduler-placements")
        try:
            await reader.assign(self._begin)
            doubted = dict.fromkeys(self._misstated, _UNKNOWN)
            while True:
                said = await self._look(reader, again=bool(doubted))
                for key in sorted(doubted.keys() - said.keys()):
                    if self._is_stale(key, doubted[key]):
                        log.warning("something older than the placement stands last: publishing again", workload=key)
                        self._repeat(key)
                doubted = {key: each for key, each in said.items() if self._is_stale(key, each)}
                await self._clock.sleep(_DOUBT_S)
        finally:
            await reader.close()

    async def _look(self, reader: Reader, *, again: bool) -> dict[str, _Said]:
        """What stands last under each key that came since the last look; waits for one if not `again`."""
        said: dict[str, _Said] = {}

        async def read(timeout_s: float) -> None:
            turn = Turn(self._clock)
            for record in await reader.read(timeout_s=timeout_s):
                said[(record.key or b"").decode(errors="replace")] = _said(record)
                await turn.go_on()

        if not again:
            await read(_READ_S)
        if said or again:
            await read_up(reader, lambda: read(_READ_S))
        return said

    def _is_stale(self, key: str, said: _Said) -> bool:
        """Whether it was overtaken: all that was decided before our position is known, and it says something else.

        A refusal that we do not know, beside the placement that we do, is not older than it.
        """
        known = self._published.get(key)
        if said.generation >= self._position():
            return False
        if known is None:
            return said.there
        refused = known.rejection.request.id if known.rejection is not None else ""
        return said.generation < known.generation or not said.there or bool(refused and said.refused != refused)


def _said(record: Record) -> _Said:
    try:
        if record.value is None:
            return _Said(by) if (by := number_of(record.headers, SEQ)) is not None else _UNKNOWN
        published = msgspec.json.decode(record.value, type=_Published)
    except msgspec.MsgspecError:
        return _UNKNOWN
    rejection = published.rejection
    return _Said(published.generation, True, rejection.request.id if rejection is not None else "")
