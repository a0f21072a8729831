"""PodDisruptionBudget: how many healthy pods there are, and how many may be evicted.

Source: k8s.io/kubernetes/pkg/controller/disruption. A percentage is of the pods that match, without asking their
controllers how many they want.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import cast

from services.simulator.controllers.common import is_finished, round_percentage, store_status
from services.simulator.controllers.engine import Work
from services.simulator.core.meta import Json, Key, is_deleting, key_of, labels_of, set_conditions
from services.simulator.core.selectors import label_selector
from services.simulator.core.state import PODS, ClusterState
from services.simulator.core.store import Event
from services.simulator.core.subresources import PDBS, is_healthy


class DisruptionController:
    """Keys are budgets, or a namespace (with an empty name) whose pods have changed."""

    watches = frozenset({PDBS, PODS})

    def __init__(self, state: ClusterState) -> None:
        self._budgets = state.store.collection(PDBS)

    def keys(self, storage: str, event: Event) -> Iterable[Key]:
        if storage == PDBS:
            return () if event.type == "DELETED" else (key_of(event.item.object),)
        namespace = event.item.object["metadata"]["namespace"]
        return ((namespace, ""),) if namespace in self._budgets.spaces else ()

    def reconcile(self, key: Hashable, work: Work) -> None:
        namespace, name = cast("Key", key)
        state = work.state
        names = [name] if name else list(self._budgets.spaces.get(namespace, ()))
        for found in names:
            budget = state.find(PDBS, namespace, found)
            if budget is not None:
                self._report(state, budget)

    def _report(self, state: ClusterState, budget: Json) -> None:
        spec, namespace = budget["spec"], budget["metadata"]["namespace"]
        matches = label_selector(spec.get("selector"))
        pods = [
            item.object
            for item in state.items(PODS, namespace)
            if matches(labels_of(item.object)) and not is_finished(item.object)
        ]
        expected = sum(not is_deleting(pod) for pod in pods)
        if "maxUnavailable" in spec:
            desired = max(expected - round_percentage(spec["maxUnavailable"], expected, up=True), 0)
        else:
            desired = round_percentage(spec.get("minAvailable", 1), expected, up=True)
        healthy = sum(map(is_healthy, pods))
        allowed = max(healthy - desired, 0)
        before = budget.get("status") or {}
        enough = allowed > 0
        entry = {
            "type": "DisruptionAllowed",
            "status": "True" if enough else "False",
            "observedGeneration": budget["metadata"]["generation"],
            "reason": "SufficientPods" if enough else "InsufficientPods",
            "message": "",
        }
        status: Json = {
            "conditions": set_conditions(before.get("conditions") or (), [entry], state.now),
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
            "expectedPods": expected,
            "observedGeneration": budget["metadata"]["generation"],
        }
        store_status(state, PDBS, budget, status)
