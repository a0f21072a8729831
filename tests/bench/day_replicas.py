"""How many replicas each workload of the day should have: the same HorizontalPodAutoscaler for both sides.

`horizontal` equals kube-controller-manager's (`tests/integration/autoscaler`), so a fleet without Flotilla has the same
numbers by the same metrics; Karmada's FederatedHPA does likewise over the sum of its clusters. What pods use is sampled
every 15 s, as metrics-server's newest version does, and looked at then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.workloads import ScaledWorkloads
from services.autoscaler.observed import owned_pod
from shared.events.envelope import format_time
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.metrics import PodMetricsSampled, PodUsage
from shared.events.v1.scaling import WorkloadScaled
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL
from tests.bench.day_fleet import Pod, VirtualFleet
from tests.bench.day_load import MOST_USED, TARGET, Served

Json = dict[str, Any]
PERIOD_MS = 15_000
MOST_REPLICAS = 1_000
_MEBI = 1024**2


def document(of: Served, replicas: int) -> Json:
    """A workload, as a user applies it: what he would have as a Deployment and an `autoscaling/v2` object."""
    target = {"type": "Utilization", "averageUtilization": TARGET}
    pod_set = {"name": "main", "image": "nginx", "replicas": replicas, "resources": {"requests": requests(of)}}
    return {
        "name": of.name,
        "podSets": [pod_set],
        "scaling": {
            "maxReplicas": MOST_REPLICAS,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def requests(of: Served) -> dict[str, str]:
    return {"cpu": f"{of.cpu}m", "memory": str(of.memory)}


def pod_document(pod: Pod) -> Json:
    """As an API server has it."""
    labels = {WORKLOAD_LABEL: pod.of.name, WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}
    owner = {"kind": "ReplicaSet", "name": pod.of.name, "controller": True}
    made = format_time(pod.made_ms)
    conditions: list[Json] = []
    if pod.node is not None:
        since = format_time(pod.ready_ms if pod.ready else pod.bound_ms)
        conditions = [{"type": "Ready", "status": "True" if pod.ready else "False", "lastTransitionTime": since}]
    elif pod.unschedulable:
        conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    status: Json = {"phase": "Running" if pod.ready else "Pending", "conditions": conditions}
    spec: Json = {"containers": [{"name": "main", "resources": {"requests": requests(pod.of)}}]}
    if pod.node is not None:
        spec["nodeName"], status["startTime"] = pod.node.name, format_time(pod.bound_ms)
    metadata = {"labels": labels, "ownerReferences": [owner], "creationTimestamp": made}
    return {"metadata": metadata, "spec": spec, "status": status}


class Replicas:
    """Tells the ledger what is wanted, and what it comes to with so much load."""

    def __init__(self, fleet: VirtualFleet, workloads: Sequence[Served]) -> None:
        self._fleet, self._workloads = fleet, workloads
        self._scaled = ScaledWorkloads(Defaults(), stale_ms=90_000, remember_ms=60_000)
        # The newest of each pod: it is made anew when it uses another amount.
        self._used: dict[str, PodUsage] = {}

    def place(self, key: str, placed: WorkloadPlaced) -> None:
        self._scaled.place(key, placed)

    def observe(self, pod: Pod) -> bytes | None:
        """What the log would have of it: None if it is gone."""
        key = f"{pod.cluster}/default/{pod.name}"
        raw = None if pod.gone else orjson.dumps(pod_document(pod))
        if pod.gone:
            self._used.pop(pod.name, None)
        self._scaled.observe_pod(key, owned_pod(key, raw) if raw is not None else None)
        return raw

    def look(self) -> Iterator[tuple[Served, WorkloadScaled]]:
        """Samples, and what there is to be told after a look at each workload."""
        fleet, now_ms = self._fleet, self._fleet.now_ms
        since_ms = now_ms - fleet.ledger.begin_ms
        for cluster in fleet.clusters:
            usages = tuple(self._usages(cluster, since_ms))
            sample = PodMetricsSampled(cluster=cluster, sampled_at=now_ms, pods=usages)
            self._scaled.observe_samples(sample, now_ms)
        fleet.look()
        for of in self._workloads:
            fleet.ledger.look(of.name, of.at(since_ms), of.cpu * TARGET / 100, of.cpu, now_ms)
            said = self._scaled.look(of.key, now_ms)
            if said is None:
                continue
            replicas = said.pod_sets[0].replicas
            if replicas is not None and replicas != fleet.ledger.desired(of.name):
                fleet.ledger.want(of.name, replicas, now_ms)
            yield of, said

    def _usages(self, cluster: str, since_ms: int) -> Iterator[PodUsage]:
        """Load is shared evenly by all that are ready, wherever they are."""
        for of in self._workloads:
            ready = self._fleet.ledger.ready(of.name)
            used = round(min(of.at(since_ms) / max(1, ready), MOST_USED * of.cpu))
            for pod in self._fleet.pods_of(cluster, of):
                if not pod.ready:
                    continue
                known = self._used.get(pod.name)
                if known is None or known.cpu != used:
                    known = PodUsage(namespace="default", name=pod.name, cpu=used, memory=_MEBI, window=PERIOD_MS)
                    self._used[pod.name] = known
                yield known
