"""Begins planned faults while the run lasts, several at a time, and heals each in its time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.chaos.bed import Bed
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.journalist import Journalist, now_ms
from tests.chaos.plan import MOST_AT_ONCE, Kind, Planned

_BY_NAME: Final[Mapping[str, type[Fault]]] = {kind.name: kind for kind in FAULTS}
_LOOK_S: Final = 0.25
# Planned faults that wait for others to end; behind more, planning itself waits.
_WAITING: Final = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault that was tried. `recovered_s` is from the beginning of healing; None if it did not recover."""

    name: str
    target: str
    began_ms: int
    ended_ms: int
    recovered_s: float | None
    error: str = ""


def kinds(bed: Bed) -> list[Kind]:
    return [Kind(kind.name, kind.weight, kind.hold, tuple(kind.targets(bed))) for kind in FAULTS]


class Injection:
    """`trials` grows as faults end."""

    def __init__(
        self, bed: Bed, journalist: Journalist, planned: Iterator[Planned], say: Callable[[str], None], gap_s: float
    ) -> None:
        self._bed = bed
        self._journalist = journalist
        self._planned = planned
        self._say = say
        self._gap_s = gap_s
        self._waiting: list[Planned] = []
        self._claimed: dict[asyncio.Task[None], frozenset[str]] = {}
        self.trials: list[Trial] = []

    @property
    def under_way(self) -> int:
        return len(self._claimed)

    async def run(self, until: asyncio.Event, most: int | None = None) -> None:
        """Begins faults until the event is set or so many were begun; returns when all are healed."""
        begun = 0
        try:
            while not until.is_set() and (most is None or begun < most):
                if self._begin_next():
                    begun += 1
                    await asyncio.sleep(self._gap_s)
                else:
                    await asyncio.sleep(_LOOK_S)
        finally:
            await asyncio.gather(*self._claimed)

    def _begin_next(self) -> bool:
        """The first of the planned faults that may begin now."""
        while len(self._waiting) < _WAITING:
            self._waiting.append(next(self._planned))
        if len(self._claimed) >= MOST_AT_ONCE:
            return False
        taken = frozenset[str]().union(*self._claimed.values())
        for item in self._waiting:
            fault = _BY_NAME[item.name](self._bed, self._journalist, item.target, random.Random(item.seed))
            if not fault.claims & taken:
                self._waiting.remove(item)
                task = asyncio.create_task(self._try(fault, item), name=f"{item.name}: {item.target}")
                self._claimed[task] = fault.claims
                task.add_done_callback(self._claimed.pop)
                return True
        return False

    async def _try(self, fault: Fault, item: Planned) -> None:
        """Never raises but when cancelled, and then heals first: a fault that was left would outlive its run."""
        facts = {"number": item.number, "fault": item.name, "target": item.target}
        began, errors = now_ms(), []
        self._journalist.note("fault begins", **facts, hold_s=round(item.hold_s, 1))
        self._say(f"#{item.number} {item.name}: {item.target} for {item.hold_s:.1f} s")
        try:
            await fault.inject()
            await asyncio.sleep(item.hold_s)
        except Exception as error:  # noqa: BLE001  told in the trial, and healed all the same
            errors.append(f"inject: {error!r}")
        finally:
            healing, recovered = time.monotonic(), None
            try:
                await fault.heal()
                recovered = time.monotonic() - healing
            except Exception as error:  # noqa: BLE001  told in the trial
                errors.append(f"heal: {error!r}")
            trial = Trial(item.name, item.target, began, now_ms(), recovered, "; ".join(errors))
            self.trials.append(trial)
            self._journalist.note("fault ends", **facts, recovered_s=recovered, error=trial.error)
            outcome = f"recovered in {recovered:.1f} s" if recovered is not None else "not recovered"
            self._say(f"#{item.number} {item.name}: {item.target} {outcome} {trial.error[:300]}".rstrip())
