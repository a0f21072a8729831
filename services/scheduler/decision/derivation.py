"""From the journal to `fleet.placements` and `fleet.commands.<cluster>`, purely.

The same journal gives the same records, whoever derives them and how often. The generation of what is derived is the
offset of its decision. A tombstone has one too, since it may be repeated behind what came after it. What ends is named
by the decision that ends it (`retired`): who derives anew, after a crash, may know of the placement before it no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import NamedTuple

from services.scheduler.decision.asked.rendering import render_commands
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import DecisionsMade, RequestRejected, WorkloadForgotten, WorkloadPlaced
from shared.events.v1.leases import LEASE_SUBJECT
from shared.events.v1.placements import PlacementPublished
from shared.model.built import built
from shared.model.identities import WORKLOAD_SUBJECT


class PlacementRecord(NamedTuple):
    """A record of `fleet.placements`; without a placement it is a tombstone."""

    key: str
    placement: PlacementPublished | None
    generation: int
    traceparent: str = ""


class CommandRecord(NamedTuple):
    """A record of `fleet.commands.<cluster>`; without a command it is a tombstone."""

    cluster: str
    subject: str
    command: CommandIssued | None
    generation: int
    traceparent: str = ""


Derived = PlacementRecord | CommandRecord
_placement = built(PlacementPublished, ("epoch", "generation", "decided_at", "placement"))


def fold_published(published: MutableMapping[str, PlacementPublished], batch: DecisionsMade, offset: int) -> None:
    """Keeps `published`, by workload, as `fleet.placements` will be once this batch is published."""
    for decision in batch.decisions:
        if isinstance(decision, WorkloadForgotten):
            published.pop(decision.key, None)
        elif isinstance(decision, WorkloadPlaced):
            published[decision.workload.key_text] = _published(decision, batch, offset)
        elif decision.key in published:
            published[decision.key] = published[decision.key].model_copy(update={"rejection": decision})


def derive(published: MutableMapping[str, PlacementPublished], batch: DecisionsMade, offset: int) -> Iterator[Derived]:
    """What one valid batch of the journal means; folds it into `published`.

    `published` may be ahead of the batch, after a crash or a takeover: what it supersedes is left out, since its own
    batch is yet to come.
    """
    for decision in batch.decisions:
        key = decision.workload.key_text if isinstance(decision, WorkloadPlaced) else decision.key
        previous = published.get(key)
        if previous is not None and previous.generation > offset:
            if not isinstance(decision, RequestRejected):
                still = previous.placement.commanded if previous.placement is not None else set()
                yield from _retired(key, decision.retired, still, offset)
            continue
        match decision:
            case WorkloadPlaced():
                published[key] = _published(decision, batch, offset)
                yield from _placed(key, published[key], decision, previous)
            case RequestRejected():
                yield from _rejected(published, decision, batch, offset)
            case WorkloadForgotten():
                published.pop(key, None)
                before = previous.placement if previous is not None else None
                clusters = dict.fromkeys((*(before.withdrawn if before is not None else ()), *decision.retired))
                yield from _retired(key, clusters, set(decision.unconfirmed), offset)
                yield PlacementRecord(key, None, offset)
    for granted in batch.leases:
        answer = CommandIssued(
            cluster=granted.cluster,
            subject=LEASE_SUBJECT,
            namespace=LEASE_SUBJECT,
            epoch=batch.epoch,
            generation=offset,
            digest="",
            action="run",
            lease=granted,
        )
        yield CommandRecord(granted.cluster, LEASE_SUBJECT, answer, offset)


def _published(placed: WorkloadPlaced, batch: DecisionsMade, offset: int) -> PlacementPublished:
    return _placement({"epoch": batch.epoch, "generation": offset, "decided_at": batch.decided_at, "placement": placed})


def _placed(
    key: str, current: PlacementPublished, placed: WorkloadPlaced, previous: PlacementPublished | None
) -> Iterator[Derived]:
    trace = placed.request.traceparent
    yield PlacementRecord(key, current, current.generation, trace)
    for command in render_commands(placed, current.epoch, current.generation):
        yield CommandRecord(command.cluster, command.subject, command, command.generation, trace)
    before = previous.placement.withdrawn if previous is not None and previous.placement is not None else ()
    yield from _retired(key, dict.fromkeys((*before, *placed.retired)), placed.commanded, current.generation)


def _rejected(
    published: MutableMapping[str, PlacementPublished], rejected: RequestRejected, batch: DecisionsMade, offset: int
) -> Iterator[Derived]:
    previous = published.get(rejected.key)
    trace = rejected.request.traceparent
    if previous is None:
        refusal = PlacementPublished(
            epoch=batch.epoch, generation=offset, decided_at=batch.decided_at, rejection=rejected
        )
        yield PlacementRecord(rejected.key, refusal, offset, trace)
        yield PlacementRecord(rejected.key, None, offset, trace)
        return
    current = previous.model_copy(update={"rejection": rejected})
    published[rejected.key] = current
    yield PlacementRecord(rejected.key, current, current.generation, trace)


def _retired(key: str, clusters: Iterable[str], still: set[str], offset: int) -> Iterator[CommandRecord]:
    """Tombstones for clusters that were withdrawn and have confirmed it; not where a command is to stand."""
    for cluster in clusters:
        if cluster not in still:
            yield CommandRecord(cluster, f"{WORKLOAD_SUBJECT}{key}", None, offset)
