"""How important a workload is: by its number, or by the name of a class of the fleet.

Classes are those of the scheduler's configuration, and mean what Kubernetes' PriorityClass means: a value, whether it
is what counts where nothing is said, and whether its workloads may take the room of others (`preemptionPolicy`). What a
class meant when a request was accepted stands in the decision: a change of the configuration changes no workload.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from services.scheduler.decision.asked.manifests import kind_for
from shared.events.v1.workloads import FieldError, PodSet, Workload

NEVER = "Never"


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """As in Kubernetes. The one that is `default` counts for workloads that name none and give no number."""

    value: int
    default: bool = False
    preemption_policy: Literal["PreemptLowerPriority", "Never"] = "PreemptLowerPriority"


@dataclass(frozen=True, slots=True)
class Importance:
    """`priority` is None where the workload's own number counts."""

    priority: int | None = None
    preempts: bool = True


PLAIN = Importance()


def importance_of(
    workload: Workload, classes: Mapping[str, PriorityClass]
) -> tuple[Importance, tuple[FieldError, ...]]:
    """What a workload says of its importance, or what is wrong with that."""
    policy, name = workload.preemption_policy, workload.priority_class
    # Zero says nothing: it is what stands there where nothing was said.
    stated = workload.priority or None
    if name is None:
        by_default = next((item for item in classes.values() if item.default), None) if stated is None else None
        errors = tuple(_template_errors(workload, classes, by_default.value if by_default else workload.priority))
        if by_default is None:
            return (PLAIN if policy != NEVER else Importance(preempts=False)), errors
        return Importance(by_default.value, (policy or by_default.preemption_policy) != NEVER), errors
    found = classes.get(name)
    if found is None:
        known = ", ".join(sorted(classes)) or "none"
        message = f"there is no priority class {name!r}; there are: {known}"
        return PLAIN, (FieldError(field="workload.priorityClass", reason="NotFound", message=message),)
    errors = tuple(_template_errors(workload, classes, found.value))
    if stated is not None and stated != found.value:
        message = f"is {stated}, and that of class {name!r} is {found.value}; give one of them"
        errors = (FieldError(field="workload.priority", reason="Contradiction", message=message), *errors)
    return Importance(found.value, (policy or found.preemption_policy) != NEVER), errors


def _template_errors(workload: Workload, classes: Mapping[str, PriorityClass], value: int) -> Iterator[FieldError]:
    """Pod templates that name a class of the fleet which means something else."""
    for index, pod_set in enumerate(workload.pod_sets):
        where, named = named_by(workload, pod_set)
        if named is None:
            continue
        known = classes.get(named)
        other = workload.priority_class not in (None, named)
        if other or (known is not None and known.value != value):
            meant = f"class {workload.priority_class!r}" if other else f"priority {value}"
            message = f"is {named[:80]!r} here, and the workload has {meant}"
            field = f"workload.podSets.{index}.{where}.priorityClassName"
            yield FieldError(field=field, reason="Contradiction", message=message)


def named_by(workload: Workload, pod_set: PodSet) -> tuple[str, str | None]:
    """Where the pod specification of a pod set is, and the class that it names."""
    path: tuple[str, ...] = ("template",)
    found: Any = pod_set.template
    if pod_set.manifest is not None:
        parts = kind_for(pod_set, workload.placement.binding).pod_template
        if parts is None:
            return "", None
        path, found = ("manifest", *parts), pod_set.manifest
        for part in parts:
            found = found.get(part) if isinstance(found, dict) else None
    spec = found.get("spec") if isinstance(found, dict) else None
    name = spec.get("priorityClassName") if isinstance(spec, dict) else None
    return ".".join((*path, "spec")), name if isinstance(name, str) and name else None
