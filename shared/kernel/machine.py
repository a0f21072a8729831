"""The shape of every decision: `decide(state, stimulus) -> instructions`.

A stimulus carries an id and the time; an instruction carries the id of the stimulus that caused it, and so does
every log line. A machine reads no clock and does no I/O: a thin shell feeds it and carries out what it says. So a
decision can be replayed from its stimuli, simulated in virtual time and tested without a broker. The pattern is that
of dask.distributed's worker state machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Stimulus:
    """Something that happened. `at_ms` is Unix time in milliseconds, `id` is unique in the run."""

    id: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Something to be carried out, because of stimulus `cause`."""

    cause: str


S_contra = TypeVar("S_contra", bound=Stimulus, contravariant=True)
I_co = TypeVar("I_co", bound=Instruction, covariant=True)
S = TypeVar("S", bound=Stimulus)
I = TypeVar("I", bound=Instruction)  # noqa: E741 - the instruction of Machine[S, I]


class Machine(Protocol[S_contra, I_co]):
    """State that changes only through `handle`."""

    def handle(self, stimulus: S_contra) -> Sequence[I_co]: ...


@dataclass(frozen=True, slots=True)
class Step(Generic[S, I]):
    stimulus: S
    instructions: tuple[I, ...]


def replay(machine: Machine[S, I], stimuli: Iterable[S]) -> list[Step[S, I]]:
    """Feeds recorded stimuli to a machine and returns every step that it took."""
    return [Step(stimulus, tuple(machine.handle(stimulus))) for stimulus in stimuli]
