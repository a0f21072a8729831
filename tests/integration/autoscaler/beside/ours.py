"""This autoscaler on what a cluster says: its own decoders and decisions, fed by hand, looked at when it is told to."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.workloads import ScaledWorkloads
from services.autoscaler.observed import owned_pod
from services.watcher.usage import pod_usages
from shared.events.v1.decisions import PodSetPlacement, RequestRef, WorkloadPlaced
from shared.events.v1.metrics import PodMetricsSampled
from shared.events.v1.scaling import PodSetScaled
from shared.events.v1.workloads import Workload

Json = dict[str, Any]
CLUSTER = "real"
# The controller asks what there is at each evaluation; here what an earlier one brought says nothing either.
_STALE_MS = 1
# Nothing is held back that was told before.
_REMEMBER_MS = 0
# It looks when it was answered, so after us; some slack before too, for the clocks' sake.
_SLACK_MS = (-300, 1000)


class Ours:
    def __init__(self, name: str, replicas: int, scaling: Json, defaults: Defaults) -> None:
        self._key = f"default/{name}"
        self._workloads = ScaledWorkloads(defaults, _STALE_MS, _REMEMBER_MS)
        self._pods: set[str] = set()
        body = {"name": name, "podSets": [{"name": "main", "replicas": replicas, "image": "nginx"}], "scaling": scaling}
        placed = WorkloadPlaced(
            workload=Workload.model_validate(body),
            uid="u",
            workload_generation=1,
            request=RequestRef(id="r", published_at=0),
            pod_sets=(PodSetPlacement(name="main", desired=replicas),),
        )
        self._workloads.place(self._key, placed)

    def observe(self, pods: Iterable[Json]) -> None:
        """All pods that there are now."""
        found = {f"{CLUSTER}/default/{pod['metadata']['name']}": pod for pod in pods}
        for key in self._pods - found.keys():
            self._workloads.observe_pod(key, None)
        for key, pod in found.items():
            self._workloads.observe_pod(key, owned_pod(key, orjson.dumps(pod)))
        self._pods = set(found)

    def is_clear(self, items: Sequence[Json], now_ms: int) -> bool:
        """Whether it would say the same at any moment close to this one: no window ends just now."""
        looks = [
            _look(copy.deepcopy(self._workloads), self._key, items, now_ms + by)
            for by in (_SLACK_MS[0], 0, _SLACK_MS[1])
        ]
        return len({(said.replicas, said.conditions) for said in looks}) == 1

    def look(self, items: Sequence[Json], now_ms: int) -> PodSetScaled:
        return _look(self._workloads, self._key, items, now_ms)


def _look(workloads: ScaledWorkloads, key: str, items: Sequence[Json], now_ms: int) -> PodSetScaled:
    workloads.observe_samples(
        PodMetricsSampled(cluster=CLUSTER, sampled_at=now_ms, pods=tuple(pod_usages(items))), now_ms
    )
    said = workloads.look(key, now_ms)
    assert said is not None
    return said.pod_sets[0]
