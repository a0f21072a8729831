"""No write by a stale epoch takes effect: not in the topics derived from the journal, not in the clusters."""

from __future__ import annotations

from collections.abc import Iterator

from shared.events.registry import decode
from shared.events.topics import PLACEMENTS
from shared.events.v1.placements import PlacementPublished
from shared.model.identities import GENERATION_ANNOTATION
from tests.simulation.checker.clusters import workload_of
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import Appended


def check(evidence: Evidence) -> list[Violation]:
    evidence.take()
    return [*_placements(evidence), *_commands(evidence), *_applied(evidence)]


def _placements(evidence: Evidence) -> Iterator[Violation]:
    for append in evidence.history.appends:
        if append.topic == PLACEMENTS.name and append.value is not None:
            said = decode(PlacementPublished, append.value)
            if said.placement is not None:
                yield from _derived(evidence, append, (append.key or b"").decode(), said.epoch, said.generation)


def _commands(evidence: Evidence) -> Iterator[Violation]:
    for cluster in evidence.objects:
        for key in {workload for _, workload in evidence.journal.decided}:
            for append, command in evidence.commands(cluster, f"workload/{key}"):
                if command is not None:
                    yield from _derived(evidence, append, key, command.epoch, command.generation)


def _derived(evidence: Evidence, append: Appended, key: str, epoch: int, generation: int) -> Iterator[Violation]:
    journal = evidence.journal
    where = f"{append.topic}/{append.partition}/{append.offset}"
    if (generation, key) not in journal.decided:
        yield Violation("stale epoch", where, f"{key} at {generation}: the journal has no valid decision there")
    elif journal.epochs[generation] != epoch:
        yield Violation("stale epoch", where, f"{key} at {generation}: epoch {epoch} did not decide that")


def _applied(evidence: Evidence) -> Iterator[Violation]:
    """Of one object, the generation that it carries never goes back, and is always one that was decided."""
    carried: dict[str, int] = {}
    for write in evidence.history.writes:
        meta = write.object["metadata"]
        text = (meta.get("annotations") or {}).get(GENERATION_ANNOTATION)
        key = workload_of(write.object)
        if write.verb == "DELETED" or text is None or not key or not write.author:
            continue
        generation, uid = int(text), f"{write.cluster}/{meta['uid']}"
        where = f"{write.cluster}/{write.resource}/{meta.get('namespace', '')}/{meta['name']}"
        if (generation, key) not in evidence.journal.decided:
            yield Violation("stale epoch", where, f"carries generation {generation}, which was never decided")
        if generation < carried.get(uid, 0):
            yield Violation("stale write", where, f"generation {generation} was written over {carried[uid]}")
        carried[uid] = max(generation, carried.get(uid, 0))
