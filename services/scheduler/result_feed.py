"""What executors report: folded by the leader, and what follows of it.

A report may ask for a lease, and it may show that an older command stands last in a cluster's topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.scheduler.decision.seen.inventory import is_asked
from services.scheduler.refusals import Refusals
from services.scheduler.replica import Replica
from shared.events.registry import DecodeError, decode
from shared.events.topics import RESULTS
from shared.events.v1.leases import LeaseAsked
from shared.events.v1.results import CommandReported
from shared.model.identities import WORKLOAD_SUBJECT
from shared.ports.clock import Clock
from shared.ports.event_log import Reader, Record

# Records end a wait at once.
_READ_S = 5.0


class ResultFeed:
    """`changed` is set when there is something to decide.

    `seen` are the positions behind what was folded. `asked` are the latest requests of executors for their leases that
    have no answer yet, by cluster. `repeat` are the clusters and workloads of which is published again what is asked
    there.
    """

    def __init__(self, clock: Clock, replica: Replica, refusals: Refusals, changed: asyncio.Event) -> None:
        self._clock = clock
        self._replica = replica
        self._refusals = refusals
        self._changed = changed
        self._waiting: asyncio.Queue[Sequence[Record]] = asyncio.Queue(maxsize=2)
        self.seen: dict[int, int] = dict(replica.resume.get(RESULTS.name, {}))
        self.asked: dict[str, LeaseAsked] = {}
        self.repeat: set[tuple[str, str]] = set()

    @property
    def waits(self) -> bool:
        return not self._waiting.empty()

    async def read(self, reader: Reader, most: int) -> None:
        """At most so many records at a time, until cancelled. Raises LogError."""
        while True:
            records = await reader.read(max_records=most, timeout_s=_READ_S)
            if records:
                await self._waiting.put(records)
                self._changed.set()

    def observe(self) -> None:
        """Folds what was read at once, if anything was."""
        if not self.waits:
            return
        for record in self._waiting.get_nowait():
            self.seen[record.partition] = record.offset + 1
            try:
                report = decode(CommandReported, record.value)
            except DecodeError as error:
                self._replica.record.took(record)
                self._refusals.add(record, error)
                continue
            # When an executor asked for its lease matters; when it reported does not.
            now_ms = self._clock.now_ms()
            self._replica.record.took(record, now_ms if report.lease is not None else None)
            self._observe(report, now_ms)

    def _observe(self, report: CommandReported, now_ms: int) -> None:
        self._replica.state.observe_result(report, now_ms)
        if report.lease is not None and report.cluster in self._replica.clusters:
            self.asked[report.cluster] = report.lease
        if report.outcome == "refused" and report.subject.startswith(WORKLOAD_SUBJECT):
            key = report.subject.removeprefix(WORKLOAD_SUBJECT)
            known = self._replica.published.get(key)
            # A tombstone where nothing is asked is as it should be, whatever the executor holds against it.
            right = not report.digest and (known is None or not is_asked(known, report.cluster))
            if not right and (known is None or report.generation < known.generation):
                # An older record stands last in the cluster's topic: publish the present one again.
                self.publish_again(report.cluster, key)

    def publish_again(self, cluster: str, key: str) -> None:
        """What is asked of a cluster for a workload."""
        # A name that only a report has makes no topic.
        if cluster in self._replica.clusters:
            self.repeat.add((cluster, key))
            self._changed.set()
