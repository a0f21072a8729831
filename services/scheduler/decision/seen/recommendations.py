"""What the autoscaler said last of each workload, as `fleet.scaling` has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.events.v1.decisions import Scaled
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.vertical import ContainerRequests


class RequestsSaid(NamedTuple):
    """What containers of a pod set are to request, by which record."""

    containers: Sequence[ContainerRequests]
    position: str


@dataclass(frozen=True, slots=True)
class _Said:
    uid: str
    pod_sets: dict[str, Scaled]
    requests: dict[str, RequestsSaid]


class Recommendations:
    """`changed` are workloads of which something was said that is not decided upon yet."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self._said: dict[str, _Said] = {}

    def observe(self, key: str, said: WorkloadScaled | None, position: str) -> None:
        """`position` of the record; None is a tombstone, after which what was decided stays so."""
        if said is None:
            self._said.pop(key, None)
            return
        pod_sets = {
            item.name: Scaled(replicas=item.replicas, position=position)
            for item in said.pod_sets
            if item.replicas is not None
        }
        requests = {item.name: RequestsSaid(item.containers, position) for item in said.requests if item.containers}
        self._said[key] = _Said(said.uid, pod_sets, requests)
        self.changed.add(key)

    def note(self, key: str) -> None:
        """The workload is another one than before, of which something may have been said already."""
        if key in self._said:
            self.changed.add(key)

    def of(self, key: str, uid: str, pod_set: str, decided: Scaled | None) -> Scaled | None:
        """What counts of a workload's pod set where `decided` was the last to do so: whichever is newer. Who has just
        taken over may have read less of the topic than whoever decided that.
        """
        said = self._said.get(key)
        found = said.pod_sets.get(pod_set) if said is not None and said.uid == uid else None
        if found is None or (decided is not None and _offset(found.position) < _offset(decided.position)):
            return decided
        return found

    def requests(self, key: str, uid: str, pod_set: str, decided: RequestsSaid | None) -> RequestsSaid | None:
        """The same for what its containers request."""
        said = self._said.get(key)
        found = said.requests.get(pod_set) if said is not None and said.uid == uid else None
        if found is None or (decided is not None and _offset(found.position) < _offset(decided.position)):
            return decided
        return found


def _offset(position: str) -> int:
    """A workload's records are all in one partition."""
    return int(position.rpartition("/")[2])
