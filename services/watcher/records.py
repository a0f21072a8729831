"""From the machine's instructions to records of the log, with the CloudEvents headers.

The headers are those of `Envelope.to_headers` (a test compares them), put together here from parts that are the same
for a whole batch or session: at tens of thousands of records a second the general way would cost more than decoding.
"""

from __future__ import annotations

from typing import Final

from services.watcher.decision.instructions import Publish
from shared.events.envelope import JSON_CONTENT, SPEC_VERSION, Envelope, format_time
from shared.events.topics import METRICS, OBJECTS, MessageType
from shared.model.base import Value
from shared.ports.event_log import NewRecord
from shared.runtime.ids import new_id

_Header = tuple[str, bytes]
_SPEC: Final[_Header] = ("ce_specversion", SPEC_VERSION)
_CONTENT: Final[_Header] = ("content-type", JSON_CONTENT)


class RecordFactory:
    """Makes the records of one cluster's incarnation."""

    def __init__(self, cluster: str, epoch: int) -> None:
        self._source_text = f"flotilla/watcher/{cluster}"
        self._epoch_number = epoch
        self._partition_key = cluster.encode()
        self._source: _Header = ("ce_source", self._source_text.encode())
        self._epoch: _Header = ("fleet_epoch", str(epoch).encode())
        self._types: dict[str, _Header] = {}

    def time(self, at_ms: int) -> _Header:
        """The header that a batch shares."""
        return ("ce_time", format_time(at_ms).encode())

    def object(self, publish: Publish, time: _Header) -> NewRecord:
        """A record of `fleet.objects`; `time` is from `time()`."""
        ce_type = self._types.get(publish.ce_type)
        if ce_type is None:
            ce_type = self._types[publish.ce_type] = ("ce_type", publish.ce_type.encode())
        headers = (
            _SPEC,
            ("ce_id", new_id().encode()),
            self._source,
            ce_type,
            time,
            _CONTENT,
            ("ce_subject", publish.key),
            self._epoch,
            ("fleet_seq", b"%d" % publish.seq),
        )
        return NewRecord(OBJECTS.name, publish.key, publish.value, headers, self._partition_key)

    def sample(self, message: MessageType, key: str, at_ms: int, body: Value) -> NewRecord:
        """A record of `fleet.metrics`. Samples have no sequence: one that is lost is put right by the next."""
        envelope = Envelope(
            id=new_id(),
            source=self._source_text,
            type=message.ce_type,
            time_ms=at_ms,
            subject=key,
            epoch=self._epoch_number,
        )
        return NewRecord(METRICS.name, key.encode(), body.to_json(), envelope.to_headers(), self._partition_key)
