"""No node is overcommitted by us: what we bound to it never asks for more than it has."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from shared.events.v1.workloads import PodSet
from shared.model.identities import SCHEDULER_NAME
from shared.model.quantities import resource_amount
from tests.simulation.checker.evidence import Evidence, Violation

Json = dict[str, Any]


def check(evidence: Evidence) -> list[Violation]:
    room: dict[tuple[str, str], dict[str, int]] = {}
    bound: dict[tuple[str, str], dict[str, Counter[str]]] = defaultdict(dict)
    violations: dict[tuple[str, str], Violation] = {}
    for write in evidence.history.writes:
        meta = write.object["metadata"]
        if write.resource == "nodes":
            allocatable = write.object.get("status", {}).get("allocatable") or {}
            room[write.cluster, meta["name"]] = {k: resource_amount(k, str(v)) for k, v in allocatable.items()}
        elif write.resource == "pods" and write.object["spec"].get("schedulerName") == SCHEDULER_NAME:
            node = write.object["spec"].get("nodeName")
            if not node:
                continue
            where = (write.cluster, node)
            on_node = bound[where]
            finished = write.object.get("status", {}).get("phase") in {"Succeeded", "Failed"}
            if write.verb == "DELETED" or finished:
                on_node.pop(meta["uid"], None)
                continue
            if meta["uid"] in on_node:
                continue
            on_node[meta["uid"]] = requests_of(write.object)
            asked = sum(on_node.values(), Counter[str]())
            over = {
                name: (amount, room[where].get(name, 0))
                for name, amount in asked.items()
                if where in room and amount > room[where].get(name, 0)
            }
            if over:
                message = f"asked and allocatable: {over} when {meta['name']} was bound"
                violations.setdefault(where, Violation("overcommitted", "/".join(where), message))
    return list(violations.values())


def requests_of(pod: Json) -> Counter[str]:
    total: Counter[str] = Counter({"pods": 1})
    for container in pod["spec"].get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] += resource_amount(name, str(amount))
    return total


def requests_of_replica(pod_set: PodSet) -> Counter[str]:
    """What one of an image, a pod template, or a manifest with one asks for, without its place among `pods`."""
    template = pod_set.template or (pod_set.manifest or {}).get("spec", {}).get("template", {})
    if "spec" in template:
        return requests_of(template) - Counter({"pods": 1})
    requests = pod_set.resources.requests if pod_set.resources is not None else {}
    return Counter({what: resource_amount(what, text) for what, text in requests.items()})
