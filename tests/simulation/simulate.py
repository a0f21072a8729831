"""Runs one plan and judges it."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.watcher.settings import DEFAULT_RESOURCES, parse_resources
from shared.runtime.ids import ids_from
from tests.simulation import checker, decoding, logs, queues
from tests.simulation.faults import Faults
from tests.simulation.fleet import REBALANCES_PER_MINUTE, replaying
from tests.simulation.loop import OWNER, DeadlockError, VirtualLoop
from tests.simulation.people import People
from tests.simulation.plan import Plan
from tests.simulation.process import KilledError
from tests.simulation.slots import HUB
from tests.simulation.world import World

# After everything is healed: the first look, the time between looks, and the time within which all must be settled.
_FIRST_LOOK_S = 20.0
_LOOK_S = 10.0
_SETTLED_S = 400.0

# Of so many seeds the decisions of one are derived again: it costs a tenth of the seed's time.
_REPLAYED = 3

WATCHED = frozenset(
    f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    for resource in parse_resources(DEFAULT_RESOURCES)
)


@dataclass(frozen=True, slots=True)
class Result:
    """`virtual_s` is the time that was simulated, `digest` that of everything that happened, if it was asked for."""

    plan: Plan
    violations: tuple[checker.Violation, ...]
    digest: str
    virtual_s: float
    real_s: float
    appends: int
    writes: int
    lives: int


def simulate(
    plan: Plan, *, prepare: Callable[[World], None] | None = None, verbose: bool = False, digested: bool = True
) -> Result:
    """`prepare` changes the world before it begins, for deliberate defects. A digest that is not asked for is empty."""
    began = time.perf_counter()
    loop = VirtualLoop()
    broken: list[str] = []
    loop.set_exception_handler(lambda _, context: _note(broken, context))
    asyncio.set_event_loop(loop)
    gc_was_on = gc.isenabled()
    gc.disable()
    random.seed(plan.seed)
    try:
        world = World(plan, loop)
        with (
            ids_from(world.new_id),
            logs.captured(world, verbose=verbose),
            queues.measured(world.history),
            decoding.remembered(),
        ):
            if prepare is not None:
                prepare(world)
            violations = loop.run_until_complete(_run(world, broken))
    except DeadlockError as error:
        violations = [checker.Violation("deadlock", "the fleet", str(error))]
        violations += checker.always(checker.Evidence(world.history, {}, {}, WATCHED))
    except Exception as error:  # noqa: BLE001 - one seed that cannot be judged must not end the others
        violations = [checker.Violation("broken", "the simulation", "".join(traceback.format_exception(error))[-2000:])]
    finally:
        if gc_was_on:
            gc.enable()
    history = world.history
    result = Result(
        plan,
        tuple(violations),
        history.digest() if digested else "",
        loop.time(),
        time.perf_counter() - began,
        len(history.appends),
        len(history.writes),
        len(history.lives),
    )
    loop.close()
    return result


def _note(broken: list[str], context: dict[str, Any]) -> None:
    """An exception that nobody took: of the simulation itself, or of a service's task that nobody awaited."""
    owner, error = OWNER.get(), context.get("exception")
    if not _killed(error) and (owner is None or getattr(owner, "alive", True)):
        broken.append(f"{owner}: {context['message']}: {error!r}")


def _killed(error: BaseException | None) -> bool:
    """Whether this is how a process ended: nobody is left who could take it."""
    if isinstance(error, BaseExceptionGroup):
        return any(_killed(inner) for inner in error.exceptions)
    return isinstance(error, KilledError)


async def _run(world: World, broken: list[str]) -> list[checker.Violation]:
    plan = world.plan
    faults, people = Faults(world), People(world)
    for request in plan.requests:
        world.at(request.at_s, lambda request=request: world.send(request))  # type: ignore[misc]
    for order in plan.orders:
        world.at(order.at_s, lambda order=order: world.order(order))  # type: ignore[misc]
    for action in plan.actions:
        world.at(action.at_s, lambda action=action: people.do(action))  # type: ignore[misc]
    for fault in plan.faults:
        world.at(fault.at_s, lambda fault=fault: faults.befall(fault))  # type: ignore[misc]
    for slot in world.slots.values():
        world.start(slot)
    await world.until(plan.busy_s)
    faults.heal()
    people.heal()
    await world.until(plan.busy_s + plan.quiet_s)
    evidence = checker.Evidence(
        world.history,
        {},
        {},
        WATCHED,
        replay=None if plan.seed % _REPLAYED else replaying(plan),
        queues=plan.queues,
        rebalances_per_minute=REBALANCES_PER_MINUTE,
    )
    violations = await _settle(world, evidence)
    violations += checker.always(evidence)
    world.close()
    await asyncio.sleep(1)
    broken += [f"{process}: a task did not end: {task!r}" for process in world.processes for task in process.tasks]
    return violations + [checker.Violation("broken", "an exception that nobody took", text) for text in broken]


async def _settle(world: World, evidence: checker.Evidence) -> list[checker.Violation]:
    """Waits until the checker is content twice in a row."""
    deadline = world.loop.time() + _SETTLED_S
    await asyncio.sleep(_FIRST_LOOK_S)
    content = 0
    while True:
        evidence.records = world.broker.everything()
        evidence.objects = {name: world.servers[name].objects() for name in world.clusters}
        evidence.hub = world.servers[HUB].objects() if HUB in world.servers else None
        evidence.tables = world.store.tables
        violations = checker.settled(evidence)
        content = 0 if violations else content + 1
        if content > 1 or world.loop.time() > deadline:
            return violations
        await asyncio.sleep(_LOOK_S if violations else _LOOK_S / 2)
