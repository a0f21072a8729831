"""What is told of workloads while they come and go: refusals always, `Running` and `Deleted` never before it is so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from shared.events.registry import decode
from shared.events.topics import EVENTS, PLACEMENTS
from shared.events.v1.decisions import RequestRejected, WorkloadPlaced
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.status import Phase, WorkloadPhaseChanged
from shared.model.identities import POD_SET_LABEL
from tests.simulation.checker.clusters import PODS, is_ready, workload_of
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import Written

Json = dict[str, Any]
# Workload, pod set, image
_Kind = tuple[str, str, str]


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    yield from _refusals(evidence)
    yield from _running(evidence)
    yield from _deleted(evidence)


def _refusals(evidence: Evidence) -> Iterator[Violation]:
    """Every refusal is published beside the placements; where there was no workload, it is a phase as well."""
    published, told = set(), set()
    for append in evidence.history.appends:
        if append.topic == PLACEMENTS.name and append.value is not None:
            refusal = decode(PlacementPublished, append.value).rejection
            if refusal is not None:
                published.add(refusal.request.position)
        elif append.topic == EVENTS.name:
            event = decode(WorkloadPhaseChanged, append.value)
            if event.phase is Phase.REJECTED:
                told.add(event.request_id)
    for position, outcomes in evidence.journal.outcomes.items():
        for outcome in outcomes:
            decision = outcome.decision
            if not isinstance(decision, RequestRejected) or _superseded(evidence, decision.key, outcome.offset):
                continue
            if position not in published:
                yield Violation("untold", position, f"the refusal of {decision.key} was never published")
            elif decision.key not in evidence.journal.latest and decision.request.id not in told:
                yield Violation("untold", position, f"{decision.key} was never said to be rejected")


def _superseded(evidence: Evidence, key: str, offset: int) -> bool:
    """Whether something was decided later that says more: only the latest state of a workload is promised."""
    later = [at for at, workload in evidence.journal.decided if workload == key and at > offset]
    refused = [
        outcome.offset
        for outcomes in evidence.journal.outcomes.values()
        for outcome in outcomes
        if outcome.decision.kind == "rejected" and outcome.decision.key == key and outcome.offset > offset
    ]
    return bool(later or refused or evidence.journal.forgotten.get(key, -1) > offset)


def _running(evidence: Evidence) -> Iterator[Violation]:
    """When a workload is said to run, as many pods of its present image have been ready as are asked for."""
    writes = iter(evidence.history.writes)
    write = next(writes, None)
    ready: dict[_Kind, set[str]] = defaultdict(set)
    for append in evidence.history.appends:
        if append.topic != EVENTS.name:
            continue
        while write is not None and write.at_ms <= append.at_ms:
            _note(ready, write)
            write = next(writes, None)
        event = decode(WorkloadPhaseChanged, append.value)
        if event.phase is Phase.RUNNING:
            key = f"{event.namespace}/{event.name}"
            placed = evidence.journal.decided.get((event.generation, key))
            if placed is not None:
                yield from _judge(ready, key, placed)


def _deleted(evidence: Evidence) -> Iterator[Violation]:
    """A workload is said to be gone when the journal has ended it, or placed another of its name."""
    for append in evidence.history.appends:
        if append.topic != EVENTS.name:
            continue
        event = decode(WorkloadPhaseChanged, append.value)
        if event.phase is Phase.DELETED and evidence.journal.ended.get(event.uid, append.at_ms + 1) > append.at_ms:
            key = f"{event.namespace}/{event.name}"
            yield Violation("ended early", key, f"{event.uid} is said to be {event.reason}, and was not ended")


def _note(ready: dict[_Kind, set[str]], write: Written) -> None:
    if write.resource == PODS and is_ready(write.object) and (key := workload_of(write.object)):
        meta, containers = write.object["metadata"], write.object["spec"]["containers"]
        kind = (key, meta["labels"].get(POD_SET_LABEL, ""), containers[0].get("image", ""))
        ready[kind].add(f"{write.cluster}/{meta['uid']}")


def _judge(ready: dict[_Kind, set[str]], key: str, placed: WorkloadPlaced) -> Iterator[Violation]:
    desired = {item.name: item.desired for item in placed.pod_sets}
    for pod_set in placed.workload.pod_sets:
        if pod_set.image is None:
            continue
        seen = len(ready[key, pod_set.name, pod_set.image])
        if seen < desired.get(pod_set.name, 0):
            message = f"is said to run {desired[pod_set.name]} of {pod_set.image}, and {seen} were ever ready"
            yield Violation("running early", f"{key}/{pod_set.name}", message)
