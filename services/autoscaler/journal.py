"""The autoscaler's decisions in `fleet.decisions`: records of their own, beside the entries of the first cell's leader.

Their place in the partition says what came before what, and no more: the journal's fence and generations are about
the leader's entries alone, and to whoever follows those these records are none. That an autoscaler which was replaced
writes nothing more is up to the broker, as everywhere (docs/adr/0009).
"""

from __future__ import annotations

from typing import Final

from services.autoscaler import metrics
from shared.events.envelope import Envelope
from shared.events.topics import DECISIONS, MessageType
from shared.model.base import Value
from shared.ports.event_log import NewRecord, Partition
from shared.runtime.ids import new_id

PLACE: Final = Partition(DECISIONS.name, 0)


def decision_record(kind: MessageType, subject: str, body: Value, now_ms: int) -> NewRecord:
    metrics.DECISIONS.labels(kind.ce_type).inc()
    headers = Envelope(
        id=new_id(), source="flotilla/autoscaler", type=kind.ce_type, time_ms=now_ms, subject=subject
    ).to_headers()
    return NewRecord(PLACE.topic, subject.encode(), body.to_json(), headers, partition=PLACE.partition)
