"""Guards `fleet.placements`: what a replaced leader leaves there behind a newer record is published over.

The broker fences a replaced leader, as long as it remembers its epochs. Where it does not, a late placement may stand
last under a key that has moved on or ended, and whoever rebuilds from the topic would believe it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.scheduler.inputs import partitions_of
from shared.events.registry import DecodeError, decode
from shared.events.topics import PLACEMENTS
from shared.events.v1.placements import PlacementPublished
from shared.observability.logs import get_logger
from shared.ports.event_log import END, EventLog, Record

log = get_logger(__name__)

_READ_S = 5.0
# The leader's own next record of a key is there by then; if it is not, it is published twice, and nothing else happens.
_DOUBT_S = 1.0


class PlacementGuard:
    """`published` are the placements as the leader has them; `position` is how far the journal has been published.

    `repeat(workload)` publishes its placement again, or that it has none.
    """

    def __init__(
        self,
        events: EventLog,
        published: Mapping[str, PlacementPublished],
        position: Callable[[], int],
        repeat: Callable[[str], None],
    ) -> None:
        self._events = events
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
                records = await reader.read(timeout_s=_DOUBT_S if doubted else _READ_S)
                last = {(record.key or b"").decode(errors="replace"): record for record in records}
                for key in sorted(doubted.keys() - last.keys()):
                    if self._is_stale(key, doubted[key]):
                        log.warning("an older placement stands last: publishing again", workload=key)
                        self._repeat(key)
                said = {key: _generation(record) for key, record in last.items()}
                doubted = {key: at for key, at in said.items() if at is not None and self._is_stale(key, at)}
        finally:
            await reader.close()

    def _is_stale(self, key: str, generation: int) -> bool:
        known = self._published.get(key)
        return generation < self._position() and (known is None or generation < known.generation)


def _generation(record: Record) -> int | None:
    """None for a tombstone, and for what only a rebuild has to refuse."""
    try:
        return decode(PlacementPublished, record.value).generation if record.value is not None else None
    except DecodeError:
        return None
