"""Follows workloads through the topics, as any user could, and measures each hop.

Hops, from timestamps that services wrote: request published → decided → placement published → applied in every
cluster → running → status published. All clocks are of one machine here, so their differences mean something.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from shared.events.registry import decode
from shared.events.topics import PLACEMENTS, SCALING, STATUS
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.status import Phase, WorkloadStatus
from shared.ports.event_log import END, EventLog, Partition, Reader, Record

HOPS = (
    "request_to_decision",
    "request_to_placement",
    "placement_to_applied",
    "applied_to_running",
    "running_to_status",
    "request_to_running",
)
_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Scaled:
    """A workload was asked to have another number of replicas."""

    key: str
    before: int
    replicas: int
    reason: str


@dataclass(slots=True)
class Trace:
    """One workload's way; times are Unix milliseconds, None until reached."""

    published_at: int
    request_id: str
    expected: Phase
    decided_at: int | None = None
    placed_at: int | None = None
    applied_at: int | None = None
    running_at: int | None = None
    status_at: int | None = None
    phase: Phase | None = None
    message: str = ""

    def hops(self) -> dict[str, int]:
        """Milliseconds of each hop that is complete."""
        ends = {
            "request_to_decision": (self.published_at, self.decided_at),
            "request_to_placement": (self.published_at, self.placed_at),
            "placement_to_applied": (self.placed_at, self.applied_at),
            "applied_to_running": (self.applied_at, self.running_at),
            "running_to_status": (self.running_at, self.status_at),
            "request_to_running": (self.published_at, self.running_at),
        }
        return {hop: max(0, end - start) for hop, (start, end) in ends.items() if start is not None and end is not None}


@dataclass(slots=True)
class Tracker:
    """Traces by workload key; told of requests by who publishes them, of the rest by the topics."""

    traces: dict[str, Trace] = field(default_factory=dict)
    phases_seen: Counter[str] = field(default_factory=Counter)
    scalings: list[Scaled] = field(default_factory=list)

    def requested(self, key: str, trace: Trace) -> None:
        self.traces[key] = trace

    async def follow(self, log: EventLog, ready: asyncio.Event) -> None:
        """Reads placements, statuses and what the autoscaler says from now on until cancelled."""
        reader = await log.reader("tracker")
        try:
            partitions = [
                p for topic in (PLACEMENTS.name, SCALING.name, STATUS.name) for p in await log.partitions(topic)
            ]
            await self._start(reader, partitions)
            ready.set()
            while True:
                for record in await reader.read(max_records=_BATCH, timeout_s=0.5):
                    self.observe(record)
        finally:
            await reader.close()

    @staticmethod
    async def _start(reader: Reader, partitions: Iterable[Partition]) -> None:
        await reader.assign(dict.fromkeys(partitions, END))

    def observe(self, record: Record) -> None:
        trace = self.traces.get((record.key or b"").decode())
        if trace is None or record.value is None:
            return
        if record.topic == PLACEMENTS.name:
            self._placement(trace, decode(PlacementPublished, record.value), record.timestamp_ms)
        elif record.topic == SCALING.name:
            self._scaling((record.key or b"").decode(), decode(WorkloadScaled, record.value))
        else:
            self._status(trace, decode(WorkloadStatus, record.value), record.timestamp_ms)

    @staticmethod
    def _placement(trace: Trace, published: PlacementPublished, at_ms: int) -> None:
        if published.placement is not None and trace.placed_at is None:
            trace.decided_at, trace.placed_at = published.decided_at, at_ms

    def _scaling(self, key: str, said: WorkloadScaled) -> None:
        for pod_set in said.pod_sets:
            if pod_set.replicas is not None and pod_set.replicas != pod_set.before:
                self.scalings.append(Scaled(key, pod_set.before, pod_set.replicas, pod_set.reason))

    def _status(self, trace: Trace, status: WorkloadStatus, at_ms: int) -> None:
        if status.phase is not trace.phase:
            self.phases_seen[status.phase.value] += 1
        trace.phase, trace.message = status.phase, status.message
        if trace.applied_at is None:
            trace.applied_at = status.milestones.applied_at
        if trace.running_at is None and status.milestones.running_at is not None:
            trace.running_at, trace.status_at = status.milestones.running_at, at_ms

    @property
    def phases(self) -> Counter[str]:
        """How many workloads are in each phase now; those without a status count as Requested."""
        return Counter(trace.phase.value if trace.phase else "Requested" for trace in self.traces.values())

    @property
    def unmet(self) -> dict[str, Trace]:
        """The workloads that are not in the phase in which they should end."""
        return {key: trace for key, trace in self.traces.items() if trace.phase is not trace.expected}

    def latencies(self) -> dict[str, dict[str, float]]:
        """p50, p99, max and count of each hop, in milliseconds."""
        samples: dict[str, list[int]] = {hop: [] for hop in HOPS}
        for trace in self.traces.values():
            for hop, milliseconds in trace.hops().items():
                samples[hop].append(milliseconds)
        return {hop: percentiles(values) for hop, values in samples.items() if values}


def percentiles(values: list[int]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"count": len(values), "p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(max(values))}
