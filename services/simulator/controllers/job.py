"""Job: pods until enough have succeeded, or too many have failed.

Source: k8s.io/kubernetes/pkg/controller/job. Failed pods are replaced at once, without the back-off between tries;
pod failure policies and success policies are stored only.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, cast

from services.simulator.controllers.common import (
    JOBS,
    Templates,
    delete_pod,
    is_active,
    new_pod,
    owned,
    owner_key,
    ready_since,
)
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.controllers.garbage import delete_object
from services.simulator.core.meta import (
    Json,
    Key,
    annotations_of,
    condition_true,
    is_deleting,
    key_of,
    parse_timestamp,
    set_conditions,
    timestamp,
)
from services.simulator.core.options import DeleteOptions
from services.simulator.core.state import PODS, ClusterState
from services.simulator.core.store import Event

INDEX = "batch.kubernetes.io/job-completion-index"
_COMPONENT = "job-controller"


class JobController:
    watches = frozenset({JOBS, PODS})

    def __init__(self, events: Recorder) -> None:
        self._templates = Templates()
        self._events = events

    def keys(self, storage: str, event: Event) -> Iterable[Key]:
        if storage == JOBS:
            return () if event.type == "DELETED" else (key_of(event.item.object),)
        return owner_key(event, "Job", "batch")

    def reconcile(self, key: Hashable, work: Work) -> None:
        state = work.state
        job = state.find(JOBS, *cast("Key", key))
        if job is None or is_deleting(job):
            return
        if condition_true(job, "Complete") or condition_true(job, "Failed"):
            self._expire(state, job, key, work)
            return
        pods = owned(state, job, PODS)
        counts = _counts(job, pods)
        verdict = self._verdict(state, job, counts)
        if verdict is None and job["spec"].get("suspend"):
            self._stop(state, pods)
            verdict = ("Suspended", "JobSuspended", "Job suspended")
        elif verdict is None:
            self._create_missing(state, job, pods, counts)
        else:
            self._stop(state, pods)
        job = state.find(JOBS, *cast("Key", key)) or job
        self._report(state, job, verdict)
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline is not None and verdict is None:
            work.later(key, max(self._deadline_at(state, job, deadline) - state.now, 0.0) + 0.01)

    def _deadline_at(self, state: ClusterState, job: Json, deadline: int) -> float:
        started = (job.get("status") or {}).get("startTime")
        return (parse_timestamp(started) if started else state.now) + deadline

    def _verdict(self, state: ClusterState, job: Json, counts: dict[str, Any]) -> tuple[str, str, str] | None:
        """The condition that ends the job, as (type, reason, message)."""
        spec = job["spec"]
        wanted = spec.get("completions")
        done = counts["succeeded"] >= wanted if wanted is not None else counts["succeeded"] and not counts["active"]
        if done:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        if counts["failed"] > spec.get("backoffLimit", 6):
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline = spec.get("activeDeadlineSeconds")
        if deadline is not None and state.now >= self._deadline_at(state, job, deadline):
            return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
        return None

    def _stop(self, state: ClusterState, pods: list[Json]) -> None:
        for pod in pods:
            if is_active(pod):
                delete_pod(state, pod)

    def _create_missing(self, state: ClusterState, job: Json, pods: list[Json], counts: dict[str, Any]) -> None:
        spec = job["spec"]
        parallel = spec.get("parallelism", 1)
        wanted = spec.get("completions")
        if wanted is None:
            target = 0 if counts["succeeded"] else parallel
        else:
            target = min(parallel, wanted - counts["succeeded"])
        active = [pod for pod in pods if is_active(pod)]
        for pod in active[max(target, 0) :]:
            delete_pod(state, pod)
        missing = target - len(active)
        if spec.get("completionMode") == "Indexed" and wanted is not None:
            taken = counts["indices"] | {_index(pod) for pod in active}
            free = [index for index in range(wanted) if index not in taken][: max(missing, 0)]
        else:
            free = [-1] * max(missing, 0)
        for index in free:
            self._create(state, job, index)

    def _create(self, state: ClusterState, job: Json, index: int) -> None:
        """`index` is that of an indexed job, else -1."""
        template, name = job["spec"]["template"], job["metadata"]["name"]
        admitted = self._templates.admitted(job, template)
        labels = dict((template.get("metadata") or {}).get("labels") or {})
        annotations = dict((template.get("metadata") or {}).get("annotations") or {})
        prefix = f"{name}-"
        if index >= 0:
            labels[INDEX] = annotations[INDEX] = str(index)
            prefix = f"{name}-{index}-"
        pod = new_pod(state, job, template, admitted, prefix=prefix, labels=labels, annotations=annotations)
        if index >= 0:
            pod["spec"] = {**pod["spec"], "hostname": f"{name}-{index}"}
        stored = state.store.insert(PODS, pod).object
        self._events.record(job, "SuccessfulCreate", f"Created pod: {stored['metadata']['name']}", _COMPONENT)

    def _report(self, state: ClusterState, job: Json, verdict: tuple[str, str, str] | None) -> None:
        before = job.get("status") or {}
        pods = owned(state, job, PODS)
        counts = _counts(job, pods)
        status: Json = {name: before[name] for name in ("startTime", "completionTime") if name in before}
        if not job["spec"].get("suspend"):
            status.setdefault("startTime", timestamp(state.now))
        for name in ("active", "succeeded", "failed"):
            if counts[name]:
                status[name] = counts[name]
        status["ready"] = sum(ready_since(pod) is not None for pod in pods if is_active(pod))
        status["terminating"] = sum(is_deleting(pod) for pod in pods)
        status["uncountedTerminatedPods"] = {}
        if counts["indices"]:
            status["completedIndexes"] = _ranges(sorted(counts["indices"]))
        status["conditions"] = self._conditions(job, verdict, state.now)
        if verdict is not None and verdict[0] == "Complete":
            status.setdefault("completionTime", timestamp(state.now))
            self._events.record(job, "Completed", "Job completed", _COMPONENT)
        if not status["conditions"]:
            del status["conditions"]
        if status != before:
            state.store.replace(JOBS, {**job, "status": status})

    def _conditions(self, job: Json, verdict: tuple[str, str, str] | None, now: float) -> list[Json]:
        existing = (job.get("status") or {}).get("conditions") or []

        def entry(kind: str, status: str, reason: str, message: str) -> Json:
            return {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastProbeTime": timestamp(now),
            }

        changes = []
        if verdict is not None and not condition_true(job, verdict[0]):
            kind, reason, message = verdict
            if kind != "Suspended":
                early = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
                changes.append(entry(early, "True", reason, message))
            changes.append(entry(kind, "True", reason, message))
        elif verdict is None and condition_true(job, "Suspended"):
            changes.append(entry("Suspended", "False", "JobResumed", "Job resumed"))
        return set_conditions(existing, changes, now) if changes else existing

    def _expire(self, state: ClusterState, job: Json, key: Hashable, work: Work) -> None:
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return
        finished = max(parse_timestamp(entry["lastTransitionTime"]) for entry in job["status"]["conditions"])
        left = finished + seconds - state.now
        if left > 0:
            work.later(key, left)
        else:
            delete_object(state, job, DeleteOptions(propagation="Background"))


def _index(pod: Json) -> int:
    return int(annotations_of(pod).get(INDEX, "-1"))


def _counts(job: Json, pods: list[Json]) -> dict[str, Any]:
    succeeded = [pod for pod in pods if pod["status"].get("phase") == "Succeeded"]
    failed = sum(pod["status"].get("phase") == "Failed" for pod in pods)
    indices = {_index(pod) for pod in succeeded} if job["spec"].get("completionMode") == "Indexed" else set()
    return {
        "active": sum(is_active(pod) for pod in pods),
        "succeeded": len(indices) if indices else len(succeeded),
        "failed": failed,
        "indices": indices,
    }


def _ranges(indices: list[int]) -> str:
    """`0-2,4`: consecutive indices as ranges."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
