"""What goes out: which workloads have news, what is told of them, and when to look at one again.

A workload that was touched is told once, in the next round; a round tells a limited number, so that a cluster that
falls silent keeps nobody waiting for long.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice

from services.status.decision.fleet import Fleet
from services.status.decision.history import Told, tell, tell_end, tell_refusal
from services.status.decision.messages import (
    HopMeasured,
    PublishPhaseChange,
    PublishStatus,
    RunningReached,
    StatusInstruction,
    WriteCluster,
)
from services.status.decision.plan import Refusal
from services.status.decision.tracked import ENDED, Tracked
from services.status.decision.values import WorkloadStatus
from shared.kernel.machine import Stimulus


class Teller:
    """`live` from the moment when everything that the log held has been seen; `now_ms` as time was last advanced."""

    def __init__(self, fleet: Fleet, *, retention_ms: int, limit: int) -> None:
        self._fleet = fleet
        self._retention_ms = retention_ms
        self._limit = limit
        self._timers: list[tuple[int, str]] = []
        self._dirty: dict[str, None] = {}
        self._out: list[StatusInstruction] = []
        self._changed: dict[str, str] = {}
        self.live = False
        self.now_ms = 0

    @property
    def unsettled(self) -> int:
        return len(self._dirty) if self.live else 0

    def touch(self, tracked: Tracked, stimulus: Stimulus) -> None:
        """There may be news of a workload."""
        self._dirty[tracked.key] = None
        tracked.at_ms = max(tracked.at_ms, stimulus.at_ms)
        tracked.cause = stimulus.id

    def look_again(self, tracked: Tracked) -> None:
        """There may be news, of when it happened."""
        self._dirty[tracked.key] = None

    def touch_cluster(self, cluster: str, stimulus: Stimulus) -> None:
        for tracked in self._fleet.concerning(cluster):
            self.touch(tracked, stimulus)

    def restate(self, key: str, cause: str) -> None:
        """What was last said of a workload is to be published, though it is not new here."""
        self._changed[key] = cause

    def write_cluster(self, cluster: str, cause: str) -> None:
        self._out.append(WriteCluster(cause=cause, cluster=cluster, view=self._fleet.view(cluster, self.now_ms)))

    def tell_first(self, tracked: Tracked) -> None:
        """Tells what was reached so far, before a stimulus that may take it back."""
        if self.live and tracked.key in self._dirty:
            self.tell(tracked)

    def tell_round(self) -> None:
        """Tells the next workloads that were touched."""
        for key in list(islice(self._dirty, self._limit)):
            del self._dirty[key]
            tracked = self._fleet.get(key)
            if tracked is not None:
                self.tell(tracked)

    def tell(self, tracked: Tracked, *, plan_only: bool = False) -> None:
        if not plan_only:
            self._dirty.pop(tracked.key, None)
        if tracked.plan is not None:
            told = tell(tracked, tracked.plan, self._fleet.roster, plan_only=plan_only)
            if told.events or not plan_only:
                self._take(tracked, told)
        elif tracked.said is not None and not tracked.alive:
            self._retire(tracked, tracked.said)
        self._fleet.drop_if_empty(tracked)

    def end(self, tracked: Tracked, reason: str, message: str) -> None:
        """The workload is gone, if it was there."""
        told = tell_end(tracked, reason, message)
        if told is not None:
            self._take(tracked, told)

    def refuse(self, tracked: Tracked, refusal: Refusal, generation: int) -> None:
        self._take(tracked, tell_refusal(tracked, refusal, generation))

    def keep_for_a_while(self, key: str, said: WorkloadStatus) -> None:
        """A status of what has ended is dropped after the retention."""
        self._wake(said.updated_at + self._retention_ms, key)

    def due(self) -> Iterator[Tracked]:
        """Workloads that were to be looked at again by now."""
        while self._timers and self._timers[0][0] <= self.now_ms:
            _, key = heapq.heappop(self._timers)
            tracked = self._fleet.get(key)
            if tracked is not None:
                yield tracked

    def flush_history(self) -> Sequence[StatusInstruction]:
        """Phase changes alone: statuses wait until everything that they count was seen."""
        history, self._out = self._out, []
        return history

    def flush(self) -> Sequence[StatusInstruction]:
        """Everything that is to be done, each status once and as it is now."""
        out, self._out = self._out, []
        for key, cause in self._changed.items():
            tracked = self._fleet.get(key)
            status, trace = (tracked.said, tracked.traceparent) if tracked else (None, "")
            out.append(PublishStatus(cause=cause, key=key, status=status, traceparent=trace))
        self._changed = {}
        return out

    def _take(self, tracked: Tracked, told: Told) -> None:
        """Makes what is told the last word, unless it says nothing new."""
        said, status = tracked.said, told.status
        if said is not None and not told.events and _same(status, said):
            return
        key, cause, trace = tracked.key, tracked.cause, tracked.traceparent
        for event in told.events:
            self._out.append(PublishPhaseChange(cause=cause, key=key, event=event, traceparent=trace))
        for hop, milliseconds in told.hops:
            self._out.append(HopMeasured(cause=cause, hop=hop, milliseconds=milliseconds))
        if told.running_at is not None:
            self._out.append(RunningReached(cause=cause, key=key, running_at=told.running_at))
        tracked.said = status
        self._changed[key] = cause
        if status.phase in ENDED:
            self.keep_for_a_while(key, status)

    def _retire(self, tracked: Tracked, said: WorkloadStatus) -> None:
        """Drops a status that was kept long enough after its end."""
        if self.live and self.now_ms >= said.updated_at + self._retention_ms:
            tracked.said = None
            self._changed[tracked.key] = tracked.cause

    def _wake(self, at_ms: int, key: str) -> None:
        heapq.heappush(self._timers, (at_ms, key))


def _same(status: WorkloadStatus, said: WorkloadStatus) -> bool:
    """Whether two say the same, whenever that was."""
    return status.but(updated_at=said.updated_at) == said
