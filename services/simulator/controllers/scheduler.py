"""The default scheduler: binds pods that name it, says why it cannot, and tries again when something changes.

Nodes are scored as Kubernetes does by default, in short: least allocated, balanced, preferred affinity, fewer pods of
the same controller. The first of equal nodes wins, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from services.simulator.controllers.common import is_finished
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.controllers.scheduling import (
    Amounts,
    NodeInfo,
    NodeTable,
    host_ports,
    node_problems,
    owner_uid,
    pod_requests,
    preference,
    topology_problems,
    untolerated,
    uses_topology,
)
from services.simulator.core.meta import Json, Key, is_deleting, key_of, set_conditions, with_status
from services.simulator.core.state import NODES, PODS, ClusterState
from services.simulator.core.store import Event
from services.simulator.core.subresources import bind

DEFAULT_SCHEDULER = "default-scheduler"
_RETRY = ("retry",)
_COMPONENT = "default-scheduler"


class SchedulerController:
    """Keys are pods, and one that stands for all pods that did not fit."""

    watches = frozenset({PODS, NODES})

    def __init__(self, events: Recorder) -> None:
        self._nodes = NodeTable()
        self._waiting: dict[Key, None] = {}
        self._events = events

    def keys(self, storage: str, event: Event) -> Iterable[Hashable]:
        if storage == NODES:
            self._nodes.on_node(event)
            return (_RETRY,) if self._waiting and _schedulability_changed(event) else ()
        self._nodes.on_pod(event)
        pod = event.item.object
        if event.type == "DELETED":
            self._waiting.pop(key_of(pod), None)
        if event.type == "DELETED" or is_finished(pod):
            return (_RETRY,) if self._waiting and pod["spec"].get("nodeName") else ()
        if pod["spec"].get("nodeName"):
            self._waiting.pop(key_of(pod), None)
            return ()
        return (key_of(pod),) if event.type == "ADDED" or _spec_changed(event) else ()

    def reconcile(self, key: Hashable, work: Work) -> None:
        state = work.state
        if key != _RETRY:
            self._schedule(state, key)  # type: ignore[arg-type]  # every other key is a pod's
            return
        waiting = [(found, name) for name in self._waiting if (found := state.find(PODS, *name)) is not None]
        waiting.sort(key=lambda entry: -int(entry[0]["spec"].get("priority") or 0))
        for _, name in waiting:
            self._schedule(state, name)

    def _schedule(self, state: ClusterState, key: Key) -> None:
        pod = state.find(PODS, *key)
        if pod is None or is_deleting(pod) or is_finished(pod):
            self._waiting.pop(key, None)
            return
        spec = pod["spec"]
        if spec.get("nodeName") or spec.get("schedulerName", DEFAULT_SCHEDULER) != DEFAULT_SCHEDULER:
            return
        if spec.get("schedulingGates"):
            self._say(state, pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
            return
        chosen, message = self._choose(pod)
        if chosen is None:
            self._waiting[key] = None
            self._say(state, pod, "Unschedulable", message)
            return
        self._waiting.pop(key, None)
        assert chosen.node is not None
        node = chosen.node["metadata"]["name"]
        bind(state, state.resource("v1", "Pod"), *key, node)
        self._events.record(pod, "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {node}", _COMPONENT)

    def _choose(self, pod: Json) -> tuple[NodeInfo | None, str]:
        nodes = self._nodes.present()
        wanted, ports = pod_requests(pod["spec"]), host_ports(pod["spec"])
        topology = uses_topology(pod["spec"])
        best: NodeInfo | None = None
        best_score = float("-inf")
        counts: dict[str, int] = {}
        for info in nodes:
            problems = node_problems(pod, wanted, ports, info)
            if not problems and topology:
                problems = topology_problems(pod, info, nodes)
            if problems:
                for problem in problems:
                    counts[problem] = counts.get(problem, 0) + 1
                continue
            score = _score(pod, wanted, info)
            if score > best_score:
                best, best_score = info, score
        return best, "" if best else _explain(len(nodes), counts)

    def _say(self, state: ClusterState, pod: Json, reason: str, message: str) -> None:
        change = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        conditions = set_conditions(pod["status"].get("conditions") or (), [change], state.now)
        if conditions == (pod["status"].get("conditions") or []):
            return
        stored = state.store.replace(PODS, with_status(pod, conditions=conditions))
        if reason == "Unschedulable":
            self._events.record(stored.object, "FailedScheduling", message, _COMPONENT, warning=True)


def _score(pod: Json, wanted: Amounts, info: NodeInfo) -> float:
    """Higher is better; each term is at most 100, as in Kubernetes."""
    used = []
    for name, default in (("cpu", 100), ("memory", 200 * 1024 * 1024)):
        capacity = info.allocatable.get(name, 0)
        asked = info.requested.get(name, 0) + (wanted.get(name) or default)
        used.append(min(asked / capacity, 1.0) if capacity else 1.0)
    least = 100 * (1 - sum(used) / 2)
    balance = 100 * (1 - abs(used[0] - used[1]) / 2)
    spec, node = pod["spec"], info.node
    assert node is not None
    score = least + balance + 2 * preference(spec, node)
    if untolerated(spec.get("tolerations") or (), node, ("PreferNoSchedule",)) is not None:
        score -= 300
    owner = owner_uid(pod)
    return score - 10 * info.owners.get(owner, 0) if owner else score


def _explain(total: int, counts: dict[str, int]) -> str:
    if not total:
        return "no nodes available to schedule pods"
    reasons = ", ".join(sorted(f"{count} {problem}" for problem, count in counts.items()))
    insufficient = any("Insufficient" in problem or "Too many" in problem for problem in counts)
    why = "No preemption victims found for incoming pod" if insufficient else "Preemption is not helpful for scheduling"
    return f"0/{total} nodes are available: {reasons}. preemption: 0/{total} nodes are available: {total} {why}."


def _schedulability_changed(event: Event) -> bool:
    """Heartbeats must not wake every pod that waits."""
    if event.previous is None or event.type == "DELETED":
        return True
    before, after = event.previous.object, event.item.object
    return bool(
        before.get("spec") != after.get("spec")
        or before["metadata"].get("labels") != after["metadata"].get("labels")
        or before.get("status", {}).get("allocatable") != after.get("status", {}).get("allocatable")
    )


def _spec_changed(event: Event) -> bool:
    return event.previous is None or event.previous.object["spec"] is not event.item.object["spec"]
