"""Deployments and the other controllers of pods, budgets and autoscalers."""

from __future__ import annotations

from typing import Any

from services.simulator.core.durations import age, human_duration
from services.simulator.core.meta import Json, condition_true, parse_timestamp
from services.simulator.core.printers.base import (
    NONE,
    Printer,
    age_of,
    container_cells,
    map_cell,
    name_of,
    selector_cell,
    spec_of,
    status_of,
)

_WIDE = ("+Containers", "+Images", "+Selector")


def _deployment(obj: Json, now: float) -> list[Any]:
    status = status_of(obj)
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec_of(obj).get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_of(obj, now),
        *container_cells(obj),
        selector_cell(obj),
    ]


def _replica_set(obj: Json, now: float) -> list[Any]:
    status = status_of(obj)
    return [
        name_of(obj),
        spec_of(obj).get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_of(obj, now),
        *container_cells(obj),
        selector_cell(obj),
    ]


def _stateful_set(obj: Json, now: float) -> list[Any]:
    ready = f"{status_of(obj).get('readyReplicas', 0)}/{spec_of(obj).get('replicas', 0)}"
    return [name_of(obj), ready, age_of(obj, now), *container_cells(obj)]


def _daemon_set(obj: Json, now: float) -> list[Any]:
    status = status_of(obj)
    template = spec_of(obj).get("template", {}).get("spec", {})
    return [
        name_of(obj),
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        map_cell(template.get("nodeSelector")),
        age_of(obj, now),
        *container_cells(obj),
        selector_cell(obj),
    ]


def _job_status(obj: Json) -> str:
    if condition_true(obj, "Complete"):
        return "Complete"
    if condition_true(obj, "Failed"):
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if condition_true(obj, "Suspended"):
        return "Suspended"
    return "FailureTarget" if condition_true(obj, "FailureTarget") else "Running"


def _job(obj: Json, now: float) -> list[Any]:
    spec, status = spec_of(obj), status_of(obj)
    parallelism = spec.get("parallelism", 1)
    wanted = str(spec["completions"]) if "completions" in spec else f"1 of {parallelism}"
    duration = ""
    if started := status.get("startTime"):
        ended = status.get("completionTime")
        duration = human_duration((parse_timestamp(ended) if ended else now) - parse_timestamp(started))
    return [
        name_of(obj),
        _job_status(obj),
        f"{status.get('succeeded', 0)}/{wanted}",
        duration,
        age_of(obj, now),
        *container_cells(obj),
        selector_cell(obj),
    ]


def _cron_job(obj: Json, now: float) -> list[Any]:
    spec, status = spec_of(obj), status_of(obj)
    last = status.get("lastScheduleTime")
    return [
        name_of(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        age(last, now) if last else NONE,
        age_of(obj, now),
        *container_cells({"spec": (spec.get("jobTemplate") or {}).get("spec", {})}),
        NONE,
    ]


def _budget(obj: Json, now: float) -> list[Any]:
    spec = spec_of(obj)
    return [
        name_of(obj),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        status_of(obj).get("disruptionsAllowed", 0),
        age_of(obj, now),
    ]


def _autoscaler(obj: Json, now: float) -> list[Any]:
    spec = spec_of(obj)
    target = spec.get("scaleTargetRef") or {}
    return [
        name_of(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        NONE if not spec.get("metrics") else "<unknown>",
        str(spec.get("minReplicas", 1)),
        spec.get("maxReplicas", 0),
        status_of(obj).get("currentReplicas", 0),
        age_of(obj, now),
    ]


WORKLOAD_PRINTERS = {
    "deployments.apps": Printer(("Name", "Ready", "Up-to-date", "Available", "Age", *_WIDE), _deployment),
    "replicasets.apps": Printer(("Name", "#Desired", "#Current", "#Ready", "Age", *_WIDE), _replica_set),
    "replicationcontrollers": Printer(("Name", "#Desired", "#Current", "#Ready", "Age", *_WIDE), _replica_set),
    "statefulsets.apps": Printer(("Name", "Ready", "Age", "+Containers", "+Images"), _stateful_set),
    "daemonsets.apps": Printer(
        (
            "Name",
            "#Desired",
            "#Current",
            "#Ready",
            "#Up-to-date",
            "#Available",
            "Node Selector",
            "Age",
            *_WIDE,
        ),
        _daemon_set,
    ),
    "jobs.batch": Printer(("Name", "Status", "Completions", "Duration", "Age", *_WIDE), _job),
    "cronjobs.batch": Printer(
        ("Name", "Schedule", "Timezone", "Suspend", "#Active", "Last Schedule", "Age", *_WIDE), _cron_job
    ),
    "poddisruptionbudgets.policy": Printer(
        ("Name", "Min Available", "Max Unavailable", "#Allowed Disruptions", "Age"), _budget
    ),
    "horizontalpodautoscalers.autoscaling": Printer(
        ("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"), _autoscaler
    ),
}
