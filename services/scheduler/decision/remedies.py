"""The smallest changes that would let waiting replicas run. Each one was tried, and found to be enough.

Candidates come from what a pod set asks for: less of one resource, a taint tolerated, a restriction given up, more
money, fewer replicas. Each is made to the workload itself, planned as a request would be, and settled on the node table
beside everything that is there; what was placed so is given back. A change that does not suffice alone is not named.

Computed on demand from a state that nobody decides with: it takes as long as some hundred decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.manifests import Division, kind_for
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.workloads import MAX_PRICE, PodSet, Workload
from shared.model.quantities import format_amount
from shared.model.taints import Taint

Json = dict[str, Any]

_TRIED = (Division.DIVIDED, Division.NODES, Division.TOGETHER)
_HARD = frozenset({"NoSchedule", "NoExecute"})
_MOST_TAINTS = 32
_PRICE_FIELD = "maxPricePerHour"
# Of the smallest difference of prices that is worth naming.
_PRICE_STEPS = 10_000
# What requests are rounded down to, so that they read well: a thousandth of a core, a MiB, a piece.
_STEPS = {"cpu": 1, "memory": 1 << 20, "ephemeral-storage": 1 << 20}


@dataclass(frozen=True, slots=True)
class Remedy:
    """`workload` is the whole of it with the change made: applied, all replicas of `pod_set` have a place."""

    pod_set: str
    text: str
    workload: Workload


def remedies(state: SchedulerState, key: str, now_ms: int) -> Iterator[Remedy]:
    """For each pod set with replicas that wait, each change that is enough by itself."""
    record = state.find(key)
    if record is None or record.placed.deleting:
        return
    placements = [record.placement(plan.name) for plan in record.plans]
    placed = [item.placed if item is not None else 0 for item in placements]
    for index, plan in enumerate(record.plans):
        placement = placements[index]
        if placement is None or not placement.reason or plan.division not in _TRIED:
            continue
        if plan.requested is not None:
            # What it requests follows what it uses: to state something else would change nothing.
            continue
        if any(_is_shared_out(plan, count) for plan, count in zip(record.plans[: index + 1], placed, strict=False)):
            # Where others go depends on how those that are placed are shared out: not tried, and so not named.
            continue
        search = _Search(state, record.placed.workload, index, placed, now_ms)
        for text, changed in search.found():
            yield Remedy(plan.name, text, changed)


def _is_shared_out(plan: PodSetPlan, placed: int) -> bool:
    return plan.sharing is not None and (plan.duplicated or placed > 0)


class _Search:
    """For the pod set at `index`; so many replicas of each pod set are `placed`, and stay: a change is tried with the
    rest of its own, and of those before it, which what is changed for the whole workload lets go where it wants to go.
    """

    def __init__(
        self, state: SchedulerState, workload: Workload, index: int, placed: Sequence[int], now_ms: int
    ) -> None:
        self._state = state
        self._workload = workload
        self._index = index
        self._now_ms = now_ms
        self._all_placed = placed
        self._placed = placed[index]

    def found(self) -> Iterator[tuple[str, Workload]]:
        plans = self._plans(self._workload)
        if not plans:
            return
        plan = plans[self._index]
        for resource, asked in plan.demand.shape.requests:
            if resource != "pods":
                yield from self._less_of(resource, asked)
        for text, change in self._restrictions(plan):
            changed = self._changed(change)
            if changed is not None and self._suffices(changed):
                yield text, changed
        if plan.price_limit is not None:
            yield from self._more_money(plan.price_limit)
        if plan.gang is not None:
            yield from self._fewer_at_once(plan)
        elif self._placed:
            fewer = self._changed(lambda document: _set_replicas(self._pod_set(document), self._placed))
            if fewer is not None and self._suffices(fewer):
                yield f"ask for {self._placed} replicas", fewer

    def _less_of(self, resource: str, asked: int) -> Iterator[tuple[str, Workload]]:
        """The largest request with which they run, if any less than what is asked lets them."""
        step = _STEPS.get(resource, 1)
        best: tuple[int, Workload] | None = None
        low, high = 1, (asked - 1) // step
        while low <= high:
            middle = (low + high) // 2
            changed = self._with_request(resource, middle * step)
            if changed is None:
                return
            if self._suffices(changed):
                best, low = (middle * step, changed), middle + 1
            else:
                high = middle - 1
        if best is not None:
            yield f"request {resource} of {format_amount(resource, best[0])} or less for a pod", best[1]

    def _more_money(self, limit: float) -> Iterator[tuple[str, Workload]]:
        """The lowest price with which they run, if any does."""
        without = self._changed(partial(_drop, _PRICE_FIELD))
        if without is None or not self._suffices(without):
            return
        low = int(limit * _PRICE_STEPS)
        step = low + 1
        while not self._suffices(best := self._with_price(step)):
            if step > MAX_PRICE * _PRICE_STEPS:
                return
            low, step = step, 2 * step
        while step - low > 1:
            middle = (low + step) // 2
            changed = self._with_price(middle)
            if self._suffices(changed):
                best, step = changed, middle
            else:
                low = middle
        yield f"raise placement.{_PRICE_FIELD} to {step / _PRICE_STEPS:.10g}", best

    def _with_price(self, steps: int) -> Workload:
        def change(document: Json) -> bool:
            _terms(document)[_PRICE_FIELD] = min(steps / _PRICE_STEPS, MAX_PRICE)
            return True

        changed = self._changed(change)
        assert changed is not None
        return changed

    def _fewer_at_once(self, plan: PodSetPlan) -> Iterator[tuple[str, Workload]]:
        """The most replicas of a gang that find room together, if any less than what is asked do."""
        best: tuple[int, Workload] | None = None
        low, high = max(self._placed, 1), plan.desired - 1
        while low <= high:
            middle = (low + high) // 2
            changed = self._changed(lambda document, count=middle: self._set_gang(document, count))  # type: ignore[misc]
            if changed is not None and self._suffices(changed):
                best, low = (middle, changed), middle + 1
            else:
                high = middle - 1
        if best is not None:
            yield f"ask for {best[0]} replicas", best[1]

    def _set_gang(self, document: Json, count: int) -> bool:
        minimum = _terms(document)["gang"].get("minCount", {})
        name = self._workload.pod_sets[self._index].name
        if minimum.get(name, 0) > count:
            minimum[name] = count
        return _set_replicas(self._pod_set(document), count)

    def _with_request(self, resource: str, amount: int) -> Workload | None:
        """None where the pod is not of one container, whose request it then is."""

        def change(document: Json) -> bool:
            resources = _resources(self._pod_set(document), self._workload.pod_sets[self._index], self._workload)
            if resources is None:
                return False
            for part in ("requests", "limits"):
                # A limit alone is a request as well, and extended resources have both alike.
                if resource in resources.get(part, {}):
                    resources[part][resource] = format_amount(resource, amount)
            return True

        return self._changed(change)

    def _restrictions(self, plan: PodSetPlan) -> Iterator[tuple[str, Callable[[Json], bool]]]:
        for taint in self._taints():
            toleration = {"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect}
            yield f"tolerate the taint {taint.key}={taint.value}:{taint.effect}", partial(_tolerate, toleration)
        for label, value in plan.demand.shape.node_selector:
            yield f"give up the node selector {label}={value}", partial(self._drop_selector, label)
        for field in ("clusters", "clusterSelector"):
            yield f"give up placement.{field}", partial(_drop, field)

    def _taints(self) -> list[Taint]:
        """All that keep pods away anywhere, in an order that does not depend on how they became known."""
        fleet = self._state.fleet
        numbers = set(fleet.table.node_class[fleet.table.alive].tolist())
        taints = {taint for number in numbers for taint in fleet.table.classes[number].taints}
        taints |= {taint for cluster in fleet.clusters for taint in cluster.taints}
        hard = (taint for taint in taints if taint.effect in _HARD)
        return sorted(hard, key=lambda taint: (taint.key, taint.value, taint.effect))[:_MOST_TAINTS]

    def _drop_selector(self, label: str, document: Json) -> bool:
        spec = _pod_spec(self._pod_set(document), self._workload.pod_sets[self._index], self._workload)
        places = [_terms(document).get("nodeSelector"), spec.get("nodeSelector") if spec is not None else None]
        # In both places, where it is in both.
        dropped = [place.pop(label, None) for place in places if place]
        return any(value is not None for value in dropped)

    def _pod_set(self, document: Json) -> Json:
        found: Json = document["podSets"][self._index]
        return found

    def _changed(self, change: Callable[[Json], bool]) -> Workload | None:
        """The workload with a change; None where it does not apply."""
        document = self._workload.model_dump(mode="json", by_alias=True, exclude_none=True)
        return Workload.model_validate(document) if change(document) else None

    def _plans(self, workload: Workload) -> Sequence[PodSetPlan]:
        """Empty where it would be refused."""
        config = self._state.config
        plans, errors = plan_workload(workload, config.gpu_resource, images=config.weights.images > 0)
        return () if errors else plans

    def _suffices(self, changed: Workload) -> bool:
        plans = self._plans(changed)
        rest = [
            replace(plan, desired=max(plan.desired - placed, 0))
            for plan, placed in zip(plans, self._all_placed, strict=False)
        ]
        return bool(rest) and self._state.would_place(changed, rest, self._index, self._now_ms)


def _terms(document: Json) -> Json:
    terms: Json = document.setdefault("placement", {})
    return terms


def _tolerate(toleration: Json, document: Json) -> bool:
    terms = _terms(document)
    terms["tolerations"] = [*terms.get("tolerations", ()), toleration]
    return True


def _drop(field: str, document: Json) -> bool:
    return _terms(document).pop(field, None) not in (None, [], {})


def _set_replicas(document: Json, count: int) -> bool:
    """Where the pod set itself, or the manifest, has the number."""
    spec = document.get("manifest", {}).get("spec", {})
    if "replicas" in document or "manifest" not in document:
        document["replicas"] = count
    if "replicas" in spec:
        spec["replicas"] = count
    return "replicas" in document or "replicas" in spec


def _pod_spec(document: Json, pod_set: PodSet, workload: Workload) -> Json | None:
    """The pod's specification within a pod set's document; None for one that is given by image."""
    if pod_set.template is not None:
        found: object = document["template"]
    elif pod_set.manifest is not None:
        found = document["manifest"]
        for part in kind_for(pod_set, workload.placement.binding).pod_template or ("",):
            found = found.get(part) if isinstance(found, dict) else None
    else:
        return None
    spec = found.get("spec") if isinstance(found, dict) else None
    return spec if isinstance(spec, dict) else None


def _resources(document: Json, pod_set: PodSet, workload: Workload) -> Json | None:
    """What the only container asks for; None where there are several, or anything beside it counts."""
    if pod_set.image is not None:
        found: Json | None = document.get("resources")
        return found
    spec = _pod_spec(document, pod_set, workload)
    if spec is None or spec.get("initContainers") or spec.get("overhead") or spec.get("resources"):
        return None
    containers = spec.get("containers", ())
    return containers[0].get("resources") if len(containers) == 1 else None
