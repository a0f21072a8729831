"""One Deployment that a real HorizontalPodAutoscaler scales, and this autoscaler, which looks at the same in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.autoscaler.decision.horizontal.terms import Defaults
from shared.events.v1.scaling import PodSetScaled
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL
from shared.model.quantities import quantity_milli
from tests.integration.autoscaler.beside.ours import Ours
from tests.integration.autoscaler.beside.played import pod_metrics
from tests.testbed import RealCluster

Json = dict[str, Any]
STRATEGIC = "application/strategic-merge-patch+json"
_SETTLE_S = 30.0
_CONDITIONS = ("ScalingActive", "ScalingLimited")


class Fault(StrEnum):
    SILENT = "no pod was measured"
    REFUSED = "the metrics API fails"
    UNREADY = "a pod is not ready any more"


@dataclass(frozen=True, slots=True)
class Play:
    """`demand` of each evaluation is in millicores of all pods together, which share it unevenly; memory follows it.

    `first_unseen`: a pod has no sample at the first evaluation that it is there for.
    """

    name: str
    replicas: int
    scaling: Json
    demand: Sequence[int]
    faults: Mapping[int, Fault] = field(default_factory=dict)
    first_unseen: bool = False
    node_selector: Mapping[str, str] = field(default_factory=dict)


class Twin:
    """`answer` is to be called for each request of its metrics; `done` is set after the last evaluation, or fails.

    `history` has the replicas of each evaluation and why they were limited, `told` how many of them the status told.
    """

    def __init__(self, cluster: RealCluster, play: Play, defaults: Defaults) -> None:
        self.play = play
        self.history: list[tuple[int, str]] = []
        self.told = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._api = cluster.api
        self._ours = Ours(play.name, play.replicas, play.scaling, defaults)
        self._requests = 0
        self._played: list[Json] | None = None
        self._said: PodSetScaled | None = None
        self._seen: set[str] = set()
        self._unready: str | None = None
        self._stamp_s = 0
        self._version = ""

    # --- the cluster's side ---

    async def create_deployment(self) -> None:
        path = "/apis/apps/v1/namespaces/default/deployments"
        await self._api.call("POST", path, _deployment(self.play))
        await self._settled(self.play.replicas)

    async def create_autoscaler(self) -> None:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.play.name}
        body = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": self.play.name},
            "spec": {"scaleTargetRef": target, **self.play.scaling},
        }
        stored = await self._api.call("POST", _AUTOSCALERS, body)
        # A field behind a feature gate that is off would be dropped in silence.
        assert _within(self.play.scaling.get("behavior", {}), stored["spec"].get("behavior", {}))

    async def answer(self) -> list[Json] | None:
        """PodMetrics for one request of the controller; None: it fails."""
        if self.done.done():
            return None
        try:
            if self._requests % len(self.play.scaling["metrics"]) == 0:
                await self._turn()
            self._requests += 1
        except Exception as error:  # noqa: BLE001 - the test raises it, not the handler
            self.done.set_exception(error)
            return None
        return self._played

    async def _turn(self) -> None:
        """What the last evaluation came to is compared, and the next one begins."""
        number = len(self.history)
        if self._said is not None:
            await self._compare(self._said)
            number = len(self.history)
            if number == len(self.play.demand):
                self.done.set_result(None)
                return
        fault = self.play.faults.get(number)
        pods = await self._settled((await self._scale())["spec"]["replicas"])
        await self._restore_readiness()
        if fault is Fault.UNREADY:
            await self._take_readiness(pods)
        pods = await self._settled(len(pods))
        self._ours.observe(pods)
        await self._look(number, pods, fault)

    async def _look(self, number: int, pods: Sequence[Json], fault: Fault | None) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while True:
            now_ms = time.time_ns() // 1_000_000
            self._stamp_s, stamp = max(now_ms // 1000, self._stamp_s + 1), self._stamp_s
            items = [] if fault in {Fault.SILENT, Fault.REFUSED} else self._samples(number, pods)
            if self._ours.is_clear(items, now_ms):
                break
            self._stamp_s = stamp
            assert time.monotonic() < deadline, f"{self.play.name}: no moment is clear"
            await asyncio.sleep(0.05)
        self._seen = {pod["metadata"]["name"] for pod in pods}
        self._said = self._ours.look(items, now_ms)
        self._played = None if fault is Fault.REFUSED else items

    def _samples(self, number: int, pods: Sequence[Json]) -> list[Json]:
        """Of pods that run, in the order of their names, so that each has its part."""
        running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        known = [p for p in running if not self.play.first_unseen or p["metadata"]["name"] in self._seen]
        part = self.play.demand[number] / max(1, len(running))
        return [
            pod_metrics(
                pod["metadata"]["name"],
                pod["metadata"]["labels"],
                self._stamp_s,
                round(part * (0.7 if index % 2 else 1.3)),
                round(part * 512),
            )
            for index, pod in enumerate(sorted(known, key=lambda pod: str(pod["metadata"]["name"])))
        ]

    # --- comparing ---

    async def _compare(self, said: PodSetScaled) -> None:
        """The same replicas; and the same use of each metric and the same conditions, where the controller told them.

        A status is lost where the controller's own cache was behind: that is a conflict, and no other decision.
        """
        found = await self._api.call("GET", f"{_AUTOSCALERS}/{self.play.name}")
        theirs: Json = {"replicas": (await self._scale())["spec"]["replicas"]}
        # As long as nobody can say, as many as were asked for.
        ours: Json = {"replicas": said.before if said.replicas is None else said.replicas}
        version, self._version = self._version, str(found["metadata"]["resourceVersion"])
        if version != self._version:
            self.told += 1
            ours |= _details(said)
            theirs |= _their_details(found["status"], ours)
        told = "; ".join(f"{number}: {text}" for number, text in self.history[-6:])
        what = f"{self.play.name}, evaluation {len(self.history)}"
        assert ours == theirs, f"{what}: ours {ours}, theirs {theirs}; before: {told}; {said}; {found['status']}"
        self.history.append((theirs["replicas"], theirs.get("ScalingLimited", "")))

    async def _scale(self) -> Json:
        path = f"/apis/apps/v1/namespaces/default/deployments/{self.play.name}/scale"
        found: Json = await self._api.call("GET", path)
        return found

    # --- pods ---

    async def _settled(self, replicas: int) -> list[Json]:
        """Its pods, when there are so many, all that can run run, and the controllers have seen it too.

        The status of the ReplicaSet is made from the very cache from which the autoscaler takes its pods.
        """
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            pods = await self._list("/api/v1/namespaces/default/pods")
            sets = await self._list("/apis/apps/v1/namespaces/default/replicasets")
            status = sets[0].get("status", {}) if sets else {}
            ready = sum(_condition(pod, "Ready") == "True" for pod in pods)
            as_it_is = (status.get("replicas", 0), status.get("readyReplicas", 0)) == (len(pods), ready)
            if len(pods) == replicas and as_it_is and all(self._is_at_rest(pod) for pod in pods):
                return pods
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self.play.name}: {replicas} pods did not settle within {_SETTLE_S:.0f} s")

    async def _list(self, path: str) -> list[Json]:
        found: list[Json] = (await self._api.call("GET", f"{path}?labelSelector=app={self.play.name}"))["items"]
        return found

    def _is_at_rest(self, pod: Json) -> bool:
        if "deletionTimestamp" in pod["metadata"]:
            return False
        waits = _condition(pod, "PodScheduled") == "False"
        return waits or _condition(pod, "Ready") == "True" or pod["metadata"]["name"] == self._unready

    async def _take_readiness(self, pods: Sequence[Json]) -> None:
        self._unready = next(p["metadata"]["name"] for p in pods if _condition(p, "Ready") == "True")
        await self._set_readiness(self._unready, "False")

    async def _restore_readiness(self) -> None:
        pods = await self._list("/api/v1/namespaces/default/pods")
        if self._unready in {pod["metadata"]["name"] for pod in pods}:
            await self._set_readiness(str(self._unready), "True")
        self._unready = None

    async def _set_readiness(self, pod: str, status: str) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        patch = {"status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": moment}]}}
        path = f"/api/v1/namespaces/default/pods/{pod}/status"
        await self._api.call("PATCH", path, patch, content=STRATEGIC)


_AUTOSCALERS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"


def _deployment(play: Play) -> Json:
    app = {"app": play.name}
    ours = {WORKLOAD_LABEL: play.name, WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}
    container = {"name": "main", "image": "nginx", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
    spec: Json = {"containers": [container], "nodeSelector": dict(play.node_selector)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": play.name},
        "spec": {
            "replicas": play.replicas,
            "selector": {"matchLabels": app},
            "template": {"metadata": {"labels": {**app, **ours}}, "spec": spec},
        },
    }


def _condition(pod: Json, kind: str) -> str:
    found = pod["status"].get("conditions") or ()
    return next((str(item["status"]) for item in found if item["type"] == kind), "")


def _details(said: PodSetScaled) -> Json:
    conditions = {c.type.value: f"{c.status} {c.reason}" for c in said.conditions if c.type.value in _CONDITIONS}
    return conditions | {metric.name: metric.current for metric in said.metrics if metric.proposal is not None}


def _their_details(status: Json, wanted: Json) -> Json:
    """Of those that we have something to say about."""
    found: Json = {c["type"]: f"{c['status']} {c['reason']}" for c in status.get("conditions") or ()}
    for metric in status.get("currentMetrics") or ():
        source = metric.get("resource") or metric.get("containerResource")
        if source is not None:
            found[source["name"]] = _use(source["current"])
    return {name: value for name, value in found.items() if name in wanted}


def _use(current: Json) -> int:
    """Percent, or thousandths: as we tell it."""
    if "averageUtilization" in current:
        return int(current["averageUtilization"])
    return quantity_milli(current["averageValue"])


def _within(asked: Any, stored: Any) -> bool:
    if isinstance(asked, dict):
        return isinstance(stored, dict) and all(_within(value, stored.get(key)) for key, value in asked.items())
    return bool(asked == stored)
