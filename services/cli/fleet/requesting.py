"""Publishing workload requests as a user does: a key, a JSON document, CloudEvents headers."""

from __future__ import annotations

import time

from shared.events.envelope import Envelope
from shared.events.topics import REQUESTED, REQUESTS
from shared.events.v1.requests import WorkloadRequested
from shared.ports.event_log import NewRecord
from shared.runtime.ids import new_id


def request_record(request: WorkloadRequested, *, source: str, request_id: str = "") -> tuple[NewRecord, str, int]:
    """The record of a request, with its id and its time in Unix milliseconds."""
    key, now = str(request.key), time.time_ns() // 1_000_000
    identity = request_id or new_id()
    headers = Envelope(id=identity, source=source, type=REQUESTED.ce_type, time_ms=now, subject=key).to_headers()
    return NewRecord(REQUESTS.name, key.encode(), request.to_json(), headers), identity, now
