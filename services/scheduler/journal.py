"""The journal as records: encoding, decoding, and the positions from which to go on.

A reader folds `fleet.placements` first and then the journal from the publisher's committed position: all before it
is reflected in the placements. The fence and the input positions as of that position travel in the commit's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from services.scheduler.decision.fence import EpochFence
from shared.events.envelope import Envelope
from shared.events.registry import decode
from shared.events.topics import DECISIONS, DECISIONS_MADE, EPOCH_STARTED, REQUESTS, RESULTS
from shared.events.v1.decisions import DecisionsMade, EpochStarted, Positions, ReadAhead
from shared.ports.event_log import START, Committed, EventLog, NewRecord, Partition, Record
from shared.runtime.ids import new_id

JournalEntry = EpochStarted | DecisionsMade

# The inputs from which a new leader goes on where the old one stopped; all others are read anew.
RESUMED_TOPICS = (REQUESTS.name, RESULTS.name)

_NO_DECISIONS = b'"decisions":[]'
_EPOCH_TYPE = EPOCH_STARTED.ce_type.encode()
_ENTRY_TYPES = frozenset({_EPOCH_TYPE, DECISIONS_MADE.ce_type.encode()})
_OTHER_TYPES = frozenset(message.ce_type.encode() for message in DECISIONS.messages) - _ENTRY_TYPES


def journal_partition(cell: int) -> Partition:
    return Partition(DECISIONS.name, cell)


def publisher_group(cell: int) -> str:
    return f"flotilla-scheduler-publisher-{cell}"


def encode_entry(entry: JournalEntry, *, cell: int, leader: str, at_ms: int) -> NewRecord:
    kind = EPOCH_STARTED if isinstance(entry, EpochStarted) else DECISIONS_MADE
    envelope = Envelope(
        id=new_id(), source=f"flotilla/scheduler/{leader}", type=kind.ce_type, time_ms=at_ms, epoch=entry.epoch
    )
    return NewRecord(DECISIONS.name, None, entry.to_json(), envelope.to_headers(), partition=cell)


def encode_decided(
    entry: DecisionsMade, decisions: Sequence[bytes], *, cell: int, leader: str, at_ms: int
) -> NewRecord:
    """The record of an entry with these decisions, which are JSON already: each has its own place in what follows from
    the entry, and is encoded once for both. `entry` itself has none.
    """
    record = encode_entry(entry, cell=cell, leader=leader, at_ms=at_ms)
    # Within a text quotes are escaped, so that nothing before the field looks like it.
    value = (record.value or b"").replace(_NO_DECISIONS, b'"decisions":[' + b",".join(decisions) + b"]", 1)
    return record._replace(value=value)


def is_entry(record: Record) -> bool:
    """Whether a record says that it is an entry of the journal. What does not is void: for every reader, by itself."""
    return record.header("ce_type") in _ENTRY_TYPES


def is_of_another(record: Record) -> bool:
    """Whether it is a decision of somebody else, who writes beside the leader: it is no entry, and void for nobody."""
    return record.header("ce_type") in _OTHER_TYPES


def decode_entry(record: Record) -> JournalEntry:
    """Raises DecodeError: entries are written by schedulers alone, so a reader must stop, not skip."""
    if record.header("ce_type") == _EPOCH_TYPE:
        return decode(EpochStarted, record.value)
    return decode(DecisionsMade, record.value)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the publisher stands: the next offset of the journal, with fence and inputs as of there.

    `resigned` says that the leader's last entry before it was its last: nobody need wait for its silence.
    """

    offset: int
    epoch: int = 0
    leader: str = ""
    inputs: Positions | None = None
    ahead: ReadAhead | None = None
    resigned: bool = False

    @property
    def fence(self) -> EpochFence:
        return EpochFence(self.epoch, self.leader)

    def to_committed(self) -> Committed:
        document: dict[str, object] = {
            "epoch": self.epoch,
            "leader": self.leader,
            "inputs": {
                topic: {str(number): offset for number, offset in offsets.items()}
                for topic, offsets in (self.inputs or {}).items()
                if topic in RESUMED_TOPICS
            },
        }
        if self.ahead is not None:
            document["ahead"] = self.ahead.model_dump(mode="json")
        if self.resigned:
            document["resigned"] = True
        return Committed(self.offset, orjson.dumps(document).decode())

    @classmethod
    def from_committed(cls, committed: Committed) -> Checkpoint:
        document = orjson.loads(committed.metadata)
        inputs = {
            topic: {int(number): offset for number, offset in offsets.items()}
            for topic, offsets in document["inputs"].items()
        }
        ahead = ReadAhead.model_validate(document["ahead"]) if "ahead" in document else None
        resigned = bool(document.get("resigned"))
        return cls(committed.offset, document["epoch"], document["leader"], inputs, ahead, resigned)


async def load_checkpoint(events: EventLog, cell: int) -> Checkpoint:
    """The newest checkpoint; the start of the journal where none was stored."""
    partition = journal_partition(cell)
    committed = await events.committed(publisher_group(cell), [partition])
    return Checkpoint.from_committed(committed[partition]) if partition in committed else Checkpoint(START)
