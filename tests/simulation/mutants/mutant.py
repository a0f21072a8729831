"""What a mutant is: one deliberate defect, and the rules of the checker of which at least one must find it.

A mutant exists in tests alone. It patches one place of a service or an adapter while a simulation runs, and is taken
back behind it: nothing in `services/` or `shared/` knows that there are any.

Where a promise has two guards, one behind the other, the defect of the second shows only while the first is off as
well. Such a mutant names the first guard; the control runs, which have only that one off, must keep the mutant's rules,
or it would not be the second guard whose loss was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from inspect import getdoc

Switch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`stands_for` is the real bug that it imitates; `caught_by` are rules as violations name them.

    `faults` are the kinds of faults under which it shows: its plans have these alone, so that few seeds are enough.
    Where there are none, its plans are everybody's.
    """

    name: str
    stands_for: str
    caught_by: frozenset[str]
    defect: Switch
    faults: tuple[str, ...] = ()
    front: Switch | None = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.front is not None:
                stack.enter_context(self.front())
            stack.enter_context(self.defect())
            yield

    @contextmanager
    def control(self) -> Iterator[None]:
        """Everything but the defect itself."""
        with ExitStack() as stack:
            if self.front is not None:
                stack.enter_context(self.front())
            yield


MUTANTS: dict[str, Mutant] = {}


def mutant(
    *caught_by: str, faults: tuple[str, ...] = (), behind: Switch | None = None
) -> Callable[[Callable[[], Iterator[None]]], Switch]:
    """Registers a generator that yields once, while its defect is in place; its docstring says what it stands for."""

    def register(defect: Callable[[], Iterator[None]]) -> Switch:
        switch = contextmanager(defect)
        name = defect.__name__.replace("_", "-")
        stands_for = " ".join((getdoc(defect) or "").split())
        MUTANTS[name] = Mutant(name, stands_for, frozenset(caught_by), switch, faults, behind)
        return switch

    return register
