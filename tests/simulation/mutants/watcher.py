"""Defects of the watcher and of list and watch: what `fleet.objects` says that does not exist, or does not say."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from services.watcher.decision.instructions import Publish
from services.watcher.decision.mirror import ClusterMirror
from services.watcher.decision.resources import ResourceMirror
from services.watcher.decision.stimuli import Step
from services.watcher.published import Inheritance, PublishedIndex
from shared.adapters.kubernetes.driver import GONE, ListWatchDriver
from shared.adapters.kubernetes.driver import Step as NextStep
from shared.kernel.machine import Stimulus
from shared.ports.cluster_api import ApiError, Change
from tests.simulation.generator import HURRY
from tests.simulation.mutants.fronts import nobody_audits
from tests.simulation.mutants.mutant import mutant


@mutant("fleet.objects", behind=nobody_audits)
def deletions_leave_no_tombstone() -> Iterator[None]:
    """What was deleted is forgotten, and the log is not told: who reads it from the start finds what is not there."""

    def delete(
        self: ClusterMirror, stimulus: Stimulus, mirror: ResourceMirror, change: Step, out: list[Publish]
    ) -> None:
        del self, stimulus, out
        mirror.known.pop(f"{change.namespace or '-'}/{change.name}", None)

    with patch.object(ClusterMirror, "_delete", delete):
        yield


@mutant("fleet.objects", faults=("outage:watcher",), behind=nobody_audits)
def the_end_of_a_list_buries_nothing() -> Iterator[None]:
    """The sync-finished marker is ignored: what vanished while nobody watched stays in the log for ever."""
    original = ResourceMirror.finish_list

    def finish_list(self: ResourceMirror) -> list[str]:
        original(self)
        return []

    with patch.object(ResourceMirror, "finish_list", finish_list):
        yield


@mutant("fleet.objects", faults=("outage:watcher",), behind=nobody_audits)
def nothing_is_inherited() -> Iterator[None]:
    """A watcher begins as if the log were empty: what vanished while it was down never ends as a tombstone."""
    original = PublishedIndex.of

    async def of(self: PublishedIndex, cluster: str) -> Inheritance:
        return Inheritance(epoch=(await original(self, cluster)).epoch)

    with patch.object(PublishedIndex, "of", of):
        yield


@mutant(
    "fleet.objects",
    "replicas",
    "missing",
    "stray",
    "fleet.status",
    faults=(HURRY, "stale_api+forget_api"),
    behind=nobody_audits,
)
def expired_watches_go_on_from_now() -> Iterator[None]:
    """410 Gone is answered by a new watch instead of a new list: what happened in between is never seen."""
    original = ListWatchDriver.failed

    def failed(self: ListWatchDriver, error: ApiError) -> list[Change]:
        if error.code == GONE and not self.listing and not self._continue:
            self._version = ""
            self._back_off(error)
            return []
        return original(self, error)

    with patch.object(ListWatchDriver, "failed", failed):
        yield


@mutant("went back", faults=(HURRY, "stale_api+forget_api"))
def any_list_will_do() -> Iterator[None]:
    """`resourceVersion=0`: after a restart or a 410 the list may come from a cache that is behind what was seen."""
    original = ListWatchDriver._list_query

    def list_query(self: ListWatchDriver) -> dict[str, str]:
        return original(self) | {"resourceVersion": "0"}

    def next_step(self: ListWatchDriver) -> NextStep:
        self._streams = False
        if self.listing:
            self._relist()
        return step(self)

    step = ListWatchDriver.next_step
    with (
        patch.object(ListWatchDriver, "_list_query", list_query),
        patch.object(ListWatchDriver, "next_step", next_step),
    ):
        yield
