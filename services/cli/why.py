"""`flotilla why`: why the replicas of a workload are where they are, and why others wait, now or in the past.

What is shown is the record that stands in the decision itself. The latest is read from `fleet.placements`; an older
one from the journal, for as long as that keeps it. So are the autoscaler's: how many replicas it asks for now says
`fleet.scaling`, what it asked for then its decision of that time.

Exit codes: 0 done, 1 not found, 2 wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.cli.connection import connected, run, workload_key
from services.cli.past import Until, is_until, parse_at
from services.cli.reading import latest, records
from services.cli.why_nodes import NODE_GROUP, explain_group
from services.cli.why_scaling import as_lines, requested_lines, requested_until, scaled_until
from shared.events.registry import decode
from shared.events.topics import DECISIONS, DECISIONS_MADE, EPOCH_STARTED, PLACEMENTS, SCALING, USAGE, WAITING
from shared.events.v1.decisions import DecisionsMade, EpochStarted, PodSetPlacement, Rebalanced, WorkloadPlaced
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.scaling_decisions import ScalingBasis
from shared.events.v1.usage import Requests, UsageLearned
from shared.events.v1.waiting import NodesAwaited
from shared.ports.event_log import EventLog, Record

_out = Console()
_err = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision on a workload, whose generation is its offset in the journal; what the autoscaler said of it, from
    what (of the past alone), what it has learned, and whether nodes come for those that wait (of now alone).
    """

    generation: int
    at_ms: int
    placed: WorkloadPlaced
    scaled: WorkloadScaled | None = None
    learned: UsageLearned | None = None
    basis: ScalingBasis | None = None
    nodes: NodesAwaited | None = None


def why(
    key: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="A workload; or the word nodegroup.")],
    group: Annotated[str, typer.Argument(metavar="[CLUSTER/GROUP]", help="With nodegroup: which one.")] = "",
    at: Annotated[
        str, typer.Option(help="As it was then: a generation, or a time (2026-11-28T12:00:00Z); UTC unless it says.")
    ] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> None:
    """Show why a workload's replicas are where they are, and why others wait; or why a node group has its size."""
    try:
        until = parse_at(at) if at else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if group:
        if key != NODE_GROUP:
            raise typer.BadParameter(f"{group!r}: only {NODE_GROUP} is followed by another name")
        explain_group(group, until, as_json=output == "json")
        return
    wanted = workload_key(key)
    found = run(_find(str(wanted), until))
    if found is None:
        _err.print(f"{wanted}: no decision" + (f" at {at}, as far as the journal reaches" if at else ""))
        raise typer.Exit(1)
    if output == "json":
        _out.print_json(json.dumps(as_document(found)))
        return
    for line in as_text(found):
        _out.print(line, highlight=False)


def decided_until(records: Iterator[Record], key: str, until: Until) -> Decided | None:
    """The last decision on a workload in one partition of the journal that counts and is not later."""
    epoch, leader, found = 0, "", None
    for record in records:
        kind = (record.header("ce_type") or b"").decode()
        if kind == EPOCH_STARTED.ce_type:
            marker = decode(EpochStarted, record.value)
            if marker.epoch > epoch:
                epoch, leader = marker.epoch, marker.leader
        elif kind == DECISIONS_MADE.ce_type:
            entry = decode(DecisionsMade, record.value)
            if not epoch:
                # The marker of its epoch is no longer kept.
                epoch, leader = entry.epoch, entry.leader
            if (entry.epoch, entry.leader) != (epoch, leader) or not is_until(record.offset, entry.decided_at, until):
                continue
            for decision in entry.decisions:
                if decision.kind == "placed" and str(decision.workload.key) == key:
                    found = Decided(record.offset, entry.decided_at, decision)
                elif decision.kind == "forgotten" and decision.key == key:
                    found = None
    return found


def as_document(found: Decided) -> dict[str, Any]:
    placed = found.placed
    scaled = {"scaling": found.scaled.model_dump(mode="json", by_alias=True)} if found.scaled is not None else {}
    return {
        "workload": str(placed.workload.key),
        "generation": found.generation,
        "decidedAt": found.at_ms,
        "deleting": placed.deleting,
        "podSets": [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in placed.pod_sets],
        **scaled,
        **({"scalingBasis": found.basis.model_dump(mode="json", by_alias=True)} if found.basis is not None else {}),
        **({"recommended": _recommended(found.learned)} if found.learned is not None else {}),
        **({"nodes": found.nodes.model_dump(mode="json", by_alias=True)} if found.nodes is not None else {}),
    }


def as_text(found: Decided) -> Iterator[str | Table]:
    placed, time = found.placed, datetime.fromtimestamp(found.at_ms / 1000, UTC)
    yield f"{placed.workload.key}: generation {found.generation}, decided at {time:%Y-%m-%dT%H:%M:%SZ}"
    if placed.deleting:
        yield "it is being deleted"
    if (most := placed.workload.placement.max_price_per_hour) is not None:
        cost = sum(item.price_per_hour or 0.0 for item in placed.pod_sets)
        yield f"costs {cost:.6g} an hour, and may cost {most:g}"
    if found.scaled is not None:
        yield from as_lines(found.scaled, found.basis)
    for item in placed.pod_sets:
        where = ", ".join(f"{share.replicas} in {share.cluster}" for share in item.shares) or "none"
        yield f"pod set {item.name}: {item.placed} of {item.desired} replicas have a place: {where}"
        if item.price_per_hour is not None:
            yield f"  they cost {item.price_per_hour:.6g} an hour"
        if item.reason:
            yield f"  others wait: {item.reason}: {item.message}"
        if item.requested is not None:
            yield from requested_lines(item.requested)
        if item.rebalanced is not None:
            yield _moved(item.rebalanced)
        yield from _reasons(item)
    yield from _coming(found.nodes)
    yield from _requests(found.learned)


def _recommended(learned: UsageLearned) -> dict[str, Any]:
    """By pod set and container."""
    return {
        pod_set.name: {
            container.name: container.recommended.model_dump(mode="json", by_alias=True)
            for container in pod_set.containers
        }
        for pod_set in learned.pod_sets
    }


def _coming(nodes: NodesAwaited | None) -> Iterator[str]:
    """Whether nodes come, and since which plan that is so."""
    if nodes is None:
        return
    time = datetime.fromtimestamp(nodes.planned_at / 1000, UTC)
    comes = "nodes come" if nodes.coming else "not enough nodes come"
    yield f"{comes} for those that wait, since {time:%Y-%m-%dT%H:%M:%SZ}: {nodes.reason}: {nodes.message}"


def _requests(learned: UsageLearned | None) -> Iterator[str]:
    """What containers should request, by what they used."""
    for pod_set in learned.pod_sets if learned is not None else ():
        for container in pod_set.containers:
            made = container.recommended
            days = (container.last - container.first) / 86_400_000
            yield (
                f"container {container.name} of pod set {pod_set.name}: should request cpu {made.target.cpu}m "
                f"({made.lower.cpu}m to {made.upper.cpu}m), memory {_mebi(made.target)} ({_mebi(made.lower)} to "
                f"{_mebi(made.upper)}), by {container.samples} samples of {days:.1f} days"
            )


def _mebi(requests: Requests) -> str:
    return f"{-(-requests.memory // 2**20)}Mi"


def _moved(moved: Rebalanced) -> str:
    """Why a replica moved to a better place."""
    time, source = datetime.fromtimestamp(moved.at / 1000, UTC), f"{moved.from_cluster}/{moved.from_node}"
    why = "terms want it there" if moved.by_terms else f"more than {moved.minimum_gain:g}"
    costs = f"costs {moved.cost_before:g}, there {moved.cost:g}: a gain of {moved.gain:g}, {why}"
    state = {"moving": "is moving", "moved": "moved", "failed": "could not move"}[moved.state]
    target = f"{moved.cluster}/{moved.node}"
    return f"  {moved.reason}: at {time:%Y-%m-%dT%H:%M:%SZ} a replica of {source} {state} to {target}: {costs}"


def _reasons(item: PodSetPlacement) -> Iterator[str | Table]:
    if item.why is None:
        return
    for choice in item.why.choices:
        beside = f"runner-up {choice.runner_up_cluster}/{choice.runner_up}" if choice.runner_up else "no other passed"
        table = Table(f"{choice.cluster}/{choice.node}", "weight", "here", beside)
        for name, (weight, value, other) in choice.terms.items():
            table.add_row(name, f"{weight:g}", f"{value:g}", f"{other:g}" if choice.runner_up else "")
        other_cost = f"{choice.runner_up_cost:g}" if choice.runner_up_cost is not None else ""
        table.add_row("cost", "", f"{choice.cost:g}", other_cost)
        yield table
    if item.why.refusals:
        table = Table("cluster", "node class", "nodes", "filter", "reason", "the closest lacks")
        for refusal in item.why.refusals:
            short = ", ".join(f"{name} {amount}" for name, amount in refusal.short.items())
            lacks = f"{refusal.closest}: {short}" if short else ""
            names = (refusal.cluster, refusal.node_class, str(refusal.nodes), refusal.filter)
            table.add_row(*names, refusal.reason, lacks)
        yield table
        if item.why.left_out:
            yield f"  and {item.why.left_out} more groups of nodes"


async def _find(key: str, until: Until | None) -> Decided | None:
    async with connected(PLACEMENTS, DECISIONS) as log:
        if until is not None:
            return await _find_until(log, key, until)
        value = await latest(log, PLACEMENTS.name, key)
        newest = decode(PlacementPublished, value) if value is not None else None
        if newest is None or newest.placement is None:
            return None
        uid = newest.placement.uid
        workload = newest.placement.workload
        followed = workload.scaling is not None or workload.vertical is not None
        said = await latest(log, SCALING.name, key) if followed else None
        scaled = decode(WorkloadScaled, said) if said is not None else None
        used = await latest(log, USAGE.name, key)
        learned = decode(UsageLearned, used) if used is not None else None
        awaited = await latest(log, WAITING.name, key)
        nodes = decode(NodesAwaited, awaited) if awaited is not None else None
        return Decided(
            newest.generation,
            newest.decided_at,
            newest.placement,
            scaled if scaled is not None and scaled.uid == uid else None,
            learned if learned is not None and learned.uid == uid else None,
            nodes=nodes if nodes is not None and nodes.uid == uid else None,
        )


async def _find_until(log: EventLog, key: str, until: Until) -> Decided | None:
    """The last decision of all cells, with that of the autoscaler, which stands in the first cell's journal."""
    last: Decided | None = None
    first: list[Record] = []
    for cell in range(len(await log.partitions(DECISIONS.name))):
        journal = [record async for record in records(log, DECISIONS.name, cell)]
        first = first if cell else journal
        found = decided_until(iter(journal), key, until)
        if found is not None and (last is None or found.at_ms > last.at_ms):
            last = found
    if last is None:
        return None
    made, requested = scaled_until(first, last.placed, until), requested_until(first, last.placed, until)
    scaled = made.scaled if made is not None else None
    if requested is not None:
        # As both stand in one record of `fleet.scaling`.
        known = scaled or WorkloadScaled(
            uid=requested.uid,
            workload_generation=last.placed.workload_generation,
            evaluated_at=requested.basis.at,
            pod_sets=(),
        )
        scaled = known.model_copy(update={"requests": requested.requests})
    return replace(last, scaled=scaled, basis=made.basis if made is not None else None)
