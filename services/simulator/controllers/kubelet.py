"""The kubelets: pods that are bound start, run, finish, fail and stop, after the times that the cluster has.

Behaviour can be asked for by annotation (`simulator.flotilla.dev/behaviour`: run, complete, fail, image-pull,
not-ready) and so can duration (`simulator.flotilla.dev/run-seconds`). An image whose name contains `fail`
fails, without any annotation.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import cast

from services.simulator.controllers.common import is_finished, pods_of_node
from services.simulator.controllers.engine import Work
from services.simulator.controllers.events import Recorder
from services.simulator.controllers.pod_status import Phase, pod_status
from services.simulator.core.meta import (
    Json,
    Key,
    annotations_of,
    condition_true,
    controller_of,
    is_deleting,
    key_of,
    parse_timestamp,
    with_meta,
)
from services.simulator.core.state import NODES, PODS, ClusterState
from services.simulator.core.store import Event
from services.simulator.spec import Timing

BEHAVIOUR = "simulator.flotilla.dev/behaviour"
RUN_SECONDS = "simulator.flotilla.dev/run-seconds"
_MAX_BACKOFF = 300.0
_COMPONENT = "kubelet"


class KubeletController:
    """Keys are (namespace, name, uid): a pod of the same name is another pod."""

    watches = frozenset({PODS})

    def __init__(self, timing: Timing, events: Recorder) -> None:
        self._timing = timing
        self._events = events
        self._due: dict[str, tuple[str, float]] = {}
        """For each pod, the next step and its moment, so that other events do not bring it forward."""

    def keys(self, storage: str, event: Event) -> Iterable[tuple[str, str, str]]:
        del storage
        pod = event.item.object
        meta = pod["metadata"]
        if event.type == "DELETED":
            self._due.pop(meta["uid"], None)
            return ()
        if not pod["spec"].get("nodeName"):
            return ()
        return ((meta["namespace"], meta["name"], meta["uid"]),)

    def reconcile(self, key: Hashable, work: Work) -> None:
        namespace, name, uid = cast("tuple[str, str, str]", key)
        state = work.state
        pod = state.find(PODS, namespace, name)
        if pod is None or pod["metadata"]["uid"] != uid:
            return
        node = state.find(NODES, "", pod["spec"]["nodeName"])
        if node is None or node["metadata"]["name"] in state.silent_nodes:
            return
        if is_deleting(pod):
            self._stop(state, pod, key, work)
        elif not is_finished(pod):
            self._advance(state, pod, node, key, work)

    def _wait(self, uid: str, step: str, seconds: float, key: Hashable, work: Work) -> bool:
        """True once the step's time has come; starts its timer when it is first asked."""
        known = self._due.get(uid)
        if known is None or known[0] != step:
            self._due[uid] = (step, work.state.now + seconds)
            if seconds > 0:
                work.later(key, seconds)
                return False
        elif work.state.now < known[1]:
            return False
        del self._due[uid]
        return True

    def _stop(self, state: ClusterState, pod: Json, key: Hashable, work: Work) -> None:
        meta = pod["metadata"]
        grace = meta.get("deletionGracePeriodSeconds", 0)
        if not grace and meta.get("finalizers"):
            return
        self._events.record(pod, "Killing", "Stopping container", _COMPONENT)
        seconds = min(float(grace), self._timing.pod_stop) if grace else 0.0
        if not self._wait(meta["uid"], f"stop/{grace}", seconds, key, work):
            return
        if meta.get("finalizers"):
            finished = Phase("Succeeded") if not is_finished(pod) else None
            stopped = {**pod, "status": pod_status(pod, finished, None, state.now)} if finished else pod
            state.store.replace(PODS, with_meta(stopped, deletionGracePeriodSeconds=0))
        else:
            state.store.remove(PODS, key_of(pod))

    def _advance(self, state: ClusterState, pod: Json, node: Json, key: Hashable, work: Work) -> None:
        uid, status = pod["metadata"]["uid"], pod["status"]
        behaviour = _behaviour(pod)
        if "startTime" not in status:
            self._store(state, pod, node, Phase("Pending", waiting="ContainerCreating"))
            return
        if status["phase"] == "Pending":
            self._start(state, pod, node, behaviour, key, work)
            return
        waiting = _is_waiting(pod)
        if waiting:
            if self._wait(uid, "restart", self._backoff(_restarts(pod)), key, work):
                self._store(state, pod, node, Phase("Running", restarts=_restarts(pod) + 1))
            return
        if behaviour != "not-ready" and not condition_true(pod, "Ready"):
            # The node was given up for lost, and its pods with it; its kubelet is back and knows better.
            self._store(state, pod, node, Phase("Running", restarts=_restarts(pod)))
            return
        seconds = self._run_seconds(pod, behaviour)
        if seconds is not None:
            elapsed = state.now - _started(pod)
            if self._wait(uid, f"run/{_restarts(pod)}", max(seconds - elapsed, 0.0), key, work):
                self._finish(state, pod, node, behaviour)

    def _start(self, state: ClusterState, pod: Json, node: Json, behaviour: str, key: Hashable, work: Work) -> None:
        jitter = self._timing.pod_start_jitter
        seconds = self._timing.pod_start + (jitter * state.ids.fraction() if jitter else 0.0)
        if not self._wait(pod["metadata"]["uid"], "start", seconds, key, work):
            return
        if behaviour == "image-pull":
            if not _has_reason(pod, "ImagePullBackOff"):
                self._events.record(pod, "Failed", "Error: ImagePullBackOff", _COMPONENT, warning=True)
                self._store(state, pod, node, Phase("Pending", waiting="ImagePullBackOff"))
            return
        self._events.record(pod, "Started", "Started container", _COMPONENT)
        self._store(state, pod, node, Phase("Running", ready=behaviour != "not-ready"))

    def _finish(self, state: ClusterState, pod: Json, node: Json, behaviour: str) -> None:
        code = 1 if behaviour == "fail" else 0
        policy = pod["spec"].get("restartPolicy", "Always")
        if policy == "Never" or (policy == "OnFailure" and code == 0):
            self._store(
                state, pod, node, Phase("Failed" if code else "Succeeded", restarts=_restarts(pod), exit_code=code)
            )
            return
        self._events.record(pod, "BackOff", "Back-off restarting failed container", _COMPONENT, warning=True)
        crashed = Phase("Running", waiting="CrashLoopBackOff", restarts=_restarts(pod), exit_code=code)
        self._store(state, pod, node, crashed)

    def _run_seconds(self, pod: Json, behaviour: str) -> float | None:
        """How long the containers run; None for ever."""
        given = annotations_of(pod).get(RUN_SECONDS)
        if given is not None:
            try:
                return max(float(given), 0.0)
            except ValueError:
                pass  # a person's typing error in an annotation: the pod runs as if it were not there
        owner = controller_of(pod)
        if behaviour in {"complete", "fail"} or (owner is not None and owner["kind"] == "Job" and behaviour != "run"):
            return self._timing.job_run
        return None

    def _backoff(self, restarts: int) -> float:
        return min(self._timing.crash_backoff * 2.0 ** min(restarts, 10), _MAX_BACKOFF)

    def _store(self, state: ClusterState, pod: Json, node: Json, phase: Phase) -> None:
        state.store.replace(PODS, {**pod, "status": pod_status(pod, phase, node, state.now)})


def pods_to_resume(state: ClusterState, node: str) -> Iterable[tuple[str, str, str]]:
    """The keys of a node's pods, for when its kubelet comes back."""
    return [(*_key(pod), pod["metadata"]["uid"]) for pod in pods_of_node(state, node)]


def _key(pod: Json) -> Key:
    return key_of(pod)


def _behaviour(pod: Json) -> str:
    given = annotations_of(pod).get(BEHAVIOUR)
    if given is not None:
        return given
    images = (container.get("image", "") for container in pod["spec"]["containers"])
    return "fail" if any("fail" in image.rpartition("/")[2] for image in images) else ""


def _statuses(pod: Json) -> list[Json]:
    return list(pod["status"].get("containerStatuses") or ())


def _is_waiting(pod: Json) -> bool:
    return any("waiting" in entry.get("state", {}) for entry in _statuses(pod))


def _has_reason(pod: Json, reason: str) -> bool:
    return any(entry.get("state", {}).get("waiting", {}).get("reason") == reason for entry in _statuses(pod))


def _restarts(pod: Json) -> int:
    return max((int(entry.get("restartCount", 0)) for entry in _statuses(pod)), default=0)


def _started(pod: Json) -> float:
    running = [
        entry["state"]["running"]["startedAt"] for entry in _statuses(pod) if "running" in entry.get("state", {})
    ]
    return parse_timestamp(running[0]) if running else parse_timestamp(pod["status"]["startTime"])
