"""Node groups: folds what is known of the fleet, plans in its time, and orders.

An order stands in `fleet.nodegroups` before its command is published: who is replaced meanwhile is refused there by the
broker, and publishes no command. A successor publishes what no executor has confirmed; the same order is never another.

Plans are made in a thread, on values that nothing changes: looks at workloads go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeVar

from services.autoscaler import metrics
from services.autoscaler.configuration import policy, scheduler_config, times
from services.autoscaler.decision.nodes.cycle import Plan, Terms, Waiting, plan
from services.autoscaler.decision.nodes.fleet import FleetSeen
from services.autoscaler.decision.nodes.orders import Batch, Batching
from services.autoscaler.decision.nodes.outlooks import Outlooks
from services.autoscaler.decision.nodes.planning import NodePlans, Told
from services.autoscaler.decision.nodes.recorded import Made, changes_orders, config_hash, decided, without_node
from services.autoscaler.decision.nodes.telling import command_of
from services.autoscaler.decision.nodes.trail import WatchedFleet
from services.autoscaler.journal import decision_record
from services.autoscaler.settings import AutoscalerSettings
from shared.events.envelope import Envelope
from shared.events.registry import decode
from shared.events.topics import (
    COMMAND_ISSUED,
    NODE_GROUP_PLANNED,
    NODE_GROUPS,
    NODES_AWAITED,
    NODES_DECIDED,
    NODES_PLANNED,
    WAITING,
    commands_topic,
)
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.node_groups import PLAN_KEY, NodeGroupPlanned, NodesPlanned
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.results import CommandReported
from shared.events.v1.waiting import NodesAwaited
from shared.model.base import Value
from shared.model.identities import NODE_GROUP_SUBJECT, ObjectKey
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, NewRecord, Publisher
from shared.runtime.ids import new_id
from shared.runtime.pauses import pause

log = get_logger(__name__)

_TICK_S = 0.1
T = TypeVar("T")
Positions = Mapping[str, Mapping[int, int]]


class NodeGroups:
    """`inputs` says what had been read."""

    def __init__(
        self,
        events: EventLog,
        publisher: Publisher,
        clock: Clock,
        settings: AutoscalerSettings,
        inputs: Callable[[], Positions],
        life: str = "",
    ) -> None:
        self._log, self._publisher, self._clock, self._inputs = events, publisher, clock, inputs
        self._config = scheduler_config(settings)
        self._policy = policy(settings)
        self._terms = Terms(self._policy, self._config)
        self._period_ms = round(settings.autoscaler_nodes_period_s * 1000)
        lasting = times(settings)
        self._fleet = FleetSeen(self._config, lasting.provision, settings.autoscaler_head_room)
        self._watched = WatchedFleet(self._fleet)
        self._plans = NodePlans(self._watched, self._policy, lasting)
        self._outlooks = Outlooks()
        self._life, self._hash = life, config_hash(self._terms, lasting)
        self._remember_ms = round(settings.autoscaler_remember_s * 1000)
        # Who gets no node, as the last decision says, and when that was.
        self._without: frozenset[tuple[str, str]] | None = None
        self._decided_ms: int | None = None
        self._batch = Batch(
            Batching(
                idle=round(settings.autoscaler_batch_idle_s * 1000), most=round(settings.autoscaler_batch_max_s * 1000)
            )
        )
        self._looked_ms: int | None = None
        self._arrived = 0
        # Commands of orders that stand in the log, whose topic is not there yet.
        self._unsent: dict[str, _Unsent] = {}
        # Where `fleet.results` had been read, as far as orders tell.
        self.results_read: dict[int, int] = {}

    # --- reading ---

    def restore(self, key: str, value: bytes | None) -> None:
        """A record of `fleet.nodegroups`, at the start. Raises DecodeError."""
        if key == PLAN_KEY:
            self._plans.restore_plan(decode(NodesPlanned, value) if value is not None else None)
            return
        planned = decode(NodeGroupPlanned, value) if value is not None else None
        self._plans.restore(key, planned)
        for number, offset in (planned.inputs.get("fleet.results", {}) if planned is not None else {}).items():
            self.results_read[number] = max(offset, self.results_read.get(number, 0))

    def restore_waiting(self, workload: str, value: bytes | None) -> None:
        """A record of `fleet.waiting`, at the start. Raises DecodeError."""
        self._outlooks.restore(workload, decode(NodesAwaited, value) if value is not None else None)

    def declare(self, cluster: str, value: bytes | None) -> None:
        """Raises DecodeError."""
        self._fleet.declare(cluster, decode(ClusterDeclared, value) if value is not None else None)

    def hear(self, cluster: str, value: bytes | None, heard_at: int) -> None:
        """Raises DecodeError."""
        self._fleet.hear(cluster, decode(ClusterObserved, value) if value is not None else None, heard_at)

    def observe(self, key: ObjectKey, value: bytes | None, heard_at: int) -> None:
        """Raises DecodeError."""
        self._fleet.observe(key, value, heard_at)

    def place(self, key: str, placed: WorkloadPlaced | None) -> None:
        self._fleet.place(key, placed)

    def report(self, value: bytes | None) -> None:
        """Of whatever command; those of node groups count. Raises DecodeError."""
        if value is not None and NODE_GROUP_SUBJECT.encode() in value:
            report = decode(CommandReported, value)
            if report.subject.startswith(NODE_GROUP_SUBJECT):
                now_ms = self._clock.now_ms()
                self._watched.reported(report, now_ms)
                self._plans.report(report, now_ms)

    # --- planning ---

    async def run(self, stop: asyncio.Event) -> None:
        """Until it is stopped. Raises LogError."""
        for planned in self._plans.begin(self._clock.now_ms()):
            self._unsent[f"{planned.cluster}/{planned.group}"] = _Unsent(planned)
        while not stop.is_set():
            now_ms = self._clock.now_ms()
            if self._fleet.changed != self._arrived:
                self._arrived = self._fleet.changed
                self._batch.arrived(now_ms)
            due_ms = self._batch.due_ms
            since = None if self._looked_ms is None else now_ms - self._looked_ms
            period = since is None or not 0 <= since < self._period_ms
            if period or (due_ms is not None and now_ms >= due_ms):
                await self._plan(now_ms, down=period)
            await self._command()
            await pause(stop, _TICK_S)

    async def _plan(self, now_ms: int, *, down: bool) -> None:
        self._batch.planned()
        if down:
            self._looked_ms = now_ms
        before, failed = self._plans.memory(), list[str]()
        self._watched.begin()
        waiting = await self._carry_out(plan(self._plans, self._terms, now_ms, down=down), failed)
        inputs = self._inputs()
        told = list(self._plans.told(now_ms, inputs))
        new = self._plans.plan_told()
        made = Made(
            life=self._life,
            now_ms=now_ms,
            down=down,
            before=before,
            calls=self._watched.take(),
            failed=failed,
            told=told,
            plan=self._plans.plan,
            after=self._plans.memory(),
        )
        await self._record(made, inputs)
        # Where nobody knows who waits, what was told of them stays.
        news = [] if waiting is None else self._outlooks.news(waiting.outlooks, self._fleet.owners(), now_ms)
        await self._tell(told, new, news)

    async def _carry_out(self, steps: Plan, failed: list[str]) -> Waiting | None:
        """A plan, whose parts are made in threads; `failed` are those that could not be made. Returns who waits."""
        result = None
        while True:
            try:
                work = steps.send(result)
            except StopIteration as end:
                waiting: Waiting | None = end.value
                break
            result = await _made(work.of, work.make)
            if result is None:
                failed.append(work.of)
        if waiting is not None:
            metrics.PODS_WAITING.set(waiting.pods)
            metrics.told_of_plan(waiting.without_node, waiting.head_room, waiting.limits)
        return waiting

    async def _record(self, made: Made, inputs: Positions) -> None:
        """What was decided stands in the journal before anybody is told of it."""
        if not self._is_decision(made):
            return
        self._without, self._decided_ms = without_node(made.plan), made.now_ms
        body = await _made("record", lambda: decided(made, inputs, self._hash))
        if body is not None:
            await self._publisher.send(decision_record(NODES_DECIDED, PLAN_KEY, body, made.now_ms))
            await self._publisher.flush()

    def _is_decision(self, made: Made) -> bool:
        """Another order, or another reason of one; and once in so long that others get no node, who come and go."""
        if changes_orders(made):
            return True
        former = without_node(made.before.plan_told) if self._without is None else self._without
        since = None if self._decided_ms is None else made.now_ms - self._decided_ms
        return without_node(made.plan) != former and (since is None or not 0 <= since < self._remember_ms)

    # --- telling ---

    async def _tell(
        self, told: Iterable[Told], new: NodesPlanned | None, news: Iterable[tuple[str, NodesAwaited | None]]
    ) -> None:
        records: list[NewRecord] = []
        for item in told:
            records.append(self._encoded(NODE_GROUPS.name, item.key, NODE_GROUP_PLANNED.ce_type, item.planned))
            if item.ordered is not None:
                self._unsent[item.key] = _Unsent(item.ordered, ended=item.planned is None)
            _count(item)
        if new is not None:
            records.append(self._encoded(NODE_GROUPS.name, PLAN_KEY, NODES_PLANNED.ce_type, new))
        records += (self._encoded(WAITING.name, key, NODES_AWAITED.ce_type, said) for key, said in news)
        if records:
            await self._publisher.send_many(records)
            await self._publisher.flush()

    async def _command(self) -> None:
        """Publishes commands whose orders stand in the log; where a cluster has no topic yet, later."""
        if not self._unsent:
            return
        sent = []
        for key, unsent in self._unsent.items():
            topic = commands_topic(unsent.order.cluster).name
            if await self._log.partitions(topic):
                sent.append(key)
                await self._publisher.send(self._command_record(topic, unsent))
        if sent:
            await self._publisher.flush()
        for key in sent:
            del self._unsent[key]

    def _command_record(self, topic: str, unsent: _Unsent) -> NewRecord:
        command = command_of(unsent.order)
        if not unsent.ended:
            fence = command.epoch, command.generation
            return self._encoded(topic, command.subject, COMMAND_ISSUED.ce_type, command, fence)
        # Behind the last order: what ends it must not be older.
        fence = command.epoch, command.generation + 1
        return self._encoded(topic, command.subject, COMMAND_ISSUED.ce_type, None, fence)

    def _encoded(
        self, topic: str, key: str, kind: str, body: Value | None, fence: tuple[int, int] | None = None
    ) -> NewRecord:
        headers = Envelope(
            id=new_id(),
            source="flotilla/autoscaler",
            type=kind,
            time_ms=self._clock.now_ms(),
            subject=key,
            epoch=fence[0] if fence is not None else None,
            seq=fence[1] if fence is not None else None,
        ).to_headers()
        return NewRecord(topic, key.encode(), body.to_json() if body is not None else None, headers)


async def _made(of: str, plan: Callable[[], T]) -> T | None:
    """A plan, made in a thread. None where that has a defect: what is asked of the groups stays as it is."""
    try:
        with metrics.PLAN_SECONDS.labels(of).time():
            return await asyncio.to_thread(plan)
    except Exception:
        metrics.PLANS_FAILED.labels(of).inc()
        log.exception("plan of node groups failed", of=of)
        return None


class _Unsent(NamedTuple):
    """The command of an order, or that it ends."""

    order: NodeGroupPlanned
    ended: bool = False


def _count(told: Told) -> None:
    planned = told.planned
    if planned is None:
        with suppress(KeyError):  # it was told of by an autoscaler before this one
            metrics.NODES_ORDERED.remove(*told.key.split("/", 1))
        return
    metrics.NODES_ORDERED.labels(planned.cluster, planned.group).set(planned.size)
    if told.ordered is not None:
        metrics.NODE_ORDERS.labels(planned.reason).inc()
        log.info("nodes ordered", group=told.key, size=planned.size, why=planned.message)
