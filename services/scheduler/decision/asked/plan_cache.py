"""Plans that were made before, for pod sets that are alike in everything that a plan depends on."""

from __future__ import annotations

import orjson

from services.scheduler.decision.asked.dependencies import own_claims
from services.scheduler.decision.asked.plans import PodSetPlan
from shared.events.v1.workloads import PlacementTerms, PodSet, Workload
from shared.model.pods import GPU_MILLI_ANNOTATION

# What nearly all terms, and many pod sets, say.
_BINDING = frozenset({"binding"})
_BY_TEMPLATE = frozenset({"name", "replicas", "template"})


def _terms_key(terms: PlacementTerms) -> object:
    """Equal for terms that are equal as far as anything was said of them; most say who binds, and nothing else."""
    return terms.binding if terms.model_fields_set <= _BINDING else terms.to_json()


def _pod_set_key(pod_set: PodSet) -> tuple[bytes, object]:
    """The documents of a pod set, and all else of it that they do not say."""
    if pod_set.model_fields_set <= _BY_TEMPLATE:
        try:
            return orjson.dumps(pod_set.template), (pod_set.name, pod_set.replicas)
        except orjson.JSONEncodeError:
            # Numbers that are too large, or too deep: `document_error` says what is wrong with it.
            pass
    return pod_set.to_json(), None


class PlanCache:
    """Plans of pod sets that were valid, by everything that a plan depends on; the oldest makes room."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._plans: dict[tuple[object, ...], PodSetPlan] = {}

    def key(self, workload: Workload, pod_set: PodSet) -> tuple[object, ...]:
        terms, (document, rest) = _terms_key(workload.placement), _pod_set_key(pod_set)
        milli = workload.annotations.get(GPU_MILLI_ANNOTATION)
        # Overrides are tried on the object as it is rendered, which has parts of all of the workload.
        whole = workload.to_json() if workload.placement.overrides else b""
        key: tuple[object, ...] = (workload.namespace, milli, terms, rest, document, whole)
        if b"persistentVolumeClaim" in document:
            key = (*key, own_claims(workload))
        if b"ffinity" in document or b"topologySpread" in document:
            # The pods may ask for their own labels, some of which are the workload's.
            named = b"flotilla.dev/" in document or b"app.kubernetes.io/" in document
            return (*key, workload.name if named else "", tuple(sorted(workload.labels.items())))
        return key

    def get(self, key: tuple[object, ...] | None) -> PodSetPlan | None:
        return self._plans.get(key) if key is not None else None

    def put(self, key: tuple[object, ...] | None, plan: PodSetPlan) -> None:
        if key is not None:
            if len(self._plans) >= self._size:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan
