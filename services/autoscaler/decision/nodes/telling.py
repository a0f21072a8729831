"""What is told of a plan (`fleet.nodegroups`), and the command that follows from an order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from services.autoscaler.decision.nodes.growing import Growth, SizeChoice
from services.autoscaler.decision.nodes.seen import NodeKey, Seen
from services.autoscaler.decision.nodes.shrinking import Removal, Shrinkage
from shared.events.v1.clusters import NodeGroup as DeclaredGroup
from shared.events.v1.commands import CommandIssued, NodeGroupOrder
from shared.events.v1.node_groups import (
    LimitReached,
    NodeGroupPlanned,
    NodeRemoval,
    NodesKept,
    NodesPlanned,
    PodsWithoutNode,
    SizeChosen,
    UtilityTerm,
)
from shared.model.identities import NODE_GROUP_SUBJECT

# Of what a record lists.
_MOST_LISTED = 16
_MOST_NAMES = 4
_MOST_MOVES = 32


def order_of(declared: DeclaredGroup, size: int, removing: Iterable[str]) -> NodeGroupOrder:
    return NodeGroupOrder(
        group=declared.name,
        provider=declared.provider,
        template=declared.template,
        size=size,
        remove=tuple(sorted(removing)),
    )


def digest_of(order: NodeGroupOrder) -> str:
    """Equal for equal orders."""
    return hashlib.sha256(b"run" + order.to_json()).hexdigest()


def command_of(planned: NodeGroupPlanned) -> CommandIssued:
    order = NodeGroupOrder(
        group=planned.group,
        provider=planned.provider,
        template=planned.template,
        size=planned.size,
        remove=tuple(item.node for item in planned.removing),
    )
    return CommandIssued(
        cluster=planned.cluster,
        subject=f"{NODE_GROUP_SUBJECT}{planned.group}",
        namespace="",
        epoch=planned.epoch,
        generation=planned.generation,
        digest=planned.digest,
        action="run",
        node_group=order,
    )


def chosen(choice: SizeChoice, growth: Growth, now_ms: int) -> SizeChosen:
    return SizeChosen(
        before=choice.before,
        size=choice.size,
        value=choice.value,
        terms={
            name: UtilityTerm(weight=term.weight, value=term.value, beside=term.beside)
            for name, term in choice.terms.items()
        },
        runner_up=choice.runner_up,
        value_beside=choice.value_beside,
        unplaced_beside=choice.unplaced_beside,
        proven=growth.proven,
        trials=growth.trials,
        at=now_ms,
    )


def removal_of(removal: Removal, now_ms: int) -> NodeRemoval:
    return NodeRemoval(
        node=removal.node.name,
        at=now_ms,
        worth=removal.worth,
        terms=removal.terms,
        moves={move.pod: move.to.name if move.to is not None else "" for move in removal.moves[:_MOST_MOVES]},
        replacement=removal.replacement.name if removal.replacement is not None else "",
        beside=tuple(key.name for key in removal.beside),
    )


def kept_of(shrinkage: Shrinkage, nodes: Iterable[NodeKey]) -> tuple[NodesKept, ...]:
    """Why nodes stay, by reason; the reasons of most nodes first."""
    found: dict[str, list[str]] = {}
    for key in sorted(nodes):
        if key in shrinkage.kept:
            found.setdefault(shrinkage.kept[key], []).append(key.name)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        NodesKept(reason=reason, nodes=len(names), such_as=tuple(names[:_MOST_NAMES]))
        for reason, names in ordered[:_MOST_LISTED]
    )


def plan_of(seen: Seen, growth: Growth, now_ms: int) -> NodesPlanned:
    unplaced = growth.unplaced
    return NodesPlanned(
        planned_at=now_ms,
        waiting=sum(item.count for item in seen.pending),
        added_price=growth.added_price,
        unplaced=tuple(
            PodsWithoutNode(pod_set=item.pod_set, count=item.count, reason=item.reason)
            for item in unplaced[:_MOST_LISTED]
        ),
        left_out=max(0, len(unplaced) - _MOST_LISTED),
        head_room=growth.head_room if seen.head_room else None,
        limits=tuple(
            LimitReached(cluster=limit.cluster, what=limit.what, most=limit.most, left=limit.left)
            for limit in growth.limits[:_MOST_LISTED]
        ),
    )
