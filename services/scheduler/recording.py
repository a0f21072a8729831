"""What was done to a state, in order: written into the journal, it is what decisions are derived from again.

Everything that changes a state goes through here, from the first record that a replica folds: as a run of records of
one partition, or as a call of a method with the arguments that no log has. What is recorded, in which order, is all
that a decision may depend on; `replaying` does the same once more.
"""

from __future__ import annotations

from typing import Any

from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import InputRun, StateCall, Step
from shared.model.built import built
from shared.ports.event_log import Record

# The methods that may be called: whoever derives decisions again calls no others, whatever the journal says.
CALLS = frozenset({"decide_pending"})
# A standby that follows for long has more to tell than fits into one entry of the journal.
MOST_STEPS = 4_000
_input_run = built(InputRun, ("topic", "partition", "start", "end", "records", "at", "unheard"))


class _Run:
    __slots__ = ("at", "end", "partition", "records", "start", "topic", "unheard")

    def __init__(self, topic: str, partition: int, offset: int, at: int | None, *, unheard: bool) -> None:
        self.topic = topic
        self.partition = partition
        self.start = offset
        self.end = offset + 1
        self.records = 1
        self.at = at
        self.unheard = unheard

    def step(self) -> InputRun:
        gaps = self.records != self.end - self.start
        return _input_run(
            {
                "topic": self.topic,
                "partition": self.partition,
                "start": self.start,
                "end": self.end,
                "records": self.records if gaps else None,
                "at": self.at,
                "unheard": self.unheard,
            }
        )


class Recorder:
    """The steps since the last `take`; `whole` says that none was left out."""

    def __init__(self, most: int = MOST_STEPS) -> None:
        self._most = most
        self._steps: list[_Run | StateCall] = []
        self._open: _Run | None = None
        self._whole = True

    def took(self, record: Record, at: int | None = None, *, unheard: bool = False) -> None:
        """A record was folded, or decided upon; `at` where that matters to what came of it."""
        self.took_offset(record.topic, record.partition, record.offset, at, unheard=unheard)

    def took_offset(
        self, topic: str, partition: int, offset: int, at: int | None = None, *, unheard: bool = False
    ) -> None:
        run = self._open
        if (
            run is not None
            and run.end <= offset
            and run.partition == partition
            and run.topic == topic
            and run.at == at
            and run.unheard is unheard
        ):
            run.end = offset + 1
            run.records += 1
            return
        self._open = _Run(topic, partition, offset, at, unheard=unheard)
        self._add(self._open)

    def call(self, state: SchedulerState, method: str, *arguments: int | str) -> Any:
        """Calls a method of the state that changes it, one of `CALLS`; the arguments are what no log has."""
        if method not in CALLS:
            raise ValueError(f"{method} cannot be replayed: it is none of {', '.join(sorted(CALLS))}")
        self._open = None
        self._add(StateCall(method=method, arguments=arguments))
        return getattr(state, method)(*arguments)

    def take(self) -> tuple[tuple[Step, ...], bool]:
        """The steps since the last time, and whether they are all of them."""
        steps = tuple(step.step() if isinstance(step, _Run) else step for step in self._steps)
        whole, self._whole = self._whole, True
        self._steps, self._open = [], None
        return steps, whole

    def _add(self, step: _Run | StateCall) -> None:
        if len(self._steps) >= self._most:
            self._steps.clear()
            self._whole = False
        self._steps.append(step)
