"""Node groups whose provider had nothing lately: left alone for a while, and longer each time.

As cluster-autoscaler's back-off: 5 minutes at first, twice as long each time, 30 minutes at most, and forgotten after 3
hours without a failure (k8s.io/autoscaler/cluster-autoscaler, `--initial-node-group-backoff-duration` and its likes).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from services.autoscaler.decision.nodes.seen import GroupKey

_FIRST_MS = 300_000
_LONGEST_MS = 1_800_000
_FORGOTTEN_MS = 10_800_000


class Shortage(NamedTuple):
    """The last failure, and for how long it closed the group."""

    at_ms: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class StockRules:
    first_ms: int = _FIRST_MS
    longest_ms: int = _LONGEST_MS
    forgotten_ms: int = _FORGOTTEN_MS


class Stock:
    """What is remembered, by group: bounded by the groups that `keep` names."""

    def __init__(self, rules: StockRules | None = None) -> None:
        self._rules = rules or StockRules()
        self._known: dict[GroupKey, Shortage] = {}

    def lacked(self, group: GroupKey, now_ms: int) -> None:
        """The provider had no node, or made none in time."""
        known = self._known.get(group)
        if known is None or now_ms - known.at_ms >= self._rules.forgotten_ms:
            self._known[group] = Shortage(now_ms, self._rules.first_ms)
        elif self.is_open(group, now_ms):
            self._known[group] = Shortage(now_ms, min(2 * known.for_ms, self._rules.longest_ms))

    def shortage(self, group: GroupKey) -> Shortage | None:
        """The last one, if it is not forgotten."""
        return self._known.get(group)

    def resume(self, group: GroupKey, shortage: Shortage) -> None:
        """What another autoscaler knew, as the log says."""
        self._known[group] = shortage

    def memory(self) -> tuple[tuple[GroupKey, Shortage], ...]:
        return tuple(self._known.items())

    def remember(self, memory: Iterable[tuple[GroupKey, Shortage]]) -> None:
        self._known = dict(memory)

    def delivered(self, group: GroupKey) -> None:
        """A node came: nothing is held against the group any more."""
        self._known.pop(group, None)

    def is_open(self, group: GroupKey, now_ms: int) -> bool:
        known = self._known.get(group)
        return known is None or now_ms - known.at_ms >= known.for_ms

    def open_at(self, group: GroupKey) -> int:
        known = self._known.get(group)
        return known.at_ms + known.for_ms if known is not None else 0

    def standing(self, group: GroupKey, now_ms: int) -> float:
        """1 for a group that lacked nothing; after a failure 0, and from there evenly to 1 until it is forgotten."""
        known = self._known.get(group)
        if known is None:
            return 1.0
        return min(max(now_ms - known.at_ms, 0) / self._rules.forgotten_ms, 1.0)

    def keep(self, groups: Iterable[GroupKey]) -> None:
        """Forgets all other groups."""
        known = set(groups)
        self._known = {group: shortage for group, shortage in self._known.items() if group in known}
