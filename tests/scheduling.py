"""A fleet in a few words, for tests and benchmarks of the scheduler's pure core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import JOBS, NODES, PODS
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import Decision, RequestRef, WorkloadForgotten, WorkloadPlaced
from shared.events.v1.objects import LEFT, ClusterObserved
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, ObjectKey

NOW = 1_700_000_000_000
Json = dict[str, Any]


def node_json(
    *,
    cpu: str = "4",
    memory: str = "16Gi",
    pods: str = "110",
    labels: Mapping[str, str] | None = None,
    taints: list[Json] | None = None,
    ready: bool = True,
    unschedulable: bool = False,
    **extended: str,
) -> Json:
    amounts = {"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "100Gi"}
    amounts |= {name.replace("_", "/", 1): amount for name, amount in extended.items()}
    spec: Json = {"taints": taints or []}
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"labels": dict(labels or {})},
        "spec": spec,
        "status": {
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def image(name: str = "web", replicas: int | None = 1, cpu: str = "1", memory: str = "1Gi", **more: Any) -> Json:
    pod_set: Json = {"name": name, "image": "nginx", "resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}
    return pod_set if replicas is None else {**pod_set, "replicas": replicas}


def workload(name: str, *pod_sets: Json, **more: Any) -> Json:
    return {"name": name, "namespace": "default", "podSets": list(pod_sets) or [image()], **more}


class World:
    """A state, and what happens to it. Every decision that it made is in `journal`, the last of each workload in
    `placements`."""

    def __init__(self, config: SchedulerConfig | None = None) -> None:
        self.state = SchedulerState(config or SchedulerConfig())
        self.now = NOW
        self.journal: list[Decision] = []
        self.placements: dict[str, WorkloadPlaced] = {}
        self._requests = 0

    # --- observations ---

    def cluster(
        self, name: str, labels: Mapping[str, str] | None = None, *, ready: bool = True, skew_ms: int = 0
    ) -> None:
        """A heartbeat that is heard now; `skew_ms` is by how much its watcher's clock is wrong."""
        at_ms = self.now + skew_ms
        heartbeat = ClusterObserved(
            cluster=name, epoch=1, observed_at=at_ms, interval_ms=5_000, ready=ready, labels=dict(labels or {})
        )
        self.state.observe_cluster(heartbeat, self.now)

    def leaves(self, cluster: str) -> None:
        """The watcher's last words of a cluster, and its tombstone."""
        last = ClusterObserved(
            cluster=cluster, epoch=1, observed_at=self.now, interval_ms=5_000, ready=False, reason=LEFT
        )
        self.state.observe_cluster(last, self.now)
        self.state.forget_cluster(cluster)

    def node(self, cluster: str, name: str, **facts: Any) -> None:
        self.observe(ObjectKey(cluster, NODES, "", name), node_json(**facts))

    def no_node(self, cluster: str, name: str) -> None:
        self.observe(ObjectKey(cluster, NODES, "", name), None)

    def pod(
        self,
        cluster: str,
        name: str,
        *,
        node: str = "",
        of: str = "",
        cpu: str = "1",
        memory: str = "1Gi",
        phase: str = "Running",
        restart: str = "Always",
        unschedulable: bool = False,
        ready: bool = False,
    ) -> None:
        """`of` is `workload/pod set`, in the namespace default."""
        labels: Json = {}
        if of:
            owner, _, pod_set = of.partition("/")
            labels = {WORKLOAD_LABEL: owner, WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: pod_set}
        spec: Json = {
            "restartPolicy": restart,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}],
        }
        status: Json = {"phase": phase}
        if node:
            spec["nodeName"] = node
        if unschedulable:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            status = {"phase": "Pending", "conditions": [condition]}
        if ready:
            status["conditions"] = [{"type": "Ready", "status": "True"}]
        document = {"metadata": {"labels": labels}, "spec": spec, "status": status}
        self.observe(ObjectKey(cluster, PODS, "default", name), document)

    def no_pod(self, cluster: str, name: str) -> None:
        self.observe(ObjectKey(cluster, PODS, "default", name), None)

    def job(self, cluster: str, name: str, *, of: str, finished: bool) -> None:
        owner, _, pod_set = of.partition("/")
        labels = {WORKLOAD_LABEL: owner, WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: pod_set}
        conditions = [{"type": "Complete", "status": "True"}] if finished else []
        document = {"metadata": {"labels": labels}, "status": {"conditions": conditions}}
        self.observe(ObjectKey(cluster, JOBS, "default", name), document)

    def observe(self, key: ObjectKey, document: Json | None) -> None:
        self.state.observe_object(key, None if document is None else orjson.dumps(document))

    # --- requests ---

    def apply(self, document: Json, operation: str = "apply", request_id: str = "") -> list[Decision]:
        request = WorkloadRequested.model_validate({"operation": operation, "workload": document})
        return self._note(self.state.decide_request(request, self.ref(request_id), self.now))

    def ask(self, request: WorkloadRequested) -> list[Decision]:
        return self._note(self.state.decide_request(request, self.ref(), self.now))

    def ask_all(self, requests: Iterable[WorkloadRequested]) -> None:
        """Of requests that wait together, as the leader asks."""
        for answers in self.state.decide_requests([(request, self.ref()) for request in requests], self.now):
            for answer in answers:
                assert not isinstance(answer, Exception), answer
                self._note(answer)

    def delete(self, name: str) -> list[Decision]:
        request = WorkloadRequested.model_validate({"operation": "delete", "workload": {"name": name}})
        return self._note(self.state.decide_request(request, self.ref(), self.now))

    def pending(self) -> list[Decision]:
        return self._note(self.state.decide_pending(self.now))

    def withdrawn(self, cluster: str, name: str, generation: int | None = None) -> None:
        """The executor's report that a workload is gone from a cluster, by default of the newest generation."""
        self.state.observe_result(
            CommandReported(
                cluster=cluster,
                subject=f"workload/default/{name}",
                epoch=1,
                generation=len(self.journal) - 1 if generation is None else generation,
                digest="",
                outcome="withdrawn",
                reported_at=self.now,
            ),
            self.now,
        )

    def ref(self, request_id: str = "") -> RequestRef:
        self._requests += 1
        return RequestRef(id=request_id or f"request-{self._requests}", published_at=self.now + self._requests)

    def _note(self, decisions: list[Decision]) -> list[Decision]:
        for decision in decisions:
            self.journal.append(decision)
            if isinstance(decision, WorkloadPlaced):
                self.placements[str(decision.workload.key)] = decision
            elif isinstance(decision, WorkloadForgotten):
                del self.placements[decision.key]
            self.state.note_generation(decision, len(self.journal) - 1)
        return decisions


def placed(decisions: list[Decision]) -> WorkloadPlaced:
    """The only decision, which is a placement."""
    (decision,) = decisions
    assert isinstance(decision, WorkloadPlaced), decision
    return decision


def nodes_of(decision: WorkloadPlaced, pod_set: int = 0) -> dict[str, tuple[str, ...]]:
    """The nodes of one pod set's shares, by cluster."""
    return {share.cluster: share.nodes for share in decision.pod_sets[pod_set].shares}


def counts_of(decision: WorkloadPlaced, pod_set: int = 0) -> dict[str, int]:
    """The replicas of one pod set, by cluster."""
    return {share.cluster: share.replicas for share in decision.pod_sets[pod_set].shares}
