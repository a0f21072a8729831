"""Nothing is deleted that was not asked: an executor deletes only what a command no longer has.

Or what has pods and runs by a lease: who has none stops it, whatever the command says (`once` judges whether too late).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.events.v1.commands import CommandIssued
from shared.model.identities import APPLIED_BY, APPLIED_BY_LABEL, GENERATION_ANNOTATION
from tests.simulation.checker.clusters import PODS, workload_of
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import Written

Json = dict[str, Any]
_WITH_PODS = frozenset({"deployments", "statefulsets", "replicasets", "jobs"})


def check(evidence: Evidence) -> list[Violation]:
    evidence.take()
    marked: set[str] = set()
    violations: list[Violation] = []
    for write in evidence.history.writes:
        meta = write.object["metadata"]
        deleting = write.verb == "DELETED" or "deletionTimestamp" in meta
        uid = f"{write.cluster}/{meta['uid']}"
        if not deleting or uid in marked:
            continue
        marked.add(uid)
        if write.author.startswith("executor"):
            violations += _judge(evidence, write)
    return violations


def _judge(evidence: Evidence, write: Written) -> Iterator[Violation]:
    obj, meta = write.object, write.object["metadata"]
    where = f"{write.cluster}/{write.resource}/{meta.get('namespace', '')}/{meta['name']}"
    key = workload_of(obj)
    if (meta.get("labels") or {}).get(APPLIED_BY_LABEL) != APPLIED_BY or not key:
        yield Violation("deleted", where, f"is not ours, and {write.author} deleted it")
        return
    annotations = meta.get("annotations") or {}
    since = int(annotations.get(GENERATION_ANNOTATION, 0))
    published = [
        command
        for append, command in evidence.commands(write.cluster, f"workload/{key}")
        if append.at_ms <= write.at_ms and (command is None or command.generation >= since)
    ]
    if not any(_without(command, write) for command in published):
        yield Violation("deleted", where, f"{write.author} deleted it, and no command since {since} was without it")


def _without(command: CommandIssued | None, write: Written) -> bool:
    if command is None or command.action == "withdraw":
        return True
    if command.leased and write.resource.partition(".")[0] in _WITH_PODS:
        return True
    obj, name = write.object, write.object["metadata"]["name"]
    if write.resource == PODS:
        finished = obj.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        groups = {binding.name: (binding.node, group.manifest) for group in command.pods for binding in group.bindings}
        if name in groups:
            node, manifest = groups[name]
            elsewhere = node != obj["spec"].get("nodeName", node)
            return finished or elsewhere or _contents(manifest) != _contents(obj)
    named = {(item.manifest.get("kind"), (item.manifest.get("metadata") or {}).get("name")) for item in command.objects}
    return (obj.get("kind"), name) not in named


def _contents(pod: Json) -> list[tuple[Any, ...]]:
    """What a pod runs: a pod that should run something else is replaced."""
    return [(item.get("image"), (item.get("resources") or {}).get("requests")) for item in pod["spec"]["containers"]]
