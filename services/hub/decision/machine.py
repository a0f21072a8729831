"""The bridge between custom resources and topics, as a machine: facts come in, `Look` goes out; `Due` comes in,
the instructions for one object go out.

A fact never leads to an action by itself. It changes what is known and asks for a look at what it concerns, so however
many facts there are, an object is acted upon from the newest knowledge, once. A look that finds nothing different does
nothing: what the hub writes itself comes back through the watch and ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from services.hub.decision.clusters import decide_cluster
from services.hub.decision.instructions import (
    CaughtUp,
    ClusterSeen,
    DeclarationSeen,
    Deprovision,
    Due,
    HeartbeatSeen,
    Item,
    Look,
    PlacementSeen,
    Provision,
    ProvisionSeen,
    RequestAcknowledged,
    Source,
    StatusSeen,
    WorkloadSeen,
    WriteStatus,
)
from services.hub.decision.state import Asked, Policy, Pulse, Sent, State
from services.hub.decision.views import deletion_id
from services.hub.decision.workload_status import answers
from services.hub.decision.workloads import decide_workload
from shared.events.v1.objects import LEFT
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.status import Phase
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import WorkloadKey
from shared.model.provisioning import DRAINING

K = TypeVar("K")
V = TypeVar("V")


class Bridge:
    """See the module. `state` may be read by anybody and is changed only here."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.state = State()
        self._policy = policy or Policy()

    def handle(self, stimulus: Stimulus) -> Sequence[Instruction]:
        if isinstance(stimulus, Due):
            return self._decide(stimulus)
        items = self._fold(stimulus)
        return [Look(cause=stimulus.id, item=item) for item in items if self.state.ready_for(item)]

    def _decide(self, due: Due) -> Sequence[Instruction]:
        if not self.state.ready_for(due.item):
            return []
        if due.item.is_cluster:
            decided = decide_cluster(due.item.name, self.state, self._policy, due.at_ms, due.id)
        else:
            decided = decide_workload(due.item.workload, self.state, self._policy, due.at_ms, due.id)
        instructions = list(decided)
        if any(isinstance(instruction, WriteStatus) for instruction in instructions):
            self.state.status_written_ms[due.item] = due.at_ms
        for ask in instructions:
            if isinstance(ask, Provision | Deprovision):
                self.state.asked[ask.name] = Asked.by(ask, due.at_ms)
                if isinstance(ask, Deprovision):
                    self.state.leaving_ms.setdefault(ask.name, due.at_ms)
        return instructions

    def _fold(self, stimulus: Stimulus) -> Iterable[Item]:
        match stimulus:
            case WorkloadSeen():
                return self._workload_seen(stimulus)
            case ClusterSeen():
                return self._cluster_seen(stimulus)
            case StatusSeen():
                return self._status_seen(stimulus)
            case PlacementSeen():
                return self._placement_seen(stimulus)
            case HeartbeatSeen():
                return self._heartbeat_seen(stimulus)
        return self._fold_own(stimulus)

    def _fold_own(self, stimulus: Stimulus) -> Iterable[Item]:
        """What the hub did itself, and how far it has read."""
        match stimulus:
            case DeclarationSeen():
                return self._declaration_seen(stimulus)
            case ProvisionSeen():
                self.state.provisions[stimulus.name] = stimulus
                return [Item("", stimulus.name)]
            case RequestAcknowledged():
                self.state.sent[stimulus.key] = Sent(stimulus.request_id, stimulus.at_ms)
                return [Item.of(stimulus.key)]
            case CaughtUp():
                self.state.caught_up.add(stimulus.source)
                return list(self.state.items())
        raise TypeError(f"the bridge knows no {type(stimulus).__name__}")

    def _declaration_seen(self, seen: DeclarationSeen) -> Iterable[Item]:
        _put(self.state.declared, seen.name, seen.declared)
        if seen.declared is not None and DRAINING in seen.declared.taints:
            self.state.closed_ms.setdefault(seen.name, seen.at_ms)
        else:
            self.state.closed_ms.pop(seen.name, None)
        return [Item("", seen.name)]

    def _workload_seen(self, seen: WorkloadSeen) -> Iterable[Item]:
        before = self.state.workloads.get(seen.key)
        _put(self.state.workloads, seen.key, seen.view)
        item = Item.of(seen.key)
        if before is not None and (seen.view is None or seen.view.meta.uid != before.meta.uid):
            # What was sent and written was for an object that is no more.
            self.state.sent.pop(seen.key, None)
            self.state.status_written_ms.pop(item, None)
        yield item
        owners = {view.meta.owner.name for view in (before, seen.view) if view is not None and view.meta.owner}
        if seen.key.namespace == self._policy.owned_namespace:
            owners.add(seen.key.name)
        for name in owners & (self.state.clusters.keys() | self.state.declared.keys()):
            yield Item("", name)

    def _cluster_seen(self, seen: ClusterSeen) -> Iterable[Item]:
        _put(self.state.clusters, seen.name, seen.view)
        item = Item("", seen.name)
        if seen.view is None:
            self.state.status_written_ms.pop(item, None)
            for table in (self.state.provisions, self.state.asked, self.state.leaving_ms):
                table.pop(seen.name, None)
            if seen.name in self.state.pulses:
                self.state.deleted_ms[seen.name] = seen.at_ms
        else:
            self.state.deleted_ms.pop(seen.name, None)
        # Its Workload is looked at too: it may have become an orphan.
        return [item, Item(self._policy.owned_namespace, seen.name)]

    def _status_seen(self, seen: StatusSeen) -> Iterable[Item]:
        _put(self.state.statuses, seen.key, seen.status)
        sent = self.state.sent.get(seen.key)
        if sent is not None and seen.status is not None and seen.status.request_id == sent.request_id:
            sent.answered |= seen.status.phase is Phase.DELETED or not self._deletes(seen.key, sent)
        yield Item.of(seen.key)
        for cluster in self.state.counts.update(seen.key, seen.status):
            yield Item("", cluster)

    def _placement_seen(self, seen: PlacementSeen) -> Iterable[Item]:
        known = self.state.placements.get(seen.key)
        if known is not None and _is_overtaken(seen, known):
            return []
        _put(self.state.placements, seen.key, seen.placement)
        sent = self.state.sent.get(seen.key)
        if sent is not None:
            ended = seen.placement is None and self._deletes(seen.key, sent)
            sent.answered |= ended or answers(sent.request_id, seen.placement, None)
        return [Item.of(seen.key)]

    def _deletes(self, key: WorkloadKey, sent: Sent) -> bool:
        view = self.state.workloads.get(key)
        return view is not None and sent.request_id == deletion_id(view.meta.uid)

    def _heartbeat_seen(self, seen: HeartbeatSeen) -> Iterable[Item]:
        if seen.heartbeat is None or seen.heartbeat.reason == LEFT:
            # Its last words and the tombstone behind them, of which compaction may leave one, mean the same.
            self.state.pulses.pop(seen.cluster, None)
        else:
            began = Source.HEARTBEATS in self.state.caught_up
            # Clocks of agents may be wrong: what comes now counts from now, what was there before from when it says.
            seen_ms = seen.at_ms if began else min(seen.at_ms, seen.heartbeat.observed_at)
            self.state.pulses[seen.cluster] = Pulse(seen.heartbeat, seen_ms)
        return [Item("", seen.cluster)]


def _is_overtaken(seen: PlacementSeen, known: PlacementPublished) -> bool:
    """A leader that did not know of its end may leave what is older behind what is newer."""
    if seen.placement is None:
        return not known.is_ended(seen.ended_at)
    return seen.placement.generation < known.generation


def _put(table: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
