"""Reading the compacted topics from their start gives exactly what exists."""

from __future__ import annotations

from typing import Any

import orjson

from shared.events.registry import decode
from shared.events.topics import OBJECTS, PLACEMENTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.leases import LEASE_SUBJECT
from shared.events.v1.placements import PlacementPublished
from shared.model.identities import ObjectKey, is_object_key
from tests.simulation.checker.evidence import Evidence, Place, Violation


def check(evidence: Evidence) -> list[Violation]:
    evidence.take()
    return [*_placements(evidence), *_commands(evidence), *_objects(evidence)]


def _placements(evidence: Evidence) -> list[Violation]:
    latest, violations = evidence.journal.latest, []
    published = {
        key: decode(PlacementPublished, record.value) for key, record in evidence.latest(PLACEMENTS.name).items()
    }
    for key in sorted(latest.keys() | published.keys()):
        known, said = latest.get(key), published.get(key)
        if known is None:
            violations.append(Violation("fleet.placements", key, "is there, though the journal ended it"))
        elif said is None:
            violations.append(Violation("fleet.placements", key, "is not there"))
        elif (said.generation, said.placement) != known:
            message = f"generation {said.generation} is there, {known[0]} is the journal's"
            violations.append(Violation("fleet.placements", key, message))
    return violations


def _commands(evidence: Evidence) -> list[Violation]:
    violations = []
    for cluster in evidence.objects:
        wanted: dict[str, tuple[str, int]] = {}
        for offset, placed in evidence.journal.latest.values():
            subject = placed.workload.key.subject
            if any(share.cluster == cluster for pod_set in placed.pod_sets for share in pod_set.shares):
                wanted[subject] = ("run", offset)
            elif cluster in placed.withdrawn:
                wanted[subject] = ("withdraw", offset)
        said = {}
        for subject, record in evidence.latest(commands_topic(cluster).name).items():
            if subject == LEASE_SUBJECT:
                continue
            command = decode(CommandIssued, record.value)
            said[subject] = (command.action, command.generation)
        for subject in sorted(wanted.keys() | said.keys()):
            if wanted.get(subject) != said.get(subject):
                message = f"{said.get(subject)} is there, {wanted.get(subject)} is the journal's"
                violations.append(Violation("fleet.commands", f"{cluster}/{subject}", message))
    return violations


def _objects(evidence: Evidence) -> list[Violation]:
    said: dict[tuple[str, Place], Any] = {}
    violations = []
    for text, record in evidence.latest(OBJECTS.name).items():
        if is_object_key(text):
            key = ObjectKey.parse(text)
            group = f".{key.resource.group}" if key.resource.group else ""
            said[key.cluster, (f"{key.resource.plural}{group}", key.namespace, key.name)] = record.value
    truth = {
        (cluster, place): obj
        for cluster, objects in evidence.objects.items()
        for place, obj in objects.items()
        if place[0] in evidence.watched
    }
    for where in sorted(truth.keys() | said.keys()):
        name = f"{where[0]}/{'/'.join(where[1])}"
        if where not in said:
            violations.append(Violation("fleet.objects", name, "exists, and is not there"))
        elif where not in truth:
            violations.append(Violation("fleet.objects", name, "is there, and does not exist"))
        else:
            obj = truth[where]
            meta = obj["metadata"]
            shown = orjson.loads(said[where])
            if shown != {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}:
                versions = f"{shown['metadata'].get('resourceVersion')} instead of {meta.get('resourceVersion')}"
                violations.append(Violation("fleet.objects", name, f"is not as it exists: version {versions}"))
    return violations
