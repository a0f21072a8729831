"""Ten thousand wrong requests, with good ones between them: each is refused with a reason, the good ones run."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from services.cli.fleet.requesting import request_record
from shared.events.envelope import DEAD_LETTER_MESSAGE, DEAD_LETTER_REASON, DEAD_LETTER_SOURCE
from shared.events.topics import REQUESTS
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.ports.event_log import END, Record
from tests.e2e.harness import Fleet, workload
from tests.e2e.malformed import generate

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka, pytest.mark.timeout(480)]

COUNT = 10_000
GOOD = 20


@pytest.mark.parametrize("bed", ["simulated"], indirect=True)
async def test_each_wrong_request_is_refused_with_a_reason_and_the_good_ones_run(fleet: Fleet) -> None:
    wrong = generate(COUNT)
    letters = await fleet.log.reader("letters")
    await letters.assign(dict.fromkeys(await fleet.log.partitions(f"{REQUESTS.name}.dlq"), END))
    good: list[str] = []
    sent: Counter[bytes] = Counter()
    publisher = await fleet.log.publisher("users")
    for number, item in enumerate(wrong):
        record = item.record(f"w{number}")
        sent[(record.value or b"")[:200]] += 1
        await publisher.send(record)
        if number % (COUNT // GOOD) == 0:
            body = workload(f"good-{number}", resources={"requests": {"cpu": "10m", "memory": "16Mi"}})
            request = WorkloadRequested.model_validate({"operation": "apply", "workload": body})
            await publisher.send(request_record(request, source="e2e")[0])
            good.append(str(request.key))
    await publisher.flush()
    await publisher.close()

    found: list[Record] = []
    deadline = time.monotonic() + 200
    while len(found) < COUNT and time.monotonic() < deadline:
        found += await letters.read(max_records=5000, timeout_s=0.5)
    await letters.close()
    assert len(found) == COUNT
    assert len({record.header(DEAD_LETTER_SOURCE) for record in found}) == COUNT
    assert all(record.header(DEAD_LETTER_REASON) and record.header(DEAD_LETTER_MESSAGE) for record in found)
    assert Counter((record.value or b"")[:200] for record in found) == sent

    for name in good:
        await fleet.until_phase(name, Phase.RUNNING)
    expected = {f"bad/w{number}" for number in range(COUNT)}
    async with asyncio.timeout(120):
        while not all(_refused(fleet, key) for key in expected):  # noqa: ASYNC110 - statuses come by a topic
            await asyncio.sleep(0.2)
    assert all(fleet.statuses[key].message for key in expected)


def _refused(fleet: Fleet, key: str) -> bool:
    status = fleet.statuses.get(key)
    return status is not None and status.phase is Phase.REJECTED
