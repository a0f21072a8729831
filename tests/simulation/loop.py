"""An asyncio event loop in virtual time: what would sleep jumps to the next timer, and nothing else ever waits.

Invariants:
- The same callbacks run in the same order on every run: time moves only when nothing is ready, timers of one moment
  run in the order in which they were set, and sets of tasks iterate in the order in which the tasks were made.
- Nothing reaches the real world: no sockets, no threads, no signals. A loop in which nothing can happen any more raises
  `DeadlockError` instead of waiting for ever.
- A callback belongs to the simulated process in whose context it was scheduled; while that process is paused, its
  callbacks are held back, and run in their order when it goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, NoReturn, Protocol, TypeVar, cast

T = TypeVar("T")


class Owner(Protocol):
    """Whoever callbacks belong to. `held` collects them while it is paused; None while it runs."""

    held: list[Any] | None
    tasks: dict[asyncio.Task[Any], None]


# The simulated process of the running callback; None for the world around the processes.
OWNER: ContextVar[Owner | None] = ContextVar("simulated process", default=None)
# A context without a process, for what the world does on its own.
WORLD: Context = copy_context()


# So many callbacks at one moment of virtual time are a loop without an end.
_MOST_AT_ONCE = 200_000
# And so many in all are a fleet that never comes to rest: a thousand seconds take some 150,000, and an hour 300,000.
_MOST_EVER = 600_000
_MOST_A_SECOND = 200


class DeadlockError(RuntimeError):
    """No end is in sight: everything waits and no timer is set, or something runs and never waits, or never rests."""


def _refuse_threads(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("a simulation has one thread and no signals")


def _refuse_sockets(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("a simulation has no sockets")


class _Task(asyncio.Task[T]):
    """A task whose hash does not depend on where it lies in memory, so that sets of tasks have an order."""

    def __init__(
        self, coro: Coroutine[Any, Any, T], *, loop: asyncio.AbstractEventLoop, context: Context | None, number: int
    ) -> None:
        self.number = number
        super().__init__(coro, loop=loop, context=context)

    def __hash__(self) -> int:
        return self.number


class _Handle(list[Any]):
    """A callback, its arguments, its context, and of a timer the moment. No callback: it was cancelled.

    A list rather than an object with a constructor: there are hundreds of them for each virtual second.
    """

    __slots__ = ()

    def cancel(self) -> None:
        self[0] = None

    def cancelled(self) -> bool:
        return self[0] is None

    def when(self) -> float:
        return cast("float", self[3])


class VirtualLoop(asyncio.BaseEventLoop):
    """`paused` counts the owners that are: a loop without any does not look."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._order = 0
        self._tasks_made = 0
        self.paused = 0
        self.callbacks = 0
        self._moved_at = 0
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Handle((callback, args, copy_context() if context is None else context, when))
        self._order += 1
        heappush(self._timers, (when, self._order, timer))
        return timer  # type: ignore[return-value]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        when = self._now + delay
        timer = _Handle((callback, args, copy_context() if context is None else context, when))
        self._order += 1
        heappush(self._timers, (when, self._order, timer))
        return timer  # type: ignore[return-value]

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle((callback, args, copy_context() if context is None else context))
        self._ready.append(handle)
        return handle  # type: ignore[return-value]

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    # bool() is False: this one is asked for by every future and task, and a class answers faster than a method.
    get_debug = staticmethod(bool)

    def _run_once(self) -> None:
        """Goes on until it is to stop: the loop around it has nothing else to do."""
        ready, timers = self._ready, self._timers
        while not self._stopping:  # type: ignore[attr-defined]
            while timers and timers[0][2][0] is None:
                heappop(timers)
            if not ready:
                if not timers:
                    raise DeadlockError(f"nothing can happen any more at {self._now:.3f} s")
                # Time jumps to the next timer.
                self._now = max(self._now, timers[0][0])
                self._moved_at = self.callbacks
            elif self.callbacks - self._moved_at > _MOST_AT_ONCE:
                raise DeadlockError(f"something never waits at {self._now:.3f} s: {ready[0]!r}"[:1000])
            now = self._now
            if self.callbacks > _MOST_EVER + _MOST_A_SECOND * now:
                raise DeadlockError(f"{self.callbacks} callbacks by {now:.3f} s, and no end")
            while timers and timers[0][0] <= now:
                ready.append(heappop(timers)[2])
            for _ in range(len(ready)):
                handle = ready.popleft()
                callback = handle[0]
                if callback is None:
                    continue
                if self.paused and self._holds(handle):
                    continue
                self.callbacks += 1
                try:
                    handle[2].run(callback, *handle[1])
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio has it: whatever a callback raises is told
                    self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": error})

    def _holds(self, handle: _Handle) -> bool:
        """Whether its process is paused: then it is for later."""
        owner = handle[2].get(OWNER)
        if owner is None or owner.held is None:
            return False
        owner.held.append(handle)
        return True

    def release(self, handles: list[Any]) -> None:
        """Lets callbacks run that were held back."""
        self._ready.extend(handles)

    def _make_task(self, loop: Any, coro: Any, context: Context | None = None) -> asyncio.Task[Any]:
        self._tasks_made += 1
        task: _Task[Any] = _Task(coro, loop=loop, context=context, number=self._tasks_made)
        owner = context.get(OWNER) if context is not None else OWNER.get()
        if owner is not None:
            owner.tasks[task] = None
            task.add_done_callback(owner.tasks.pop)
        return task

    # What a simulation must not do

    call_soon_threadsafe: Any = _refuse_threads
    run_in_executor: Any = _refuse_threads
    add_signal_handler: Any = _refuse_threads
    create_connection: Any = _refuse_sockets
    create_server: Any = _refuse_sockets

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def _process_events(self, event_list: object) -> None:
        """There is no selector that has any."""
