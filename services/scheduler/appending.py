"""Appends what a leader decided to the journal: one append commits (docs/adr/0001)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from services.scheduler import metrics
from services.scheduler.decision.fingerprint import config_hash
from services.scheduler.entries import Seen
from services.scheduler.journal import encode_decided
from services.scheduler.publisher import JournalPublisher
from services.scheduler.replica import Replica
from services.scheduler.result_feed import ResultFeed
from services.scheduler.settings import SchedulerSettings
from shared.events.v1.decisions import Basis, Decision, DecisionsMade
from shared.events.v1.leases import LeaseAsked, LeaseGranted
from shared.ports.clock import Clock
from shared.ports.event_log import LogError, Publisher

_MAX_ENTRY_BYTES = 8 * 1024 * 1024


class Appender:
    """For one term, that `began` by the monotonic clock. `count` are the entries with decisions that were appended in
    it, `at` is when the last one was, of any kind. Requests for leases in `results` are answered by entries that have a
    basis.
    """

    def __init__(
        self,
        clock: Clock,
        settings: SchedulerSettings,
        replica: Replica,
        results: ResultFeed,
        journal: Publisher,
        follower: JournalPublisher,
        began: float,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._replica = replica
        self._results = results
        self._journal = journal
        self._follower = follower
        self._config_hash = config_hash(replica.state.config, settings.scheduler_max_request_bytes)
        self._epoch = replica.fence.epoch
        self.count = 0
        self.at = began

    @property
    def unpublished(self) -> int:
        return self.count - self._follower.published_own

    @property
    def renews(self) -> bool:
        """Whether the journal has heard nothing of this leader for so long that it has to."""
        return self._clock.monotonic() - self.at >= self._settings.scheduler_renew_s

    async def append(self, decisions: list[Decision], seen: Seen) -> None:
        """Raises LogError where the journal does not acknowledge in time."""
        await self._append(decisions, seen, None)

    async def append_all(self, decisions: list[Decision], seen: Seen, *, resigned: bool = False) -> None:
        """Everything that was decided so far stands in the journal with this entry, and from what it was decided: only
        then are leases granted, by what was decided. Raises LogError.
        """
        steps, whole = self._replica.record.take()
        basis = Basis(steps=steps, whole=whole, config=self._config_hash, state=self._replica.state.digest())
        await self._append(decisions, seen, basis, resigned=resigned)

    async def _append(
        self, decisions: list[Decision], seen: Seen, basis: Basis | None, *, resigned: bool = False
    ) -> None:
        asked: Mapping[str, LeaseAsked] = self._results.asked if basis is not None else {}
        leases = tuple(self._replica.state.grant(*item) for item in sorted(asked.items()))
        entry = self._entry(decisions, seen, basis, leases, resigned=resigned)
        encoded = [decision.to_json() for decision in decisions]
        record = encode_decided(
            entry.model_copy(update={"decisions": ()}) if decisions else entry,
            encoded,
            cell=self._settings.scheduler_cell,
            leader=self._settings.scheduler_id,
            at_ms=entry.decided_at,
        )
        if len(record.value or b"") > _MAX_ENTRY_BYTES and len(decisions) > 1:
            # The positions stand behind the last part: what was not appended is consumed again.
            half = len(decisions) // 2
            await self._append(decisions[:half], Seen(), None)
            await self._append(decisions[half:], seen, basis)
            return
        try:
            async with asyncio.timeout(self._settings.kafka_timeout_s):
                await self._follower.expect(entry, await self._journal.send(record), encoded)
        except TimeoutError as error:
            raise LogError("the journal has not acknowledged our own entries for too long") from error
        for granted in leases:
            self._results.asked.pop(granted.cluster, None)
        self.count += bool(decisions)
        self.at = self._clock.monotonic()
        if self.at - self._follower.heard_at > self._settings.kafka_timeout_s:
            raise LogError("the journal has not acknowledged our own entries for too long")
        for kind, count in Counter([decision.kind for decision in decisions]).items():
            metrics.DECISIONS.labels(kind).inc(count)

    def _entry(
        self,
        decisions: list[Decision],
        seen: Seen,
        basis: Basis | None,
        leases: tuple[LeaseGranted, ...],
        *,
        resigned: bool,
    ) -> DecisionsMade:
        return DecisionsMade(
            cell=str(self._settings.scheduler_cell),
            epoch=self._epoch,
            leader=self._settings.scheduler_id,
            decided_at=self._clock.now_ms(),
            inputs=seen.inputs,
            ahead=seen.ahead,
            decisions=tuple(decisions),
            leases=leases,
            basis=basis,
            resigned=resigned,
        )
