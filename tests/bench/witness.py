"""What an outsider sees of a fleet's single writer: journal, commands, reports and objects, as they come.

A *stale write* is one that took effect: a placement out of an entry that was void, or an object whose marks went back
to an older epoch or generation. What was only attempted (a void entry, a late command) is counted apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from services.scheduler.decision.fence import EpochFence
from services.scheduler.journal import decode_entry, is_entry
from shared.events.registry import decode
from shared.events.topics import DECISIONS, OBJECTS, PLACEMENTS, RESULTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import DecisionsMade
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.results import CommandReported
from shared.model.identities import EPOCH_ANNOTATION, GENERATION_ANNOTATION, is_object_key
from shared.ports.event_log import END, START, EventLog, Partition, Record

Mark = tuple[int, int]  # epoch and generation
_READ_S = 0.2


@dataclass(slots=True)
class Witness:
    """`decided_at` is when the latest valid decision of each epoch first came, by this process' monotonic clock."""

    clusters: tuple[str, ...]
    fence: EpochFence = field(default_factory=EpochFence)
    decided_at: dict[int, float] = field(default_factory=dict)
    void: dict[int, str] = field(default_factory=dict)
    late_commands: int = 0
    refused: int = 0
    stale: list[str] = field(default_factory=list)
    commands: dict[tuple[str, str], CommandIssued] = field(default_factory=dict)
    _commanded: dict[tuple[str, str], Mark] = field(default_factory=dict)
    _objects: dict[str, Mark] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, log: EventLog, ready: asyncio.Event) -> None:
        """Until cancelled. Raises LogError."""
        reader = await log.reader("witness")
        try:
            found: list[Partition] = []
            for topic in (DECISIONS.name, PLACEMENTS.name, RESULTS.name, OBJECTS.name, *self._topics()):
                found += await log.partitions(topic)
            await reader.assign({p: END if p.topic == OBJECTS.name else START for p in found})
            ready.set()
            while True:
                records = await reader.read(timeout_s=_READ_S)
                for record in records:
                    self._see(record)
                if records:
                    self._news.set()
        finally:
            await reader.close()

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Whether the condition came to hold within the time."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _topics(self) -> list[str]:
        return [commands_topic(cluster).name for cluster in self.clusters]

    def _see(self, record: Record) -> None:
        if record.topic == DECISIONS.name:
            if is_entry(record):
                self._entry(record)
        elif record.value is None:
            return
        elif record.topic == PLACEMENTS.name:
            self._placement(decode(PlacementPublished, record.value), str(record.key, "utf-8") if record.key else "")
        elif record.topic == RESULTS.name:
            self.refused += decode(CommandReported, record.value).outcome == "refused"
        elif record.topic == OBJECTS.name:
            self._object(record)
        else:
            self._command(decode(CommandIssued, record.value))

    def _entry(self, record: Record) -> None:
        entry = decode_entry(record)
        if not self.fence.admits(entry):
            self.void[record.offset] = f"{type(entry).__name__} of {entry.leader}, epoch {entry.epoch}"
        elif isinstance(entry, DecisionsMade) and entry.decisions:
            self.decided_at.setdefault(entry.epoch, time.monotonic())

    def _placement(self, item: PlacementPublished, key: str) -> None:
        # Placements may come before the journal is read here; both are looked at again at the end.
        if item.generation in self.void:
            self.stale.append(f"placement of {key} from void entry {item.generation}")

    def _command(self, command: CommandIssued) -> None:
        where, mark = (command.cluster, command.subject), (command.epoch, command.generation)
        if mark < self._commanded.get(where, (-1, -1)):
            self.late_commands += 1
            return
        self._commanded[where] = mark
        self.commands[where] = command

    def _object(self, record: Record) -> None:
        key = (record.key or b"").decode()
        if not is_object_key(key) or "/apps/" not in key:
            return
        annotations = orjson.loads(record.value or b"{}")["metadata"].get("annotations") or {}
        if EPOCH_ANNOTATION not in annotations:
            return
        mark = (int(annotations[EPOCH_ANNOTATION]), int(annotations[GENERATION_ANNOTATION]))
        if mark < self._objects.get(key, (-1, -1)):
            self.stale.append(f"{key} went from {self._objects[key]} back to {mark}")
        self._objects[key] = max(mark, self._objects.get(key, mark))
