"""Runs the controllers of one cluster: which keys are due, and when.

A controller maps events to keys and reconciles a key against the current state (level-triggered). Keys wait in one
queue without duplicates, or until a moment of virtual time. A reconcile may write, and its writes queue more keys.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import count
from typing import Protocol

from services.simulator.core.state import ClusterState
from services.simulator.core.store import Event


class Work(Protocol):
    """What a reconcile may ask of the engine."""

    state: ClusterState

    def later(self, key: Hashable, seconds: float) -> None:
        """Reconciles the key of the current controller again after some time."""


class Controller(Protocol):
    @property
    def watches(self) -> frozenset[str]:
        """The collections whose events it wants; empty for all."""

    def keys(self, storage: str, event: Event) -> Iterable[Hashable]:
        """What to reconcile because of an event."""

    def reconcile(self, key: Hashable, work: Work) -> None:
        """Brings what the key names closer to what is desired."""


class _Handle:
    __slots__ = ("_engine", "_index", "state")

    def __init__(self, engine: Engine, index: int) -> None:
        self._engine = engine
        self._index = index
        self.state = engine.state

    def later(self, key: Hashable, seconds: float) -> None:
        self._engine.schedule(self._index, key, seconds)


class Engine:
    """`on_work` is called when a queue that was empty is not any more; it must not run the engine itself."""

    def __init__(self, state: ClusterState, controllers: Sequence[Controller], on_work: Callable[[], None]) -> None:
        self.state = state
        self._controllers = tuple(controllers)
        self._handles = [_Handle(self, index) for index in range(len(controllers))]
        self._queue: dict[tuple[int, Hashable], None] = {}
        self._timers: list[tuple[float, int, int, Hashable]] = []
        self._order = count()
        self._on_work = on_work
        self._interested: dict[str, list[int]] = {}
        state.store.listeners.append(self._observe)

    def _observe(self, storage: str, event: Event) -> None:
        interested = self._interested.get(storage)
        if interested is None:
            interested = [
                index
                for index, controller in enumerate(self._controllers)
                if not controller.watches or storage in controller.watches
            ]
            self._interested[storage] = interested
        for index in interested:
            for key in self._controllers[index].keys(storage, event):
                self._enqueue(index, key)

    def _enqueue(self, index: int, key: Hashable) -> None:
        if not self._queue:
            self._on_work()
        self._queue[index, key] = None

    def schedule(self, index: int, key: Hashable, seconds: float) -> None:
        if seconds <= 0:
            self._enqueue(index, key)
            return
        heapq.heappush(self._timers, (self.state.now + seconds, next(self._order), index, key))

    def request(self, controller: Controller, key: Hashable) -> None:
        """Asks for a reconcile from outside, for example when a node fails."""
        self._enqueue(self._controllers.index(controller), key)

    def next_due(self) -> float | None:
        """The moment of the earliest timer; the present if keys wait."""
        if self._queue:
            return self.state.now
        return self._timers[0][0] if self._timers else None

    def run(self, budget: int) -> bool:
        """Reconciles at most `budget` keys at the present moment; True if more are ready."""
        while self._timers and self._timers[0][0] <= self.state.now:
            _, _, index, key = heapq.heappop(self._timers)
            self._queue[index, key] = None
        for _ in range(budget):
            if not self._queue:
                return False
            index, key = next(iter(self._queue))
            del self._queue[index, key]
            self._controllers[index].reconcile(key, self._handles[index])
        return bool(self._queue)
