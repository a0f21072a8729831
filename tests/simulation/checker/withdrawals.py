"""What an executor reports as withdrawn is gone, not merely asked to go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from shared.events.registry import decode
from shared.events.topics import RESULTS
from shared.events.v1.results import CommandReported
from shared.model.identities import GENERATION_ANNOTATION, SUBJECT_ANNOTATION
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import Written

Json = dict[str, Any]
_Present = dict[tuple[str, str], dict[str, Json]]


def check(evidence: Evidence) -> Iterator[Violation]:
    """By cluster and subject: which applied objects there are, and what is said of them."""
    writes = iter(evidence.history.writes)
    write = next(writes, None)
    present: _Present = defaultdict(dict)
    for append in evidence.history.appends:
        while write is not None and write.at_ms <= append.at_ms:
            _note(present, write)
            write = next(writes, None)
        if append.topic == RESULTS.name:
            report = decode(CommandReported, append.value)
            if report.outcome == "withdrawn":
                yield from _judge(present[report.cluster, report.subject], report)


def _note(present: _Present, write: Written) -> None:
    meta = write.object["metadata"]
    subject = (meta.get("annotations") or {}).get(SUBJECT_ANNOTATION)
    # What a controller made of an object copies its annotations, and goes behind it in its own time.
    if subject is None or any(owner.get("controller") for owner in meta.get("ownerReferences") or ()):
        return
    objects = present[write.cluster, subject]
    if write.verb == "DELETED":
        objects.pop(meta["uid"], None)
    else:
        objects[meta["uid"]] = write.object


def _judge(objects: dict[str, Json], report: CommandReported) -> Iterator[Violation]:
    for obj in objects.values():
        meta = obj["metadata"]
        if int(meta["annotations"].get(GENERATION_ANNOTATION, 0)) <= report.generation:
            where = f"{report.cluster}/{report.subject}"
            message = f"{obj['kind']} {meta['name']} is there when {report.generation} is reported as withdrawn"
            yield Violation("withdrawn early", where, message)
