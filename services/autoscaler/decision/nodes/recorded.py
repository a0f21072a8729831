"""A plan's record in `fleet.decisions`: when there is one, what stands in it, and the plan once more from that.

As with replicas (`services.autoscaler.decision.basis`), values are written and not where they came from: what was
seen, and when, is in no other record.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import orjson

from services.autoscaler.decision.hashes import short_hash
from services.autoscaler.decision.nodes import memory as memories
from services.autoscaler.decision.nodes import trail
from services.autoscaler.decision.nodes.cycle import Terms, plan
from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.nodes.memory import PlansMemory
from services.autoscaler.decision.nodes.planning import NodePlans, Told
from services.autoscaler.decision.nodes.seen import PodSet, Seen
from services.autoscaler.decision.nodes.trail import Call, PlayedFleet
from shared.events.v1.node_decisions import GroupSeen, NodesBasis, NodesDecided, PodsPending
from shared.events.v1.node_groups import NodeGroupPlanned, NodesPlanned

# Of a document, compressed.
MOST_BYTES = 1 << 20
# And before that, so that nobody unpacks what nobody wrote.
_MOST_UNPACKED = 1 << 27
_MOST_LISTED = 16


@dataclass(frozen=True, slots=True)
class Made:
    """A plan that was made: from what, and what came of it. `before` and `after` are what was remembered."""

    life: str
    now_ms: int
    down: bool
    before: PlansMemory
    calls: Sequence[Call]
    failed: Sequence[str]
    told: Sequence[Told]
    plan: NodesPlanned | None
    after: PlansMemory


def changes_orders(made: Made) -> bool:
    """Whether it orders anything, or the reason of a group is another."""
    former = {f"{item.group.cluster}/{item.group.name}": item.told for item in made.before.orders}
    return any(_is_another(former.get(item.key), item) for item in made.told)


def _is_another(former: NodeGroupPlanned | None, told: Told) -> bool:
    planned = told.planned
    return planned is None or told.ordered is not None or former is None or former.reason != planned.reason


def without_node(plan: NodesPlanned | None) -> frozenset[tuple[str, str]]:
    """Who gets no node, and why."""
    return frozenset((item.pod_set, item.reason) for item in (plan.unplaced if plan is not None else ()))


def config_hash(terms: Terms, times: Times) -> str:
    """Equal for configurations that plan alike, as far as a replay of the same settings can tell."""
    document = repr((terms.policy, terms.config.weights, terms.config.largest_first_ms, times))
    return short_hash(document.encode())


def decided(made: Made, inputs: Mapping[str, Mapping[int, int]], config: str) -> NodesDecided:
    """The record of a plan."""
    document = orjson.dumps({"memory": memories.written(made.before), **trail.written(made.calls)})
    packed = base64.b64encode(zlib.compress(document)).decode()
    whole = len(packed) <= MOST_BYTES
    # The last look is the one by which nodes were ordered.
    seen = next((call.value for call in reversed(made.calls) if call.kind == "seen"), Seen((), ()))
    return NodesDecided(
        groups=tuple(_plain(item.planned) for item in made.told if item.planned is not None),
        ended=tuple(item.key for item in made.told if item.planned is None),
        plan=made.plan,
        inputs={topic: dict(positions) for topic, positions in inputs.items()},
        basis=NodesBasis(
            life=made.life,
            config=config,
            state=memories.state_hash(made.after),
            at=made.now_ms,
            down=made.down,
            failed=tuple(made.failed),
            groups=tuple(
                GroupSeen(
                    cluster=item.cluster,
                    group=item.name,
                    size=item.size,
                    least=item.least,
                    most=item.most,
                    price=item.price,
                )
                for item in seen.groups
            ),
            pending=_listed(seen.pending),
            head_room=_listed(seen.head_room),
            document=packed if whole else "",
            whole=whole,
        ),
    )


def _listed(pod_sets: Iterable[PodSet]) -> tuple[PodsPending, ...]:
    return tuple(
        PodsPending(pod_set=item.key, count=item.count, priority=item.priority)
        for item in islice(pod_sets, _MOST_LISTED)
    )


def _plain(planned: NodeGroupPlanned) -> NodeGroupPlanned:
    """What had been read stands in the record once."""
    return planned.model_copy(update={"inputs": {}})


class Derived(NamedTuple):
    """What follows from the basis of a record, as a record; and by the groups' keys the last order before it."""

    record: NodesDecided
    orders_before: dict[str, int]


def derive(record: NodesDecided, terms: Terms, times: Times) -> Derived:
    """Raises ValueError where the record's document cannot be read."""
    basis = record.basis
    try:
        document = _unpacked(basis.document)
        before, calls = memories.read(document["memory"]), trail.read(document)
    except (KeyError, IndexError, TypeError, zlib.error) as error:
        raise ValueError(f"its document cannot be read: {error!r}") from error
    fleet = PlayedFleet(calls)
    plans = NodePlans(fleet, terms.policy, times)
    plans.remember(before)
    steps = plan(plans, terms, basis.at, down=basis.down)
    result = None
    while True:
        try:
            work = steps.send(result)
        except StopIteration:
            break
        result = work.make()
        for item in fleet.reports():
            plans.report(item.report, item.at_ms)
    told = list(plans.told(basis.at, {}))
    plans.plan_told()
    made = record.model_copy(
        update={
            "groups": tuple(item.planned for item in told if item.planned is not None),
            "ended": tuple(item.key for item in told if item.planned is None),
            "plan": plans.plan,
            "basis": basis.model_copy(update={"state": memories.state_hash(plans.memory())}),
        }
    )
    orders = {f"{item.group.cluster}/{item.group.name}": item.told.generation for item in before.orders if item.told}
    return Derived(made, orders)


def _unpacked(text: str) -> Any:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), _MOST_UNPACKED)
    if unpacker.unconsumed_tail:
        raise ValueError("its document is too large")
    return orjson.loads(data)
