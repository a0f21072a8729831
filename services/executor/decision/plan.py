"""A turn in the making: what the planners of one subject find, and what they want done about it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from services.executor.decision.backoff import Policy, Repairs
from services.executor.decision.desired import Wanted
from services.executor.decision.identity import NODES, ObjectId
from services.executor.decision.instructions import Apply, Bind, Call, Delete
from services.executor.decision.live import LiveObject
from services.executor.decision.subject import Subject
from services.executor.decision.world import World
from shared.events.v1.results import ObjectResult


@dataclass(slots=True)
class Plan:
    """`calls` are to be made now; `failures` and `waits` say why the subject is not as desired if there are none.

    `awaited` are the nodes on which some pod waits for room, `full_nodes` those on which one of this subject does.
    """

    subject: Subject
    world: World
    claims: Mapping[ObjectId, set[str]]
    awaited: Container[str]
    policy: Policy
    now_ms: int
    cause: str
    calls: list[Call] = field(default_factory=list)
    failures: list[ObjectResult] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    missing_nodes: set[str] = field(default_factory=set)
    full_nodes: set[str] = field(default_factory=set)
    wake_at_ms: int | None = None
    as_desired: int = 0

    def fail(self, target: ObjectId, reason: str, message: str, api_version: str = "") -> None:
        self.failures.append(
            ObjectResult(
                api_version=api_version or target.kind.group,
                kind=target.kind.kind,
                namespace=target.namespace,
                name=target.name,
                reason=reason,
                message=message[:512],
            )
        )

    def wake(self, at_ms: int) -> None:
        self.wake_at_ms = at_ms if self.wake_at_ms is None else min(self.wake_at_ms, at_ms)

    def held(self, target: ObjectId, api_version: str = "") -> bool:
        """Whether the last call about the target failed and its time has not come; that is then a failure."""
        retry = self.subject.retries.get(target)
        if retry is None or self.now_ms >= retry.not_before_ms:
            return False
        self.fail(target, retry.failure.reason, retry.failure.message, api_version)
        self.wake(retry.not_before_ms)
        return True

    def apply(self, wanted: Wanted) -> None:
        self.calls.append(
            Apply(
                cause=self.cause,
                subject=self.subject.name,
                target=wanted.id,
                api_version=wanted.api_version,
                body=dict(wanted.body),
                shape=wanted.shape,
            )
        )

    def repair(self, wanted: Wanted) -> None:
        """Applies again what somebody changed or deleted, ever later if that goes on."""
        repairs = self.subject.repairs.get(wanted.id, Repairs())
        not_before = repairs.not_before_ms(self.policy)
        if self.now_ms < not_before:
            self.waits.append(f"{wanted.id} was changed {repairs.count} times by others")
            self.wake(not_before)
            return
        self.subject.repairs[wanted.id] = repairs.after_one(self.policy, self.now_ms)
        self.apply(wanted)

    def delete(self, live: LiveObject, *, at_once: bool = False) -> None:
        self.calls.append(
            Delete(cause=self.cause, subject=self.subject.name, target=live.id, uid=live.uid, at_once=at_once)
        )

    def bind(self, live: LiveObject, node: str) -> None:
        """Binds a pod if there is room for it. From then on it takes that room, whatever is answered, and when."""
        if missing := self.world.lacking(live, node):
            self.full_nodes.add(node)
            self.waits.append(f"{live.id} waits for room on node {node}: {', '.join(missing)}")
            return
        self.world.live.amend(replace(live, asked=live.asked | {node}))
        self.calls.append(Bind(cause=self.cause, subject=self.subject.name, target=live.id, uid=live.uid, node=node))

    def await_deletion(self, live: LiveObject) -> None:
        """Waits for an object that is being deleted; a pod whose node is gone has nobody left to confirm it."""
        orphan = bool(live.node) and live.node not in self.world.nodes
        if orphan and NODES in self.world.synced and live.uid not in self.subject.forced:
            self.subject.forced.add(live.uid)
            self.delete(live, at_once=True)
            return
        held_by = f", held by {', '.join(live.finalizers)}" if live.finalizers else ""
        self.waits.append(f"{live.id} is being deleted{held_by}")

    def claimed_by_another(self, wanted: Wanted, live: LiveObject | None) -> bool:
        """Whether the object belongs to another subject, whose command still names it; that is then a failure."""
        if live is None or live.subject == self.subject.name or live.subject not in self.claims.get(wanted.id, ()):
            return False
        self.fail(wanted.id, "OwnedByAnother", f"{live.subject} names the same object", wanted.api_version)
        return True
