"""A cluster in a dictionary, and a rig that runs the reconciler against it in virtual time.

The cluster is the environment of the decision under test: it answers calls as an API server does as far as the decision
can tell (versions, uids, generations, finalizers, label-selected watches), and its watch events may be held back.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from services.executor.decision.backoff import CallFailed, Policy
from services.executor.decision.identity import Feed, GroupKind, ObjectId
from services.executor.decision.instructions import (
    Annotate,
    Apply,
    Bind,
    Call,
    CreateNamespace,
    Delete,
    Report,
    Stamp,
    Wake,
    Watch,
)
from services.executor.decision.reconciler import Reconciler
from services.executor.decision.stimuli import (
    CallReturned,
    CommandSeen,
    CommandsRead,
    CommandTombstoned,
    KindNotServed,
    KindServed,
    ListFinished,
    ListStarted,
    ObjectGone,
    ObjectSeen,
    TurnStarted,
)
from services.executor.work_queue import WorkQueue
from shared.events.v1.commands import CommandIssued
from shared.events.v1.results import CommandReported
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import APPLIED_BY, APPLIED_BY_LABEL
from shared.testing.clock import FakeClock
from tests.unit.executor.builders import CLUSTER

STAMP_S = Policy().stamp_ms / 1000
CLUSTER_SCOPED = frozenset({GroupKind("", "Namespace"), GroupKind("", "Node"), GroupKind("example.com", "Planet")})
Document = dict[str, Any]
# A fault for one call, or None.
Fault = Callable[[Call], CallFailed | None]


class ModelCluster:
    def __init__(self) -> None:
        self.objects: dict[ObjectId, Document] = {}
        self.unserved: set[GroupKind] = set()
        self.calls: list[Call] = []
        self.deleted: list[Document] = []
        self.fault: Fault = lambda _: None
        # Whether pods on nodes go with a grace period, until `confirm_deletions`.
        self.graceful = False
        self.listeners: list[Callable[[str, ObjectId, Document, Document | None], None]] = []
        self._versions = itertools.count(100)
        self._uids = itertools.count(1)

    # What users, controllers and kubelets do

    def put(self, kind: GroupKind, document: Document) -> Document:
        """Creates or replaces an object as somebody else."""
        metadata = document["metadata"]
        return self._store(ObjectId(kind, metadata.get("namespace", ""), metadata["name"]), document)

    def change(self, object_id: ObjectId, change: Callable[[Document], None]) -> None:
        document = copy.deepcopy(self.objects[object_id])
        change(document)
        self._store(object_id, document)

    def remove(self, object_id: ObjectId) -> None:
        document = self.objects[object_id]
        if document["metadata"].get("finalizers"):
            self.change(object_id, lambda d: d["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
            return
        del self.objects[object_id]
        gone = copy.deepcopy(document)
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._announce("DELETED", object_id, gone, document)

    def node(self, name: str, *, unschedulable: bool = False, has: Mapping[str, str] | None = None) -> None:
        node: Document = {"metadata": {"name": name}, "spec": {"unschedulable": unschedulable}}
        node["status"] = {"allocatable": {"pods": "110", "cpu": "8", **(has or {})}}
        self.put(GroupKind("", "Node"), node)

    def confirm_deletions(self) -> None:
        """Kubelets have ended every pod that is being deleted."""
        for object_id, document in list(self.objects.items()):
            if object_id.kind == GroupKind("", "Pod") and document["metadata"].get("deletionTimestamp"):
                self.remove(object_id)

    def run_pods(self) -> None:
        """Kubelets make every bound pod run and be ready."""
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        for object_id, document in list(self.objects.items()):
            if object_id.kind == GroupKind("", "Pod") and document["spec"].get("nodeName") and "status" not in document:
                self.change(object_id, lambda d: d.update(status=ready))

    def of_subject(self, subject: str) -> dict[ObjectId, Document]:
        return {
            object_id: document
            for object_id, document in self.objects.items()
            if (document["metadata"].get("annotations") or {}).get("flotilla.dev/subject") == subject
        }

    # What the API server answers

    def answer(self, call: Call) -> Document | CallFailed:
        self.calls.append(call)
        failed = self.fault(call)
        if failed is not None:
            return failed
        match call:
            case Apply():
                return self._apply(call.target, call.body)
            case CreateNamespace():
                known = self.objects.get(call.target)
                return known or self._store(call.target, {"metadata": {"name": call.target.name}})
            case Annotate() | Stamp():
                return self._annotate(call.target, call.annotations)
            case Bind():
                return self._bind(call)
            case Delete():
                return self._delete(call)
        raise AssertionError(call)

    def _apply(self, target: ObjectId, body: Document) -> Document | CallFailed:
        if target.kind in self.unserved:
            return CallFailed(404, "KindNotServed", f"no {target.kind}")
        if target.namespace and ObjectId(GroupKind("", "Namespace"), "", target.namespace) not in self.objects:
            return CallFailed(404, "NotFound", "namespaces not found")
        known = self.objects.get(target)
        if known is None:
            return self._store(target, copy.deepcopy(body))
        merged = _merge(known, body)
        return known if merged == known else self._store(target, merged)

    def _annotate(self, target: ObjectId, annotations: Mapping[str, str | None]) -> Document | CallFailed:
        known = self.objects.get(target)
        if known is None:
            return CallFailed(404, "NotFound", f"{target} not found")
        merged = _merge(known, {"metadata": {"annotations": dict(annotations)}})
        kept = {key: value for key, value in merged["metadata"]["annotations"].items() if value is not None}
        merged["metadata"]["annotations"] = kept
        return self._store(target, merged)

    def _bind(self, call: Bind) -> Document | CallFailed:
        known = self.objects.get(call.target)
        if known is None or known["metadata"]["uid"] != call.uid:
            return CallFailed(404, "NotFound", "pod not found")
        if known["spec"].get("nodeName"):
            return CallFailed(409, "Conflict", "pod is already assigned to a node")
        self._store(call.target, _merge(known, {"spec": {"nodeName": call.node}}))
        return {}

    def _delete(self, call: Delete) -> Document | CallFailed:
        known = self.objects.get(call.target)
        if known is None:
            return {}
        if known["metadata"]["uid"] != call.uid:
            return CallFailed(409, "Conflict", "the uid is another")
        self.deleted.append(known)
        if self.graceful and known.get("spec", {}).get("nodeName") and not call.at_once:
            self.change(call.target, lambda d: d["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
        else:
            self.remove(call.target)
        return {}

    def _store(self, object_id: ObjectId, document: Document) -> Document:
        known = self.objects.get(object_id)
        stored = copy.deepcopy(document)
        metadata = stored["metadata"]
        metadata["uid"] = known["metadata"]["uid"] if known else f"uid-{next(self._uids)}"
        metadata["resourceVersion"] = str(next(self._versions))
        if object_id.kind.group == "apps":
            generation = known["metadata"]["generation"] if known else 0
            changed = known is None or known.get("spec") != stored.get("spec")
            metadata["generation"] = generation + changed
        self.objects[object_id] = stored
        self._announce("MODIFIED" if known else "ADDED", object_id, stored, known)
        return copy.deepcopy(stored)

    def _announce(self, what: str, object_id: ObjectId, document: Document, before: Document | None) -> None:
        for listener in self.listeners:
            listener(what, object_id, copy.deepcopy(document), before)


class Rig:
    """The reconciler, its queue and a cluster. `settle` runs until nothing is left to do at the present time."""

    def __init__(
        self, cluster: ModelCluster | None = None, *, policy: Policy | None = None, start: bool = True
    ) -> None:
        self.cluster = cluster or ModelCluster()
        self.policy = policy or Policy()
        self.clock = FakeClock()
        self.reports: list[CommandReported] = []
        self.held_events = False
        self._chance = random.Random(7)
        self._numbers = itertools.count()
        self._events: deque[Stimulus] = deque()
        self._boot()
        if start:
            self.read_to_end()

    # The process

    def _boot(self) -> None:
        self.reconciler = Reconciler(CLUSTER, self.policy, f"life-{next(self._numbers)}")
        self.queue = WorkQueue(self.clock)
        self._feeds: dict[GroupKind, Feed] = {}
        self._all: set[Feed] = set()
        self._events.clear()
        self.cluster.listeners = [self._on_event]
        self._carry_out(self.reconciler.start("start"))

    def restart(self) -> None:
        """kill -9, and a new process: nothing but the cluster and the topic is left."""
        self.clock = FakeClock(self.clock.now_ms() + 1000)
        self._boot()

    def read_to_end(self) -> None:
        self.handle(CommandsRead(id=self._id(), at_ms=self.clock.now_ms()))

    # The topic

    def issue(self, *commands: CommandIssued, read: bool = True) -> None:
        for item in commands:
            self.handle(CommandSeen(id=self._id(), at_ms=self.clock.now_ms(), subject=item.subject, command=item))
        if read:
            self.read_to_end()

    def tombstone(self, subject: str, generation: int | None = None, epoch: int = 1) -> None:
        at = (epoch, generation) if generation is not None else (None, None)
        stimulus = CommandTombstoned(
            id=self._id(), at_ms=self.clock.now_ms(), subject=subject, epoch=at[0], generation=at[1]
        )
        self.handle(stimulus)
        self.read_to_end()

    # Running

    def settle(self, rounds: int = 1000) -> None:
        for _ in range(rounds):
            if not self.held_events and self._deliver():
                continue
            subject = self.take()
            if subject is None:
                return
            self.turns(subject)
            self.queue.done(subject)
        raise AssertionError("the reconciler does not come to rest")

    def take(self) -> str | None:
        """A subject that is due, if there is one."""
        self.queue._move_due()
        if not self.queue._ready:
            return None
        coroutine = self.queue.get()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return str(stop.value)
        raise AssertionError("the queue said it had something")

    def turns(self, subject: str, limit: int = 100) -> None:
        for _ in range(limit):
            calls = self.turn(subject)
            if not calls:
                return
            for call in calls:
                self.answer(call)
        raise AssertionError(f"{subject} always has one more call")

    def turn(self, subject: str) -> list[Call]:
        stimulus = TurnStarted(id=self._id(), at_ms=self.clock.now_ms(), subject=subject, chance=self._chance.random())
        instructions = self.handle(stimulus)
        return [instruction for instruction in instructions if isinstance(instruction, Call)]

    def answer(self, call: Call) -> None:
        answer = self.cluster.answer(call)
        now = self.clock.now_ms()
        self.handle(CallReturned(id=self._id(), at_ms=now, call=call, answer=answer, chance=self._chance.random()))

    def settle_events(self) -> None:
        """Delivers what list and watch have, and starts no turn."""
        while self._deliver():
            continue

    def told(self, call: Call, answer: Document | CallFailed) -> None:
        """Tells an answer that was kept back."""
        self.handle(CallReturned(id=self._id(), at_ms=self.clock.now_ms(), call=call, answer=answer, chance=0.5))

    def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        """Lets time pass in steps, doing what becomes due."""
        elapsed = 0.0
        while elapsed < seconds:
            self.clock._elapsed += min(step, seconds - elapsed)
            elapsed += step
            self.settle()

    def release_events(self) -> None:
        self.held_events = False

    def relist(self, kind: GroupKind) -> None:
        """A watch that broke begins again: a list of what is there now."""
        feed = self._feeds[kind]
        self._events = deque(event for event in self._events if getattr(event, "feed", None) != feed)
        self._events.extend(self._list(feed))

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        instructions = list(self.reconciler.handle(stimulus))
        self._carry_out(instructions)
        return instructions

    @property
    def last(self) -> CommandReported:
        return self.reports[-1]

    def made(self, *kinds: type[Call]) -> list[Call]:
        return [call for call in self.cluster.calls if isinstance(call, kinds)]

    # Inside

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Wake(at_ms=0):
                    self.queue.add(instruction.subject)
                case Wake():
                    self.queue.add_at(instruction.subject, instruction.at_ms)
                case Report():
                    self.reports.append(instruction.report)
                case Watch():
                    self._feeds[instruction.feed.kind] = instruction.feed
                    self._all.add(instruction.feed)
                    self._events.extend(self._begin(instruction))

    def serve(self, kind: GroupKind) -> None:
        """The cluster begins to serve a kind (its CRD was created)."""
        self.cluster.unserved.discard(kind)
        self._events.append(KindServed(id=self._id(), at_ms=0, kind=kind, namespaced=kind not in CLUSTER_SCOPED))
        self._events.extend(self._list(self._feeds[kind]))

    def _begin(self, watch: Watch) -> Iterator[Stimulus]:
        kind = watch.feed.kind
        if watch.feed.owned:
            if kind in self.cluster.unserved:
                yield KindNotServed(id=self._id(), at_ms=0, kind=kind, message=f"no {kind}")
                return
            yield KindServed(id=self._id(), at_ms=0, kind=kind, namespaced=kind not in CLUSTER_SCOPED)
        yield from self._list(watch.feed)

    def _list(self, feed: Feed) -> Iterator[Stimulus]:
        yield ListStarted(id=self._id(), at_ms=0, feed=feed)
        for object_id, document in self.cluster.objects.items():
            if object_id.kind == feed.kind and (not feed.owned or _selected(document)):
                yield ObjectSeen(id=self._id(), at_ms=0, feed=feed, raw=orjson.dumps(document))
        version = next(self.cluster._versions)
        yield ListFinished(id=self._id(), at_ms=0, feed=feed, resource_version=str(version))

    def _deliver(self) -> bool:
        if not self._events:
            return False
        self.handle(self._events.popleft())
        return True

    def _on_event(self, what: str, object_id: ObjectId, document: Document, before: Document | None) -> None:
        for feed in self._all:
            if feed.kind != object_id.kind:
                continue
            raw = orjson.dumps(document)
            if feed.owned and not _selected(document):
                if before is None or not _selected(before):
                    continue
                # What loses its label is deleted for a watch by label: its last state with the label, at this version.
                last = copy.deepcopy(before)
                last["metadata"]["resourceVersion"] = document["metadata"]["resourceVersion"]
                what, raw = "DELETED", orjson.dumps(last)
            stimulus = ObjectGone if what == "DELETED" else ObjectSeen
            self._events.append(stimulus(id=self._id(), at_ms=self.clock.now_ms(), feed=feed, raw=raw))

    def _id(self) -> str:
        return f"s{next(self._numbers)}"


def _selected(document: Document) -> bool:
    return (document["metadata"].get("labels") or {}).get(APPLIED_BY_LABEL) == APPLIED_BY


def _merge(known: Any, body: Any) -> Any:
    """What a forced apply by one manager leaves, as far as nothing is removed from maps."""
    if isinstance(known, dict) and isinstance(body, dict):
        return {**known, **{key: _merge(known.get(key), value) for key, value in body.items()}}
    return copy.deepcopy(body)
