"""When to plan, and what of it does not come.

Pods that arrive together are planned together: a plan waits until nothing more has come for a moment, and not for
longer than a limit, as Karpenter's batching does (`--batch-idle-duration`, `--batch-max-duration`). A node that was
asked for and is not there in time will not come: its group counts as out of stock, and what was asked of it is taken
back, so that the next plan goes elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from services.autoscaler.decision.nodes.judging import coming
from services.autoscaler.decision.nodes.seen import GroupKey, Seen
from services.autoscaler.decision.nodes.stock import Stock


@dataclass(frozen=True, slots=True)
class Batching:
    """In milliseconds: nothing more for `idle`, or `most` since the first that came."""

    idle: int = 1_000
    most: int = 10_000


class Batch:
    """Of what has come and is not planned yet."""

    def __init__(self, batching: Batching | None = None) -> None:
        self._batching = batching or Batching()
        self._first_ms: int | None = None
        self._last_ms = 0

    def arrived(self, now_ms: int) -> None:
        """Something came that a plan would look at."""
        self._first_ms = now_ms if self._first_ms is None else self._first_ms
        self._last_ms = now_ms

    @property
    def due_ms(self) -> int | None:
        """When to plan; None while nothing has come."""
        if self._first_ms is None:
            return None
        return min(self._last_ms + self._batching.idle, self._first_ms + self._batching.most)

    def planned(self) -> None:
        """A plan was made of all that had come."""
        self._first_ms = None


class Fewer(NamedTuple):
    """The group is asked for so many nodes again: the others did not come."""

    group: GroupKey
    size: int


class Awaited(NamedTuple):
    """For how many nodes beside those that are there, since when neither number has changed."""

    nodes: int
    there: int
    since_ms: int


class Orders:
    """What was asked for and is not there yet, by group. A node takes `provision_ms` at most."""

    def __init__(self, provision_ms: int = 900_000) -> None:
        self._provision_ms = provision_ms
        self._waiting: dict[GroupKey, Awaited] = {}

    def memory(self) -> tuple[tuple[GroupKey, Awaited], ...]:
        return tuple(self._waiting.items())

    def remember(self, memory: Iterable[tuple[GroupKey, Awaited]]) -> None:
        self._waiting = dict(memory)

    def step(self, seen: Seen, stock: Stock, now_ms: int) -> list[Fewer]:
        """Tells `stock` what came and what did not. Time begins anew with every node that comes or is asked for."""
        found: list[Fewer] = []
        heard = {cluster.name for cluster in seen.clusters if cluster.open}
        waiting: dict[GroupKey, Awaited] = {}
        for group, count in zip(seen.groups, coming(seen), strict=True):
            known, there = self._waiting.get(group.key), max(0, group.size - count)
            if known is not None and there > known.there:
                stock.delivered(group.key)
            if not count:
                continue
            # Of who is not heard nobody knows what came.
            if known is None or known[:2] != (count, there) or group.cluster not in heard:
                known = Awaited(count, there, now_ms)
            if now_ms - known.since_ms >= self._provision_ms:
                stock.lacked(group.key, now_ms)
                found.append(Fewer(group.key, max(group.least, group.size - count)))
            waiting[group.key] = known
        self._waiting = waiting
        return found
