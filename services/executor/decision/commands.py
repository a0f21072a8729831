"""The intake of commands: the newest of each subject stays, what is older is refused, what is malformed is said to be.

During the first read of the topic, and within a batch, an older record may be followed by the newest again (a publisher
that repeats). So what is stale is refused only if it is still the last word of its subject when all was read. So are
tombstones: one that a replaced leader repeats behind a newer command ends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.executor.decision.desired import MalformedCommandError, check_command, fence_of, kinds_of, resolve
from services.executor.decision.fence import OPEN, Fence
from services.executor.decision.instructions import Report
from services.executor.decision.observations import NODE_KIND, Observations
from services.executor.decision.reports import as_malformed, malformed_of, refusal_of
from services.executor.decision.state import State
from services.executor.decision.stimuli import CommandMalformed, CommandSeen, CommandsRead, CommandTombstoned
from services.executor.decision.subject import Subject
from shared.kernel.machine import Instruction


@dataclass(frozen=True, slots=True)
class Stale:
    """A record that is older than what is held. A tombstone has no digest."""

    fence: Fence
    digest: str = ""
    traceparent: str = ""


class Commands:
    def __init__(self, state: State, observations: Observations) -> None:
        self._state = state
        self._observations = observations
        self._stale: dict[str, Stale] = {}

    def on_seen(self, stimulus: CommandSeen) -> tuple[list[str], list[Instruction]]:
        state, command, name = self._state, stimulus.command, stimulus.subject
        try:
            check_command(command, cluster=state.cluster, key=name)
            fence = fence_of(command)
            if not state.fence(name).admits(fence):
                self._stale[name] = Stale(fence, command.digest, stimulus.traceparent)
                return [], []
            resolved = resolve(command, state.world.namespaced)
        except MalformedCommandError as error:
            return [], [malformed_of(self._state.cluster, as_malformed(stimulus, str(error)))]
        self._stale.pop(name, None)
        instructions = [item for kind in kinds_of(command) for item in self._observations.watch(kind, stimulus.id)]
        if command.pods:
            instructions += self._observations.watch(NODE_KIND, stimulus.id, owned=False)
        subject = state.subjects.get(name)
        woken = [name]
        if subject is None:
            admitted = state.fences.pop(name, fence).raised_by(fence)
            state.withdrawn.pop(name, None)
            state.subjects[name] = Subject(name, command, resolved, admitted, stimulus.traceparent)
        else:
            woken += self._competitors(subject)
            state.disclaim(name, subject.resolved)
            subject.take(command, resolved, stimulus.traceparent)
        state.claim(name, resolved)
        return woken, instructions

    def on_malformed(self, stimulus: CommandMalformed) -> list[Instruction]:
        return [malformed_of(self._state.cluster, stimulus)]

    def on_tombstone(self, stimulus: CommandTombstoned) -> list[str]:
        """Forgets a subject; nothing is deleted."""
        name, subject = stimulus.subject, self._state.subjects.get(stimulus.subject)
        ended = fence_of_tombstone(stimulus)
        if subject is not None and ended is not None and not _is_ended(subject, ended):
            self._stale[name] = Stale(ended)
            return []
        self._stale.pop(name, None)
        woken = self._competitors(subject) if subject is not None else []
        self._state.forget(name, ended or OPEN)
        return woken

    def on_read(self, stimulus: CommandsRead) -> tuple[list[str], list[Instruction]]:
        first = not self._state.caught_up
        self._state.caught_up = True
        refusals: list[Instruction] = []
        for name, stale in self._stale.items():
            if subject := self._state.subjects.get(name):
                subject.reported = None  # what is said next is news after a refusal
            applied = self._state.fence(name)
            report = refusal_of(self._state.cluster, name, stale.fence, stale.digest, applied, stimulus.at_ms)
            refusals.append(Report(cause=stimulus.id, report=report, traceparent=stale.traceparent))
        self._stale.clear()
        return (list(self._state.subjects) if first else []), refusals

    def _competitors(self, subject: Subject) -> list[str]:
        """Other subjects that name one of its objects: they may have it now."""
        claims = self._state.claims
        names = {name for object_id in subject.resolved.by_id for name in claims.get(object_id, ())}
        return sorted(names - {subject.name})


def fence_of_tombstone(stimulus: CommandTombstoned) -> Fence | None:
    if stimulus.epoch is None or stimulus.generation is None:
        return None
    return Fence(stimulus.epoch, stimulus.generation)


def _is_ended(subject: Subject, by: Fence) -> bool:
    """Of one generation only a withdrawal ends: one decision may end a workload, and the next place one of its name."""
    return by > subject.fence or (by == subject.fence and subject.command.action == "withdraw")
