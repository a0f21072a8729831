"""The comparison of a cluster with what the log has of it: what differs, and what only lags behind.

A list is taken beside the watch. What it shows otherwise than the mirror may be on its way in the watch, so nothing is
judged before the watch has passed the version at which the list was taken. Then whatever the mirror knows of an object
is either from after that version, or the very state that the list shows: what is neither was lost, and is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.watcher.decision.resources import UNKNOWN_VERSION, ResourceMirror
from services.watcher.decision.stimuli import AuditFailed, AuditStarted, ListCompared, LogCompared, Step
from shared.events.states import object_name, state_name
from shared.events.v1.objects import ObjectsAudited
from shared.kernel.machine import Stimulus
from shared.model.identities import Resource


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be published of a resource: objects, tombstones, and if the comparison is complete its digest."""

    mirror: ResourceMirror
    found: tuple[Step, ...] = ()
    gone: tuple[str, ...] = ()
    complete: bool = False


class Audits:
    """Of one cluster's resources, which it reads; only the marks of an audit under way are its own to set."""

    def __init__(self, mirrors: Mapping[Resource, ResourceMirror]) -> None:
        self._mirrors = mirrors
        self._objects = 0
        self.unlike_cluster: Counter[Resource] = Counter()
        self.unlike_log: Counter[Resource] = Counter()
        self._unchecked: set[Resource] = set()

    # What whoever takes the list asks

    def published(self, resource: Resource) -> dict[str, str]:
        """The objects of a resource as they were published: states by name."""
        mirror = self._mirrors.get(resource)
        return dict(mirror.known) if mirror is not None else {}

    def suspects(self, resource: Resource, listed: Iterable[Step]) -> dict[str, Step]:
        """Of some objects of a list, those that were not published, or in another state."""
        mirror = self._mirrors.get(resource)
        if mirror is None:
            return {}
        named = ((object_name(step.namespace, step.name), step) for step in listed)
        return {
            name: step for name, step in named if mirror.known.get(name) != state_name(step.uid, step.resource_version)
        }

    def can_judge(self, resource: Resource, version: str) -> bool | None:
        """Whether the watch has passed the version of a list; None if it never will, as a new list has begun."""
        mirror = self._mirrors.get(resource)
        if mirror is None or mirror.deleted is None or number(version) < 0:
            return None
        return number(version) <= number(mirror.position)

    # What happens

    def take(self, stimulus: Stimulus) -> Finding | None:
        match stimulus:
            case AuditStarted():
                mirror = self._mirrors.get(stimulus.resource)
                if mirror is not None and mirror.synced and mirror.listed is None:
                    mirror.deleted = {}
            case AuditFailed():
                self._unchecked.add(stimulus.resource)
                if (mirror := self._mirrors.get(stimulus.resource)) is not None:
                    mirror.deleted = None
            case ListCompared():
                return self._list_compared(stimulus)
            case LogCompared():
                return self._log_compared(stimulus)
        return None

    def close(self, at_ms: int) -> ObjectsAudited:
        """What the round found, all in all; the next one begins with a clean book."""
        unlike = sorted(str(resource) for resource in (self.unlike_cluster + self.unlike_log))
        audited = ObjectsAudited(
            finished_at=at_ms,
            objects=self._objects,
            unlike_cluster=self.unlike_cluster.total(),
            unlike_log=self.unlike_log.total(),
            unlike=tuple(unlike),
            unchecked=tuple(sorted(map(str, self._unchecked))),
        )
        self._objects = 0
        self.unlike_cluster.clear()
        self.unlike_log.clear()
        self._unchecked.clear()
        return audited

    def _list_compared(self, stimulus: ListCompared) -> Finding | None:
        mirror = self._mirrors.get(stimulus.resource)
        if mirror is None or not self.can_judge(stimulus.resource, stimulus.version):
            self._unchecked.add(stimulus.resource)
            return None
        taken = number(stimulus.version)
        suspects = {name: step for name, step in stimulus.suspects.items() if _is_lost(mirror, name, step, taken)}
        gone = [
            name for name, state in mirror.known.items() if name not in stimulus.listed and _version_of(state) <= taken
        ]
        mirror.deleted = None
        # A state that is not known is one that the log was found not to have: that is counted already.
        counted = sum(mirror.known.get(name) == UNKNOWN_VERSION for name in (*suspects, *gone))
        self._objects += len(stimulus.listed)
        self.unlike_cluster[mirror.resource] += len(suspects) + len(gone) - counted
        return Finding(mirror, tuple(suspects.values()), tuple(gone), complete=True)

    def _log_compared(self, stimulus: LogCompared) -> Finding | None:
        """What was published since `sent` was noted stands behind what was read, and is not judged."""
        mirror = self._mirrors.get(stimulus.resource)
        if mirror is None:
            return None
        other = [
            name
            for name, state in stimulus.sent.items()
            if stimulus.read.get(name) != state and mirror.known.get(name) == state
        ]
        extra = [name for name in stimulus.read if name not in stimulus.sent and name not in mirror.known]
        for name in other:
            # The list that is compared next has it, and it will not be as published.
            mirror.known[name] = UNKNOWN_VERSION
        self.unlike_log[mirror.resource] += len(other) + len(extra)
        return Finding(mirror, gone=tuple(extra))


def _is_lost(mirror: ResourceMirror, name: str, step: Step, taken: int) -> bool:
    """Whether the watch, which has passed the list of version `taken`, never told this state of an object."""
    known = mirror.known.get(name)
    if known is not None:
        return known != state_name(step.uid, step.resource_version) and _version_of(known) <= taken
    deleted = (mirror.deleted or {}).get(name)
    return deleted is None or 0 <= number(deleted) <= taken


def number(version: str) -> int:
    """A resource version as a number; -1, which is older than all, if it is none."""
    return int(version) if version.isascii() and version.isdigit() else -1


def _version_of(state: str) -> int:
    return number(state.rpartition("/")[2])
