"""Guards `fleet.placements`: what a replaced leader leaves there behind a newer record is published over.

The broker fences a replaced leader, as long as it remembers its epochs. Where it does not, a late placement may stand
last under a key that has moved on or ended, and whoever rebuilds from the topic would believe it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from services.scheduler.inputs import partitions_of, read_up
from services.scheduler.turns import Turn
from shared.events.topics import PLACEMENTS
from shared.events.v1.placements import PlacementPublished
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import END, EventLog, Reader, Record

log = get_logger(__name__)

_READ_S = 5.0
# What comes within this time is looked at together: a fetch for every few records costs more than they do. And the
# leader's own next record of a key is there by then; if it is not, it is published twice, and nothing else happens.
_DOUBT_S = 1.0


class _Published(msgspec.Struct, gc=False):
    """All that is needed of a placement."""

    generation: int


class PlacementGuard:
    """`published` are the placements as the leader has them; `position` is how far the journal has been published.

    `repeat(workload)` publishes its placement again, or that it has none.
    """

    def __init__(
        self,
        events: EventLog,
        clock: Clock,
        published: Mapping[str, PlacementPublished],
        position: Callable[[], int],
        repeat: Callable[[str], None],
    ) -> None:
        self._events = events
        self._clock = clock
        self._published = published
        self._position = position
        self._repeat = repeat

    async def run(self) -> None:
        """Until it is cancelled. Raises LogError."""
        reader = await self._events.reader("scheduler-placements")
        try:
            await reader.assign(dict.fromkeys(await partitions_of(self._events, [PLACEMENTS.name]), END))
            doubted: dict[str, int] = {}
            while True:
                said = await self._look(reader, again=bool(doubted))
                for key in sorted(doubted.keys() - said.keys()):
                    if self._is_stale(key, doubted[key]):
                        log.warning("an older placement stands last: publishing again", workload=key)
                        self._repeat(key)
                doubted = {key: at for key, at in said.items() if at is not None and self._is_stale(key, at)}
                await self._clock.sleep(_DOUBT_S)
        finally:
            await reader.close()

    async def _look(self, reader: Reader, *, again: bool) -> dict[str, int | None]:
        """What stands last under each key that came since the last look; waits for one if not `again`."""
        said: dict[str, int | None] = {}

        async def read(timeout_s: float) -> None:
            turn = Turn(self._clock)
            for record in await reader.read(timeout_s=timeout_s):
                said[(record.key or b"").decode(errors="replace")] = _generation(record)
                await turn.go_on()

        if not again:
            await read(_READ_S)
        if said or again:
            await read_up(reader, lambda: read(_READ_S))
        return said

    def _is_stale(self, key: str, generation: int) -> bool:
        known = self._published.get(key)
        return generation < self._position() and (known is None or generation < known.generation)


def _generation(record: Record) -> int | None:
    """None for a tombstone, and for what only a rebuild has to refuse."""
    try:
        return msgspec.json.decode(record.value, type=_Published).generation if record.value is not None else None
    except msgspec.MsgspecError:
        return None
