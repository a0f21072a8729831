"""`flotilla why nodegroup CLUSTER/GROUP`: why a node group has its size, and why pods get no node.

What is shown is the record that the autoscaler made with its plan (`fleet.nodegroups`); of the past the one in its
decision of that time (`fleet.decisions`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from services.cli.connection import connected, run
from services.cli.past import Until, is_until
from services.cli.reading import latest, records
from shared.events.registry import decode
from shared.events.topics import DECISIONS, NODE_GROUPS, NODES_DECIDED
from shared.events.v1.node_decisions import NodesDecided
from shared.events.v1.node_groups import PLAN_KEY, NodeGroupPlanned, NodesPlanned, SizeChosen
from shared.ports.event_log import Record

NODE_GROUP: Final = "nodegroup"
_out = Console()
_err = Console(stderr=True)


def explain_group(key: str, until: Until | None, *, as_json: bool) -> None:
    """Raises typer.BadParameter, and typer.Exit with code 1 where nothing is known of it."""
    cluster, slash, group = key.partition("/")
    if not slash or not cluster or not group or "/" in group:
        raise typer.BadParameter(f"{key!r} is not CLUSTER/GROUP")
    planned, plan = run(_find(key) if until is None else _find_until(key, until))
    if planned is None:
        _err.print(f"{key}: no plan" + (" of that time, as far as the journal reaches" if until is not None else ""))
        raise typer.Exit(1)
    if as_json:
        _out.print_json(json.dumps(as_document(planned, plan)))
        return
    for line in as_text(planned, plan):
        _out.print(line, highlight=False)


def as_document(planned: NodeGroupPlanned, plan: NodesPlanned | None) -> dict[str, Any]:
    found = {"nodeGroup": planned.model_dump(mode="json", by_alias=True, exclude_none=True)}
    if plan is not None:
        found["plan"] = plan.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def as_text(planned: NodeGroupPlanned, plan: NodesPlanned | None) -> Iterator[str | Table]:
    ordered = f"order {planned.generation}" if planned.generation else "nothing was ordered yet"
    yield f"{planned.cluster}/{planned.group}: {planned.size} nodes, {planned.there} there; {ordered}"
    yield f"  at {_time(planned.planned_at)}: {planned.reason}" + (f": {planned.message}" if planned.message else "")
    if planned.chosen is not None:
        yield from _chosen(planned.chosen)
    for item in planned.removing:
        terms = ", ".join(f"{name} {weight:g} x {value:+g}" for name, (weight, value) in item.terms.items())
        those = f"it and {', '.join(item.beside)}" if item.beside else "it"
        instead = f", in place of {those} one of {item.replacement}" if item.replacement else ""
        yield f"  {item.node} goes since {_time(item.at)}: worth {item.worth:g} ({terms}){instead}"
        for pod, node in item.moves.items():
            yield f"    {pod} to {node or 'the new node'}"
    for kept in planned.kept:
        yield f"  {kept.nodes} stay ({', '.join(kept.such_as)}): {kept.reason}"
    if planned.lacked_at is not None:
        until = _time(planned.lacked_at + planned.closed_ms)
        yield f"  its provider had none at {_time(planned.lacked_at)}: left alone until {until}"
    told = planned.reported
    if told is not None:
        said = f" {told.reason}: {told.message}" if told.reason else ""
        size = f", {told.size} asked of the provider" if told.size is not None else ""
        yield f"  executor, of order {told.generation}: {told.outcome}{said}{size}, {told.ready} ready"
    elif planned.generation:
        yield "  its executor has said nothing of it yet"
    if plan is not None:
        yield from _without_node(plan, planned.cluster)


def _chosen(chosen: SizeChosen) -> Iterator[str | Table]:
    proven = "none is worth more" if chosen.proven else "as far as trials reached"
    yield f"  from {chosen.before} to {chosen.size} at {_time(chosen.at)}, of {chosen.trials} candidates: {proven}"
    beside = f"runner-up {chosen.runner_up}" if chosen.runner_up is not None else "no other was tried"
    table = Table("utility", "weight", f"size {chosen.size}", beside)
    for name, term in chosen.terms.items():
        other = f"{term.beside:g}" if chosen.runner_up is not None else ""
        table.add_row(name, f"{term.weight:g}", f"{term.value:g}", other)
    table.add_row("value", "", f"{chosen.value:g}", f"{chosen.value_beside:g}" if chosen.runner_up is not None else "")
    yield table
    if chosen.unplaced_beside:
        yield f"  with {chosen.runner_up} nodes {chosen.unplaced_beside} pods more would have no place"


def _without_node(plan: NodesPlanned, cluster: str) -> Iterator[str]:
    """The fleet's plan; of limits, those that bind this cluster's groups."""
    yield f"all groups, at {_time(plan.planned_at)}: {plan.waiting} pods waited"
    for item in plan.unplaced:
        yield f"  {item.count} of {item.pod_set} get no node: {item.reason}"
    if plan.left_out:
        yield f"  and {plan.left_out} more pod sets"
    if plan.head_room is not None:
        yield f"  {plan.head_room:.0%} of the head-room has room"
    for limit in plan.limits:
        if limit.cluster in ("", cluster):
            scope = f"cluster {limit.cluster}" if limit.cluster else "the fleet"
            yield f"  {limit.what} of {scope} is at its limit: {limit.most:g} at most, {limit.left:g} were left"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


async def _find(key: str) -> tuple[NodeGroupPlanned | None, NodesPlanned | None]:
    async with connected(NODE_GROUPS) as log:
        told, plan = await latest(log, NODE_GROUPS.name, key), await latest(log, NODE_GROUPS.name, PLAN_KEY)
    return (
        decode(NodeGroupPlanned, told) if told is not None else None,
        decode(NodesPlanned, plan) if plan is not None else None,
    )


def planned_until(
    records: Iterable[Record], key: str, until: Until
) -> tuple[NodeGroupPlanned | None, NodesPlanned | None]:
    """What the last decision on a group says that is not later, and who got no node then; of one that ended nothing."""
    planned, plan = None, None
    for record in records:
        if record.header("ce_type") != NODES_DECIDED.ce_type.encode():
            continue
        decided = decode(NodesDecided, record.value)
        if not is_until(record.offset, decided.basis.at, until):
            continue
        plan = decided.plan
        planned = None if key in decided.ended else planned
        for item in decided.groups:
            if f"{item.cluster}/{item.group}" == key:
                planned = item
    return planned, plan


async def _find_until(key: str, until: Until) -> tuple[NodeGroupPlanned | None, NodesPlanned | None]:
    async with connected(DECISIONS) as log:
        return planned_until([record async for record in records(log, DECISIONS.name, 0)], key, until)
