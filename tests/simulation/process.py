"""One life of a simulated process: its tasks, its clock, and the ways in which it can break.

A process reaches the world through ports alone, and every port asks `effect` before it does anything. A crash first
makes that refuse, so that nothing a `finally` does can reach the world any more, and then cancels the tasks. A paused
process does nothing, while the world and the monotonic clock go on; whatever was to happen happens when it resumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from tests.simulation.loop import OWNER, WORLD, VirtualLoop

# The world's Unix time at which every simulation begins, in milliseconds.
EPOCH_MS = 1_700_000_000_000
_CANCEL_ROUNDS = 50


class KilledError(BaseException):
    """The process is no more: no handler of ordinary errors may go on with this."""


class ProcessClock:
    """A process's own clocks: its wall clock may be wrong and jump, its monotonic clock does neither."""

    def __init__(self, loop: VirtualLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        return EPOCH_MS + self.skew_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Process:
    """`name` is the service's, `incarnation` counts its lives. Callbacks told of the end run in the world."""

    def __init__(self, loop: VirtualLoop, name: str, incarnation: int, skew_ms: int = 0) -> None:
        self.loop = loop
        self.name = name
        self.incarnation = incarnation
        self.clock = ProcessClock(loop, skew_ms)
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.held: list[Any] | None = None
        self.alive = True
        self.effects = 0
        self.crash_at: int | None = None
        self.on_crash: Callable[[], None] = lambda: None
        self.stop = asyncio.Event()
        self._severed: list[Callable[[], None]] = []
        self._paused: list[Callable[[bool], None]] = []
        self.context = copy_context()
        self.context.run(OWNER.set, self)

    def __str__(self) -> str:
        return f"{self.name}#{self.incarnation}"

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work, context=self.context)

    def effect(self, what: str) -> None:
        """To be called by every port before it does anything. Raises KilledError when the process is no more."""
        del what
        if not self.alive:
            raise KilledError(str(self))
        self.effects += 1
        if self.crash_at is not None and self.effects >= self.crash_at:
            self.crash_at = None
            self.on_crash()
            raise KilledError(str(self))

    def when_severed(self, close: Callable[[], None]) -> None:
        """`close` is called once, at the crash: a connection that ends without a goodbye."""
        self._severed.append(close)

    def when_paused(self, tell: Callable[[bool], None]) -> None:
        """`tell(True)` at every pause, `tell(False)` at every resumption: for what leaves with a process's own help."""
        self._paused.append(tell)

    def crash(self) -> None:
        """SIGKILL."""
        if not self.alive:
            return
        self.alive = False
        for close in self._severed:
            close()
        self._severed.clear()
        if self.held is not None:
            held, self.held = self.held, None
            self.loop.paused -= 1
            self.loop.release(held)
        self._cancel(_CANCEL_ROUNDS)

    def _cancel(self, rounds: int) -> None:
        """What is cancelled may catch it once; it cannot reach the world while it is at it."""
        if self.tasks and rounds:
            for task in list(self.tasks):
                task.cancel()
            self.loop.call_later(0.01, self._cancel, rounds - 1, context=WORLD)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.alive and self.held is None:
            self.held = []
            self.loop.paused += 1
            for tell in self._paused:
                tell(True)

    def resume(self) -> None:
        """SIGCONT."""
        if self.alive and self.held is not None:
            held, self.held = self.held, None
            self.loop.paused -= 1
            self.loop.release(held)
            for tell in self._paused:
                tell(False)
