"""The orders of node groups: the newest of each stays, what is older is refused, what is malformed is said to be.

The autoscaler alone writes these subjects, and its epochs and generations are its own: they are compared within a
subject, and with nothing of the scheduler's. As with other commands an older record is refused only if it is the last
word of its subject when all was read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.executor.decision.commands import Stale, fence_of_tombstone
from services.executor.decision.desired import fence_of
from services.executor.decision.fence import OPEN, Fence
from services.executor.decision.instructions import Report
from services.executor.decision.reports import as_malformed, malformed_of, refusal_of
from services.executor.decision.stimuli import CommandMalformed, CommandSeen, CommandsRead, CommandTombstoned
from shared.events.v1.commands import CommandIssued
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import NODE_GROUP_SUBJECT

_REMEMBERED: Final = 1_000
# What was said last, as far as saying it again would be news.
Said = tuple[object, ...]


@dataclass(slots=True)
class Held:
    """A group's newest order. `ended`: its subject was forgotten, and what the order had begun is put back."""

    command: CommandIssued
    traceparent: str = ""
    ended: bool = False
    said: Said | None = None

    @property
    def fence(self) -> Fence:
        return fence_of(self.command)


class GroupOrders:
    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._held: dict[str, Held] = {}
        self._fences: OrderedDict[str, Fence] = OrderedDict()
        self._stale: dict[str, Stale] = {}
        self._caught_up = False

    def get(self, subject: str) -> Held | None:
        return self._held.get(subject)

    def handle(self, stimulus: Stimulus) -> tuple[Sequence[str], list[Instruction]]:
        """The subjects that are to be looked at, and what is to be reported."""
        woken: list[str] = []
        reports: list[Instruction] = []
        match stimulus:
            case CommandSeen():
                woken, reports = self._seen(stimulus)
            case CommandMalformed():
                reports = [malformed_of(self._cluster, stimulus)]
            case CommandTombstoned():
                woken = self._tombstoned(stimulus)
            case CommandsRead():
                return self._read(stimulus)
        return (woken if self._caught_up else []), reports

    def forget(self, subject: str) -> None:
        """Nothing is left to be done for it, but nothing older is obeyed."""
        held = self._held.pop(subject)
        self._remember(subject, held.fence)

    def _seen(self, stimulus: CommandSeen) -> tuple[list[str], list[Instruction]]:
        command, name = stimulus.command, stimulus.subject
        if problem := _problem(command, self._cluster, name):
            return [], [malformed_of(self._cluster, as_malformed(stimulus, problem))]
        if not self._fence(name).admits(fence_of(command)):
            self._stale[name] = Stale(fence_of(command), command.digest, stimulus.traceparent)
            return [], []
        self._stale.pop(name, None)
        self._fences.pop(name, None)
        known = self._held.get(name)
        self._held[name] = Held(command, stimulus.traceparent, said=known.said if known else None)
        return [name], []

    def _tombstoned(self, stimulus: CommandTombstoned) -> list[str]:
        name, held, by = stimulus.subject, self._held.get(stimulus.subject), fence_of_tombstone(stimulus)
        if held is not None and by is not None and by < held.fence:
            self._stale[name] = Stale(by)
            return []
        self._stale.pop(name, None)
        if held is None:
            self._remember(name, self._fence(name).raised_by(by or OPEN))
            return []
        held.ended = True
        return [name]

    def _read(self, stimulus: CommandsRead) -> tuple[Sequence[str], list[Instruction]]:
        first, self._caught_up = not self._caught_up, True
        refusals: list[Instruction] = []
        for name, stale in self._stale.items():
            if held := self._held.get(name):
                held.said = None  # what is said next is news after a refusal
            report = refusal_of(self._cluster, name, stale.fence, stale.digest, self._fence(name), stimulus.at_ms)
            refusals.append(Report(cause=stimulus.id, report=report, traceparent=stale.traceparent))
        self._stale.clear()
        return (list(self._held) if first else []), refusals

    def _fence(self, subject: str) -> Fence:
        held = self._held.get(subject)
        return held.fence if held else self._fences.get(subject, OPEN)

    def _remember(self, subject: str, fence: Fence) -> None:
        self._fences[subject] = fence
        self._fences.move_to_end(subject)
        while len(self._fences) > _REMEMBERED:
            self._fences.popitem(last=False)


def _problem(command: CommandIssued, cluster: str, key: str) -> str:
    """Why the order cannot be meant so; empty if it can."""
    order = command.node_group
    if command.cluster != cluster:
        return f"cluster: {command.cluster[:80]!r} is not {cluster!r}"
    if command.subject != key:
        return f"subject: {command.subject[:160]!r} is not the record's key"
    if command.action == "run" and order is None:
        return "nodeGroup: must be given"
    if order is not None and key != f"{NODE_GROUP_SUBJECT}{order.group}":
        return f"nodeGroup.group: {order.group[:80]!r} is not that of the subject"
    return ""
