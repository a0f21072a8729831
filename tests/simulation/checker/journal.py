"""What the journal decided: folded by its own rule of epochs, independently of the services' code."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from shared.events.registry import decode
from shared.events.topics import EPOCH_STARTED
from shared.events.v1.decisions import (
    DecisionsMade,
    EpochStarted,
    Positions,
    RequestRejected,
    WorkloadForgotten,
    WorkloadPlaced,
)
from tests.simulation.history import Appended

_EPOCH_STARTED = EPOCH_STARTED.ce_type.encode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a valid decision said of one request."""

    offset: int
    decision: WorkloadPlaced | RequestRejected


@dataclass(slots=True)
class Journal:
    """`latest` are the workloads that exist, by key, each with the offset of its newest decision."""

    epoch: int = 0
    leader: str = ""
    latest: dict[str, tuple[int, WorkloadPlaced]] = field(default_factory=dict)
    decided: dict[tuple[int, str], WorkloadPlaced] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    # Up to where its leader had read the inputs, by an entry's offset.
    consumed: dict[int, Positions] = field(default_factory=dict)
    outcomes: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    forgotten: dict[str, int] = field(default_factory=dict)
    # When a workload ended, or another one of its name took its place, by its uid.
    ended: dict[str, int] = field(default_factory=dict)
    void: int = 0
    _consumed: Positions = field(default_factory=dict)

    def take(self, append: Appended) -> None:
        if dict(append.headers).get("ce_type") == _EPOCH_STARTED:
            started = decode(EpochStarted, append.value)
            if started.epoch > self.epoch:
                self.epoch, self.leader = started.epoch, started.leader
            return
        batch = decode(DecisionsMade, append.value)
        if (batch.epoch, batch.leader) != (self.epoch, self.leader):
            self.void += 1
            return
        self.epochs[append.offset] = batch.epoch
        self._consumed = {**self._consumed, **batch.inputs}
        self.consumed[append.offset] = self._consumed
        for decision in batch.decisions:
            match decision:
                case WorkloadPlaced():
                    key = str(decision.workload.key)
                    self._replace(key, decision.uid, append.at_ms)
                    self.latest[key] = (append.offset, decision)
                    self.decided[append.offset, key] = decision
                    self.outcomes[decision.request.position].append(Outcome(append.offset, decision))
                case RequestRejected():
                    self.outcomes[decision.request.position].append(Outcome(append.offset, decision))
                case WorkloadForgotten():
                    self._replace(decision.key, "", append.at_ms)
                    self.latest.pop(decision.key, None)
                    self.forgotten[decision.key] = append.offset

    def _replace(self, key: str, uid: str, at_ms: int) -> None:
        if key in self.latest and self.latest[key][1].uid != uid:
            self.ended[self.latest[key][1].uid] = at_ms
