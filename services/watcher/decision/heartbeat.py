"""The heartbeat: whether a cluster can be relied upon, and what it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.watcher.decision.nodes import NodeTotals
from services.watcher.decision.resources import ResourceMirror, Trouble
from services.watcher.decision.stimuli import ServerProbed, UsageMeasured
from shared.events.v1.objects import UNREACHABLE, ClusterObserved, ObjectsAudited
from shared.model.quantities import format_amount

# A connection that breaks and is back at once makes no cluster unready.
GRACE_MS: Final = 3000
_MAX_MESSAGE: Final = 512


@dataclass(frozen=True, slots=True)
class Condition:
    ready: bool
    reason: str = ""
    message: str = ""


class Pulse:
    """What a heartbeat says beyond the objects: the server's version and answers, labels, measured use."""

    def __init__(self, cluster: str, epoch: int, interval_ms: int, labels: dict[str, str]) -> None:
        self._cluster = cluster
        self._epoch = epoch
        self._interval_ms = interval_ms
        self._labels = labels
        self._version = ""
        self._silence: Trouble | None = None
        self._usage: dict[str, str] = {}
        self.declared_labels: dict[str, str] = {}
        self.audited: ObjectsAudited | None = None
        # What the last heartbeat said; None before the first.
        self.reported_ready: bool | None = None

    def probed(self, probe: ServerProbed) -> None:
        if probe.error:
            since = self._silence.since_ms if self._silence else probe.at_ms
            self._silence = Trouble(since, UNREACHABLE, probe.error)
        else:
            self._version, self._silence = probe.version, None

    def measured(self, usage: UsageMeasured) -> None:
        amounts = {"cpu": usage.cpu, "memory": usage.memory}
        self._usage = {name: format_amount(name, amount) for name, amount in amounts.items() if amount is not None}

    def condition(self, at_ms: int, resources: Iterable[ResourceMirror]) -> Condition:
        """Ready if the server answers and every resource is in sync, but for a moment."""
        if not self._version:
            message = self._silence.message if self._silence else "the API server has not answered yet"
            return Condition(ready=False, reason=UNREACHABLE, message=message[:_MAX_MESSAGE])
        if self._silence and _lasts(self._silence, at_ms):
            return Condition(ready=False, reason=self._silence.reason, message=self._silence.message[:_MAX_MESSAGE])
        for mirror in resources:
            trouble = mirror.trouble
            if not mirror.synced or (trouble and _lasts(trouble, at_ms)):
                reason = trouble.reason if trouble else "Syncing"
                detail = f": {trouble.message}" if trouble and trouble.message else " is not in sync"
                return Condition(ready=False, reason=reason, message=f"{mirror.resource}{detail}"[:_MAX_MESSAGE])
        return Condition(ready=True)

    def beat(self, at_ms: int, condition: Condition, nodes: NodeTotals) -> ClusterObserved:
        self.reported_ready = condition.ready
        return ClusterObserved(
            cluster=self._cluster,
            epoch=self._epoch,
            observed_at=at_ms,
            interval_ms=self._interval_ms,
            kubernetes_version=self._version,
            ready=condition.ready,
            reason=condition.reason,
            message=condition.message,
            # What a person declared outdoes what was configured, which outdoes what the nodes say.
            labels=nodes.shared_labels() | self._labels | self.declared_labels,
            nodes=len(nodes),
            nodes_ready=nodes.ready,
            capacity=nodes.capacity(),
            allocatable=nodes.allocatable(),
            usage=self._usage,
            audited=self.audited,
        )


def _lasts(trouble: Trouble, at_ms: int) -> bool:
    return at_ms - trouble.since_ms >= GRACE_MS
