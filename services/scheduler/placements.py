"""The workloads as `fleet.placements` has them, read from its start."""

from __future__ import annotations

from services.scheduler.decision.state import SchedulerState
from services.scheduler.inputs import record_key
from shared.events.envelope import SEQ, number_of
from shared.events.registry import decode
from shared.events.v1.placements import PlacementPublished
from shared.ports.event_log import Record


class PlacementsRead:
    """`misstated` are workloads of which something older than what counts was last, as far as that was read."""

    def __init__(self) -> None:
        self.published: dict[str, PlacementPublished] = {}
        self.misstated: set[str] = set()
        # The generations of the tombstones that counted.
        self._ended: dict[str, int] = {}

    def fold(self, record: Record) -> None:
        """A leader that did not know of its end may have left what is older behind what is newer: that does not count.

        Raises DecodeError.
        """
        key = record_key(record)
        known = self.published.get(key)
        if record.value is None:
            by = number_of(record.headers, SEQ)
            if known is None or known.is_ended(by):
                self.published.pop(key, None)
                self._ended[key] = max(self._ended.get(key, 0), by or 0)
            is_so = key not in self.published
        else:
            item = decode(PlacementPublished, record.value)
            newest = known.generation if known is not None else self._ended.get(key, 0)
            is_so = item.placement is not None and item.generation >= newest
            if is_so:
                self.published[key] = item
        if is_so:
            self.misstated.discard(key)
        else:
            self.misstated.add(key)

    def apply(self, state: SchedulerState) -> None:
        """Makes the workloads those of a state that has none."""
        self._ended.clear()
        for item in self.published.values():
            if item.placement is not None:
                state.apply(item.placement)
                state.note_generation(item.placement, item.generation)
