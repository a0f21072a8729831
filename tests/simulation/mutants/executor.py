"""Defects of the executor: its fence, its idempotence, its patience, and what it may delete."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

from services.executor.calls import Caller
from services.executor.decision import reconciler
from services.executor.decision.desired import resolve
from services.executor.decision.fence import Fence
from services.executor.decision.instructions import Apply, Call
from services.executor.decision.observations import Observations
from services.executor.decision.plan import Plan
from services.executor.decision.stimuli import ListFinished
from services.executor.decision.subject import Subject
from services.executor.decision.world import World
from services.executor.outbox import Outbox
from shared.events.v1.commands import CommandIssued
from shared.ports.cluster_api import Object
from shared.ports.event_log import LogError, NewRecord, Publisher
from tests.simulation.generator import FAREWELLS, HURRY, ONCE, RELAY
from tests.simulation.mutants.mutant import mutant


@mutant("stale write", faults=(HURRY, "cut_log:executor+short_reads:executor"))
def the_executor_takes_any_generation() -> Iterator[None]:
    """An older command that comes late, or again, is carried out over a newer one."""
    with patch.object(Fence, "admits", return_value=True):
        yield


async def _created(caller: Caller, call: Apply) -> Object:
    info = await caller._api.resource_info(call.api_version, call.target.kind.kind)
    return await caller._api.create(info.resource, call.target.namespace, call.body)


@mutant("replicas", "missing", "fleet.status")
def objects_are_created_instead_of_applied() -> Iterator[None]:
    """POST where server-side apply belongs: what exists is never changed, and a lost answer is a failure for ever."""
    original = Caller._request

    async def request(self: Caller, call: Call) -> Object:
        return await (_created(self, call) if isinstance(call, Apply) else original(self, call))

    with patch.object(Caller, "_request", request):
        yield


@mutant("replicas")
def every_try_has_a_name_of_its_own() -> Iterator[None]:
    """`generateName`: an apply whose answer was lost, or of a later generation, makes a second object."""
    original = Caller._request
    tries: dict[str, int] = {}

    async def request(self: Caller, call: Call) -> Object:
        if isinstance(call, Apply) and call.target.kind.kind == "Deployment":
            info = await self._api.resource_info(call.api_version, "Deployment")
            number = tries[call.target.name] = tries.get(call.target.name, 0) + 1
            name = f"{call.target.name}-{number}"
            body = {**call.body, "metadata": {**call.body["metadata"], "name": name}}
            return await self._api.create(info.resource, call.target.namespace, body)
        return await original(self, call)

    with patch.object(Caller, "_request", request):
        yield


@mutant("withdrawn early")
def a_withdrawal_is_reported_before_the_deletion() -> Iterator[None]:
    """The API server accepted the deletion, and that is taken for the end: finalizers and grace periods are not."""

    def plan_withdrawal(plan: Plan) -> None:
        for live in plan.world.live.of(plan.subject.name):
            if not live.deleting and not plan.held(live.id):
                plan.delete(live)

    with patch.object(reconciler, "plan_withdrawal", plan_withdrawal):
        yield


@mutant("runs twice", faults=(ONCE, "cut_off"))
def the_lease_is_not_looked_at() -> Iterator[None]:
    """What runs at most once runs on in a cluster that is cut off, while it is started in another."""
    with patch.object(reconciler, "may_apply", return_value=True):
        yield


@mutant("withdrawn early", "stray", faults=(HURRY, "outage:executor+slow_api"))
def what_is_not_listed_is_taken_as_absent() -> Iterator[None]:
    """An executor that was restarted acts before it has listed: what it has not seen yet is not there for it."""
    with patch.object(reconciler, "everything_is_known", return_value=True):
        yield


@mutant("overcommitted", faults=(RELAY, "slow_log:watcher"))
def pods_are_bound_whatever_room_there_is() -> Iterator[None]:
    """A pod takes the place of another that has yet to end: the scheduler had never seen that one, and gave it away."""
    with patch.object(World, "lacking", return_value=[]):
        yield


@mutant("deleted", faults=(HURRY, "kill:executor+slow_log:executor"))
def what_no_command_names_is_deleted() -> Iterator[None]:
    """Deletion by absence: objects whose command was not read (yet) are collected as orphans."""
    original = Observations.on_list_finished

    def on_list_finished(self: Observations, stimulus: ListFinished) -> list[str]:
        woken = original(self, stimulus)
        for name in sorted({live.subject for live in self._world.live._objects.values()}):
            if name not in self._state.subjects:
                fence = max(live.fence for live in self._world.live.of(name))
                self._state.subjects[name] = _withdrawn(self._state.cluster, name, fence)
                self._state.caught_up = True
                woken.append(name)
        return woken

    with patch.object(Observations, "on_list_finished", on_list_finished):
        yield


def _withdrawn(cluster: str, name: str, fence: Fence) -> Subject:
    namespace = name.removeprefix("workload/").partition("/")[0]
    command = CommandIssued(
        cluster=cluster,
        subject=name,
        namespace=namespace,
        epoch=fence.epoch,
        generation=fence.generation,
        digest="",
        action="withdraw",
    )
    return Subject(name, command, resolve(command, lambda _: True), fence)


@mutant("not ended", "fleet.status", "fleet.commands", faults=(FAREWELLS, "lossy_appends:executor"))
def a_report_that_was_not_sent_is_forgotten() -> Iterator[None]:
    """`except LogError: log.warning(...)`: a publish that failed is swallowed, and nobody says it again."""

    async def send(self: Outbox, publisher: Publisher, batch: Sequence[tuple[Any, NewRecord]]) -> None:
        del self
        try:
            acknowledgements = [await publisher.send(record) for _, record in batch]
            await asyncio.gather(*acknowledgements)
        except LogError:
            await publisher.close()
            raise

    with patch.object(Outbox, "_send", send):
        yield
