"""Every cluster runs what the journal gave it, all of it, and nothing else of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.workloads import Binding
from shared.model.identities import (
    APPLIED_BY,
    APPLIED_BY_LABEL,
    POD_SET_LABEL,
    WORKLOAD_LABEL,
    WORKLOAD_NAMESPACE_LABEL,
)
from tests.simulation.checker.evidence import Evidence, Place, Violation

Json = dict[str, Any]
PODS = "pods"
_DIVIDED = frozenset({"Deployment", "StatefulSet", "ReplicaSet"})


def check(evidence: Evidence) -> list[Violation]:
    evidence.take()
    violations: list[Violation] = []
    for cluster, objects in evidence.objects.items():
        violations += _strays(cluster, objects, evidence)
        for key, (_, placed) in evidence.journal.latest.items():
            violations += _placed(cluster, objects, key, placed)
    return violations


def workload_of(obj: Json) -> str:
    """Whose object this is by its labels; empty if nobody's."""
    labels = obj["metadata"].get("labels") or {}
    name = labels.get(WORKLOAD_LABEL, "")
    return f"{labels.get(WORKLOAD_NAMESPACE_LABEL, '')}/{name}" if name else ""


def is_alive(pod: Json) -> bool:
    """Whether a pod is there to stay: neither terminating nor finished."""
    finished = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return "deletionTimestamp" not in pod["metadata"] and not finished


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def is_unschedulable(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(item["type"] == "PodScheduled" and item["status"] == "False" for item in conditions)


def _strays(cluster: str, objects: Mapping[Place, Json], evidence: Evidence) -> Iterator[Violation]:
    """What we applied, or bound, though nobody wants it here."""
    for place, obj in objects.items():
        labels = obj["metadata"].get("labels") or {}
        key = workload_of(obj)
        if labels.get(APPLIED_BY_LABEL) != APPLIED_BY or not key:
            continue
        known = evidence.journal.latest.get(key)
        shares = (
            {(pod_set.name, share.cluster): share for pod_set in known[1].pod_sets for share in pod_set.shares}
            if known is not None
            else {}
        )
        share = shares.get((labels.get(POD_SET_LABEL, ""), cluster))
        where = f"{cluster}/{'/'.join(place)}"
        if known is None or share is None:
            yield Violation("stray", where, f"nobody wants {key} here")
        elif place[0] == PODS and known[1].workload.placement.binding is Binding.NODE:
            ordinals = {f"{known[1].workload.name}-{labels[POD_SET_LABEL]}-{ordinal}" for ordinal in share.ordinals}
            if place[2] not in ordinals:
                yield Violation("stray", where, f"{key} has no such replica here")


def _placed(cluster: str, objects: Mapping[Place, Json], key: str, placed: WorkloadPlaced) -> Iterator[Violation]:
    pods = [obj for place, obj in objects.items() if place[0] == PODS and workload_of(obj) == key]
    alive = Counter((pod["metadata"].get("labels") or {}).get(POD_SET_LABEL, "") for pod in pods if is_alive(pod))
    manifests = {pod_set.name: pod_set.manifest for pod_set in placed.workload.pod_sets}
    for pod_set in placed.pod_sets:
        share = next((share for share in pod_set.shares if share.cluster == cluster), None)
        manifest = manifests.get(pod_set.name)
        name = f"{placed.workload.name}-{pod_set.name}"
        where = f"{cluster}/{key}/{pod_set.name}"
        if share is not None and share.leaving:
            yield Violation("leaving", where, f"{share.leaving} of {share.replicas} replicas wait to leave")
        if placed.workload.placement.binding is Binding.NODE:
            yield from _bound(where, name, share.ordinals if share else (), share.nodes if share else (), pods)
        elif manifest is None or manifest.get("kind") in _DIVIDED:
            wanted = share.replicas if share else 0
            # A rolling update that finds no room for its surge waits for ever, as it does in any cluster.
            stuck = sum(1 for pod in pods if is_unschedulable(pod) and is_alive(pod))
            surge = -(-wanted // 4) if stuck else 0
            if not wanted <= alive[pod_set.name] <= wanted + surge:
                yield Violation("replicas", where, f"{alive[pod_set.name]} pods run instead of {wanted}")
        elif share is not None:
            given = (manifest.get("metadata") or {}).get("name") or name
            if not any(place[2] == given and obj["kind"] == manifest["kind"] for place, obj in objects.items()):
                yield Violation("missing", where, f"there is no {manifest['kind']} {given}")


def _bound(
    where: str, name: str, ordinals: tuple[int, ...], nodes: tuple[str, ...], pods: list[Json]
) -> Iterator[Violation]:
    found = {pod["metadata"]["name"]: pod for pod in pods}
    for ordinal, node in zip(ordinals, nodes, strict=True):
        pod = found.get(f"{name}-{ordinal}")
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            yield Violation("missing", f"{where}/{ordinal}", "the replica does not run")
        elif pod["spec"].get("nodeName") != node:
            message = f"runs on {pod['spec'].get('nodeName')} instead of {node}"
            yield Violation("replicas", f"{where}/{ordinal}", message)
