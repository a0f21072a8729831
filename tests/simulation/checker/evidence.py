"""What the checker judges: the history, what the log holds at the end, what the clusters hold at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.scheduler.replay.engine import Replay, Source
from shared.events.registry import decode
from shared.events.topics import COMMANDS_PREFIX
from shared.events.v1.commands import CommandIssued
from shared.ports.event_log import Record
from tests.simulation.checker.journal import Journal
from tests.simulation.history import Appended, History

Json = dict[str, Any]
# group and plural as the API server stores them (`deployments.apps`), namespace, name
Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Violation:
    """`rule` is one of few words, the same for every violation of a kind; `subject` is what it befell."""

    rule: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.message}"


@dataclass(slots=True)
class Evidence:
    """`records` by topic as a new consumer reads them; `objects` by cluster; `watched` are the storages watched."""

    history: History
    records: Mapping[str, Sequence[Record]]
    objects: Mapping[str, Mapping[Place, Json]]
    watched: frozenset[str]
    # The read model by table and key.
    tables: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    # The hub cluster's objects, if there is one.
    hub: Mapping[Place, Json] | None = None
    # Derives the scheduler's decisions again, if that is to be checked.
    replay: Callable[[Source], Replay] | None = None
    # The fleet's queues, as its settings have them, and how many replicas may move to better places in a minute.
    queues: Mapping[str, Json] = field(default_factory=dict)
    rebalances_per_minute: float = 0.0
    journal: Journal = field(default_factory=Journal)
    _taken: int = 0
    _commands: dict[tuple[str, str], list[tuple[Appended, CommandIssued | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _requests: list[Appended] = field(default_factory=list)

    def take(self) -> None:
        """Reads what was appended since the last time."""
        appends = self.history.appends
        for append in appends[self._taken :]:
            if append.topic == "fleet.decisions":
                self.journal.take(append)
            elif append.topic == "fleet.requests":
                self._requests.append(append)
            elif append.topic.startswith(COMMANDS_PREFIX):
                command = decode(CommandIssued, append.value) if append.value is not None else None
                cluster = append.topic.removeprefix(COMMANDS_PREFIX)
                self._commands[cluster, (append.key or b"").decode()].append((append, command))
        self._taken = len(appends)

    @property
    def requests(self) -> Sequence[Appended]:
        return self._requests

    def commands(self, cluster: str, subject: str) -> Sequence[tuple[Appended, CommandIssued | None]]:
        """Every command ever published for a subject of a cluster, in the order of its topic; None is a tombstone."""
        return self._commands.get((cluster, subject), ())

    def latest(self, topic: str) -> dict[str, Record]:
        """What a reader knows who reads a compacted topic from its start to its end."""
        found: dict[str, Record] = {}
        for record in self.records.get(topic, ()):
            key = (record.key or b"").decode()
            if record.value is None:
                found.pop(key, None)
            else:
                found[key] = record
        return found
