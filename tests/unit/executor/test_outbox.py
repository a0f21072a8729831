"""Reports reach the log whatever it does, the latest of each subject, refusals apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from services.executor.decision.instructions import Report
from services.executor.outbox import Outbox
from shared.adapters.clock import SystemClock
from shared.adapters.memory.event_log import MemoryLog
from shared.events.envelope import Envelope
from shared.events.registry import decode
from shared.events.topics import COMMAND_REPORTED, RESULTS
from shared.events.v1.results import CommandReported, Outcome
from shared.ports.event_log import LogError, NewRecord, Position, Publisher, RecordTooLargeError

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def report(subject: str, generation: int, outcome: Outcome = "applied", cluster: str = "east") -> Report:
    body = CommandReported(
        cluster=cluster,
        subject=subject,
        epoch=2,
        generation=generation,
        digest="d",
        outcome=outcome,
        reported_at=1,
    )
    return Report(cause="c", report=body, traceparent=TRACE)


class FailingLog(MemoryLog):
    """Refuses the next sends, or loses their acknowledgements after it has taken the records."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse = 0
        self.lose = 0
        self.forget = 0
        self.publishers = 0

    async def publisher(self, client_id: str) -> Publisher:  # type: ignore[override]
        self.publishers += 1
        return FailingPublisher(self, await super().publisher(client_id))


class FailingPublisher:
    def __init__(self, log: FailingLog, publisher: Publisher) -> None:
        self._log, self._publisher = log, publisher

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        if b"huge" in (record.key or b""):
            raise RecordTooLargeError("too large")
        if self._log.refuse:
            self._log.refuse -= 1
            raise LogError("no broker")
        acknowledgement = await self._publisher.send(record)
        if self._log.forget:
            self._log.forget -= 1
            return asyncio.get_running_loop().create_future()
        if not self._log.lose:
            return acknowledgement
        self._log.lose -= 1
        lost: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        lost.set_exception(LogError("not acknowledged"))
        return lost

    async def send_many(self, records: Sequence[NewRecord]) -> None:
        for record in records:
            await self.send(record)

    async def flush(self) -> None:
        await self._publisher.flush()

    async def close(self) -> None:
        await self._publisher.close()


@pytest.fixture
def log() -> FailingLog:
    return FailingLog()


async def published(log: FailingLog, *reports: Report) -> list[tuple[str, int, str]]:
    await log.ensure_topics([RESULTS])
    outbox = Outbox(log, SystemClock())
    for item in reports:
        outbox.put(item)
    outbox.close()
    await asyncio.wait_for(outbox.run(), 10)
    assert len(outbox) == 0
    found = [decode(CommandReported, record.value) for record in log.records(RESULTS.name)]
    return [(item.subject, item.generation, item.outcome) for item in found]


async def test_reports_are_published_with_their_envelope_on_their_clusters_partition(log: FailingLog) -> None:
    await published(log, report("workload/a/x", 1), report("workload/a/y", 2))
    records = log.records(RESULTS.name)
    assert [record.key for record in records] == [b"east/workload/a/x", b"east/workload/a/y"]
    assert len({record.partition for record in records}) == 1
    envelope = Envelope.from_headers(records[0].headers, position="", timestamp_ms=0)
    assert (envelope.type, envelope.source) == (COMMAND_REPORTED.ce_type, "flotilla/executor/east")
    assert (envelope.traceparent, envelope.epoch, envelope.subject) == (TRACE, 2, "east/workload/a/x")


async def test_the_latest_report_replaces_a_waiting_one_but_a_refusal_stays(log: FailingLog) -> None:
    sent = await published(
        log, report("s", 1), report("s", 2, "failed"), report("s", 1, "refused"), report("s", 2), report("t", 1)
    )
    assert sorted(sent) == [("s", 1, "refused"), ("s", 2, "applied"), ("t", 1, "applied")]


async def test_what_the_log_refused_is_sent_by_a_new_publisher(log: FailingLog) -> None:
    log.refuse = 3
    sent = await published(log, *(report(f"s{number}", number) for number in range(5)))
    assert sorted(sent) == [(f"s{number}", number, "applied") for number in range(5)]
    assert log.publishers == 4


async def test_what_was_not_acknowledged_is_repeated(log: FailingLog) -> None:
    log.lose = 1
    sent = await published(log, report("s", 1))
    assert sent == [("s", 1, "applied")] * 2


async def test_a_report_that_no_broker_would_take_does_not_stop_the_others(log: FailingLog) -> None:
    assert await published(log, report("huge", 1), report("s", 1)) == [("s", 1, "applied")]


async def test_an_acknowledgement_that_never_comes_keeps_nobody_waiting(
    log: FailingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by simulation: an executor that was asked to stop waited for it for ever."""
    monkeypatch.setattr("services.executor.outbox._ACKNOWLEDGED_S", 0.05)
    log.forget = 1
    found = await published(log, report("workload/a/x", 1))
    assert found == [("workload/a/x", 1, "applied")] * 2
    assert log.publishers == 2
