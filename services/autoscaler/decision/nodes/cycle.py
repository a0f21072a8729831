"""One plan of all node groups as a function: of what was remembered, of what is seen, of the time, and of nothing else.

What takes long is not done here but handed out (`Work`), so that a service may do it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from services.autoscaler.decision.nodes.growing import Growth, grow
from services.autoscaler.decision.nodes.outlooks import Outlook, outlooks_of
from services.autoscaler.decision.nodes.planning import NodePlans
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.shrinking import Shrinkage, shrink


class Work(NamedTuple):
    """A plan to be made, `of` which kind; None is sent for it where it cannot be."""

    of: str
    make: Callable[[], Growth | Shrinkage]


class Waiting(NamedTuple):
    """Pods that no node had room for, and those of them for which there is none in the plan either; the part of the
    head-room that has room, None where none is wished; limits that bind, by cluster and name; and what the plan means
    for those that wait, by pod set.
    """

    pods: int = 0
    without_node: int = 0
    head_room: float | None = None
    limits: tuple[tuple[str, str], ...] = ()
    outlooks: Mapping[str, Outlook] = MappingProxyType({})


class Terms(NamedTuple):
    """What plans go by that does not change."""

    policy: Policy
    config: SchedulerConfig


Plan = Generator[Work, Growth | Shrinkage | None, Waiting | None]


def plan(plans: NodePlans, terms: Terms, now_ms: int, *, down: bool) -> Plan:
    """With `down` nodes that are not needed go, too. Returns None where nobody knows who waits."""
    if not plans.any_group:
        plans.look(now_ms, coming=True)
        return Waiting()
    if down:
        yield from _shrink(plans, terms, now_ms)
    return (yield from _grow(plans, terms, now_ms))


def _shrink(plans: NodePlans, terms: Terms, now_ms: int) -> Plan:
    seen = plans.look(now_ms, coming=False)
    asked = seen, terms.policy, terms.config, plans.stock, now_ms, plans.drains.going
    shrinkage = yield Work("shrink", lambda: shrink(*asked))
    if isinstance(shrinkage, Shrinkage):
        plans.shrank(seen, shrinkage, now_ms)
    return None


def _grow(plans: NodePlans, terms: Terms, now_ms: int) -> Plan:
    seen = plans.look(now_ms, coming=True)
    if plans.wait(seen, now_ms):
        seen = plans.look(now_ms, coming=True)
    waiting = sum(item.count for item in seen.pending)
    if not waiting and not seen.head_room:
        plans.nothing_waits(now_ms)
        return Waiting()
    growth = yield Work("grow", lambda: grow(seen, terms.policy, terms.config, plans.stock, now_ms))
    if not isinstance(growth, Growth):
        return None
    plans.grew(seen, growth, now_ms)
    spare = growth.head_room if seen.head_room else None
    limits = tuple((limit.cluster, limit.what) for limit in growth.limits)
    outlooks = outlooks_of(seen.pending, growth, plans.failures())
    return Waiting(waiting, sum(item.count for item in growth.unplaced), spare, limits, outlooks)
