"""Plans that were made before, for pod sets that are alike in everything that a plan depends on."""

from __future__ import annotations

from typing import Any

import orjson

from services.scheduler.decision.asked.dependencies import own_claims
from services.scheduler.decision.asked.plans import PodSetPlan
from shared.events.v1.workloads import PlacementTerms, PodSet, Workload
from shared.model.pods import GPU_MILLI_ANNOTATION

# What nearly all terms, and many pod sets, say.
_BINDING = frozenset({"binding"})
_BY_TEMPLATE = frozenset({"name", "replicas", "template"})
# The documents of a pod set come first.
_Key = tuple[Any, ...]


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


def _short_key(workload: Workload, pod_set: PodSet) -> _Key:
    document, rest = _pod_set_key(pod_set)
    milli = workload.annotations.get(GPU_MILLI_ANNOTATION)
    return document, workload.namespace, milli, _terms_key(workload.placement), rest


def _whole_key(short: _Key, workload: Workload) -> _Key:
    """The same, and all of the workload that the plan of such a pod set depends on besides; mostly nothing."""
    key, document = short, short[0]
    if workload.placement.overrides:
        # They are tried on the object as it is rendered, which has parts of all of the workload.
        key = (*key, "overrides", workload.to_json())
    if b"persistentVolumeClaim" in document:
        key = (*key, "claims", own_claims(workload))
    if b"ffinity" in document or b"topologySpread" in document:
        # The pods may ask for their own labels, some of which are the workload's.
        named = b"flotilla.dev/" in document or b"app.kubernetes.io/" in document
        key = (*key, "labels", workload.name if named else "", tuple(sorted(workload.labels.items())))
    return key


class PlanCache:
    """Plans of pod sets that were valid, by everything that a plan depends on; the oldest makes room."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._plans: dict[_Key, tuple[PodSetPlan]] = {}

    def find(self, workload: Workload, pod_set: PodSet) -> tuple[PodSetPlan] | None:
        """The plan, alone; one object, however often it is found."""
        short = _short_key(workload, pod_set)
        # What is kept by it has nothing of which it takes more to know the plan.
        plans = self._plans.get(short)
        return plans if plans is not None else self._plans.get(_whole_key(short, workload))

    def put(self, workload: Workload, pod_set: PodSet, plan: PodSetPlan) -> None:
        if len(self._plans) >= self._size:
            del self._plans[next(iter(self._plans))]
        self._plans[_whole_key(_short_key(workload, pod_set), workload)] = (plan,)
