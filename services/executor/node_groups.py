"""Node groups of one cluster: their orders, and the looks at each, again and again.

An order is obeyed like any command: the newest of its subject, once the topic was read to its end. A group is looked at
when its order comes, every few seconds while something happens, and now and then after that, since nodes come and
go by themselves. What differs from the last report is reported. A look that fails is taken again with back-off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.executor import metrics
from services.executor.decision.backoff import CallFailed, Policy, Retry, next_retry
from services.executor.decision.group_orders import GroupOrders, Held
from services.executor.decision.group_reports import GroupNews, news_of, report_of
from services.executor.decision.instructions import Report
from services.executor.decision.node_groups import (
    Evict,
    GroupPlan,
    Look,
    Terms,
    plan_group,
    plan_release,
    to_be_emptied,
)
from services.executor.node_calls import NodeCaller
from services.executor.wakefulness import Wakefulness, was_suspended
from services.executor.work_queue import WorkQueue
from shared.events.v1.commands import NodeGroupOrder
from shared.events.v1.results import Outcome
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import NODE_GROUP_SUBJECT
from shared.model.node_groups import GroupState
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ClusterApi
from shared.ports.node_groups import NodeGroupProvider, NodeGroupProviders, ProviderError
from shared.runtime.ids import new_id

log = get_logger(__name__)

_AT_ONCE: Final = 4


@dataclass(slots=True)
class _Group:
    """What is remembered between looks; all of it may be lost."""

    provider: NodeGroupProvider | None = None
    provided: NodeGroupOrder | None = None
    news: GroupNews = field(default_factory=GroupNews)
    retry: Retry | None = None
    evictions: dict[str, Retry] = field(default_factory=dict)


class NodeGroups:
    def __init__(
        self,
        cluster: str,
        api: ClusterApi,
        providers: NodeGroupProviders,
        report: Callable[[Report], None],
        clock: Clock,
        policy: Policy,
        *,
        slots: asyncio.Semaphore,
        awake: Wakefulness,
    ) -> None:
        self._cluster = cluster
        self._api = api
        self._providers = providers
        self._report = report
        self._clock = clock
        self._policy = policy
        self._caller = NodeCaller(cluster, api, slots, awake)
        self._orders = GroupOrders(cluster)
        self._groups: dict[str, _Group] = {}
        self._queue = WorkQueue(clock)
        self._workers = asyncio.Semaphore(_AT_ONCE)

    def tell(self, stimulus: Stimulus) -> None:
        """A record of the command topic, or its end."""
        woken, instructions = self._orders.handle(stimulus)
        for instruction in instructions:
            self._carry_out(instruction)
        for subject in woken:
            self._queue.add(subject)

    async def run(self) -> None:
        """Until cancelled; what is cut off is gone on with by the next look. Raises SuspendedError, in a group."""
        async with asyncio.TaskGroup() as looks:
            while True:
                await self._workers.acquire()
                subject = await self._queue.get()
                looks.create_task(self._work(subject), name=f"{self._cluster}-{subject}")

    async def _work(self, subject: str) -> None:
        try:
            held = self._orders.get(subject)
            if held is not None:
                await self._look_at(subject, held)
        finally:
            self._queue.done(subject)
            self._workers.release()

    async def _look_at(self, subject: str, held: Held) -> None:
        group = self._groups.setdefault(subject, _Group())
        try:
            busy = await self._carry_out_order(subject, held, group)
        except (ApiError, ProviderError) as error:
            self._failed(subject, held, group, CallFailed(0, error.reason, error.message))
        except Exception as error:
            if was_suspended(error):
                raise
            metrics.ERRORS.labels(self._cluster, "node group").inc()
            log.exception("a look at a node group failed", cluster=self._cluster, subject=subject)
            self._failed(subject, held, group, CallFailed(0, "InternalError", f"{type(error).__name__}: {error}"))
        else:
            group.retry = None
            if subject in self._groups:
                wait = self._policy.busy_look_ms if busy else self._policy.look_ms
                self._queue.add_at(subject, self._clock.now_ms() + wait)

    async def _carry_out_order(self, subject: str, held: Held, group: _Group) -> bool:
        """Returns whether something is under way."""
        order = held.command.node_group
        name = subject.removeprefix(NODE_GROUP_SUBJECT)
        if held.ended or order is None or held.command.action == "withdraw":
            await self._release(subject, held, name)
            return False
        nodes = await self._caller.nodes(name)
        provider = await self._provider(order, group)
        state = await provider.state([node.ref for node in nodes.values()])
        pods = {node: await self._caller.pods(node) for node in to_be_emptied(order, nodes)}
        look = Look(nodes, pods, state)
        now = self._clock.now_ms()
        group.evictions = {uid: retry for uid, retry in group.evictions.items() if _is_there(uid, look)}
        back = {uid: (retry.not_before_ms, retry.failure.message) for uid, retry in group.evictions.items()}
        plan = plan_group(order, look, Terms(held.fence, now, self._policy.drain_ms, back))
        await self._take(subject, held, plan, provider, group)
        group.news = news_of(look, plan)
        failed = bool(group.news.failures) or bool(state.reason)
        self._say(held, group.news, "failed" if failed else "applied")
        return bool(plan.steps or plan.removing) or group.news.ready < (group.news.size or 0)

    async def _take(
        self, subject: str, held: Held, plan: GroupPlan, provider: NodeGroupProvider | None, group: _Group
    ) -> None:
        """The plan's steps in their order, as long as no newer order has come."""
        for step in plan.steps:
            if self._orders.get(subject) is not held:
                return
            refusal = await self._caller.take(step, provider)
            if isinstance(step, Evict):
                self._note(step, refusal, group)

    def _note(self, step: Evict, refusal: CallFailed | None, group: _Group) -> None:
        if refusal is None:
            group.evictions.pop(step.pod.uid, None)
            return
        now, known = self._clock.now_ms(), group.evictions.get(step.pod.uid)
        group.evictions[step.pod.uid] = next_retry(known, refusal, self._policy, now, _chance())

    async def _release(self, subject: str, held: Held, name: str) -> None:
        nodes = await self._caller.nodes(name)
        await self._take(subject, held, plan_release(Look(nodes, {}, GroupState(0))), None, _Group())
        if self._orders.get(subject) is not held:
            return
        del self._groups[subject]
        if held.ended:
            self._orders.forget(subject)
        else:
            self._say(held, GroupNews(), "withdrawn")

    async def _provider(self, order: NodeGroupOrder, group: _Group) -> NodeGroupProvider:
        """Made anew when what it is made of changes."""
        same = group.provided is not None and (group.provided.provider, group.provided.template) == (
            order.provider,
            order.template,
        )
        if group.provider is None or not same:
            group.provider = await self._providers.of(order, self._cluster, self._api)
            group.provided = order
        return group.provider

    def _failed(self, subject: str, held: Held, group: _Group, failure: CallFailed) -> None:
        now = self._clock.now_ms()
        group.retry = next_retry(group.retry, failure, self._policy, now, _chance())
        group.news = group.news.failed(failure.reason, failure.message[:512], group.retry.attempt)
        log.warning(
            "a node group is not as ordered",
            cluster=self._cluster,
            subject=subject,
            reason=failure.reason,
            message=failure.message[:256],
        )
        if self._orders.get(subject) is held:
            self._say(held, group.news, "failed")
        self._queue.add_at(subject, max(group.retry.not_before_ms, now + self._policy.busy_look_ms))

    def _say(self, held: Held, news: GroupNews, outcome: Outcome) -> None:
        report = report_of(self._cluster, held, news, outcome, self._clock.now_ms())
        if report is not None:
            self._report(Report(cause=new_id(), report=report, traceparent=held.traceparent))

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, Report):
            self._report(instruction)


def _is_there(uid: str, look: Look) -> bool:
    return any(pod.uid == uid for pods in look.pods.values() for pod in pods)


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter
