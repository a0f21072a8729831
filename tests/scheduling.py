"""A fleet in a few words, for tests and benchmarks of the scheduler's pure core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import JOBS, NODES, PODS
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import Decision, RequestRef, WorkloadForgotten, WorkloadPlaced
from shared.events.v1.leases import LEASE_SUBJECT, LeaseAsked
from shared.events.v1.objects import LEFT, ClusterObserved
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, ObjectKey
from shared.model.taints import Taint

NOW = 1_700_000_000_000
# Since when a cluster that is not heard is silent, how long that is tolerated, and how time passes.
SILENT_MS = 15_000
TOLERATED_MS = SchedulerConfig().tolerate_loss_ms
STEP_MS = 1_000
Json = dict[str, Any]
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "spec": {
        "parallelism": 2,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
            }
        },
    },
}


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
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
        reason: str = "",
        skew_ms: int = 0,
    ) -> None:
        """A heartbeat that is heard now; `skew_ms` is by how much its watcher's clock is wrong. With a `reason` the
        cluster is not ready.
        """
        heartbeat = ClusterObserved(
            cluster=name,
            epoch=1,
            observed_at=self.now + skew_ms,
            interval_ms=5_000,
            ready=ready and not reason,
            reason=reason,
            labels=dict(labels or {}),
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

    def ask_lease(self, cluster: str, *subjects: str, number: int = 1) -> LeaseAsked:
        """The request for its lease, of an executor that would run these by it, is read now."""
        asked = LeaseAsked(life="a", number=number, subjects=subjects)
        report = CommandReported(
            cluster=cluster,
            subject=LEASE_SUBJECT,
            epoch=0,
            generation=0,
            digest="",
            outcome="applied",
            reported_at=0,
            lease=asked,
        )
        self.state.observe_result(report, self.now)
        return asked

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


class Fleet(World):
    """Clusters whose heartbeats come every second while they are in `heard`; nodes have 4 cores and 16 GiB."""

    def __init__(
        self, config: SchedulerConfig | None = None, *, nodes: int | Mapping[str, int] = 3, clusters: str = "east west"
    ) -> None:
        super().__init__(config)
        sizes = nodes if isinstance(nodes, Mapping) else dict.fromkeys(clusters.split(), nodes)
        self.heard = set(sizes)
        for name, count in sizes.items():
            self.cluster(name)
            for number in range(count):
                self.node(name, f"{name}-{number}")

    def passes(self, ms: int) -> list[WorkloadPlaced]:
        """Time passes; all that was decided meanwhile."""
        decided = []
        for _ in range(0, ms, STEP_MS):
            self.now += STEP_MS
            for name in sorted(self.heard):
                self.cluster(name)
            decided += [item for item in self.pending() if isinstance(item, WorkloadPlaced)]
        return decided

    def lose(self, *clusters: str) -> None:
        """They are silent for so long that they have to be left at the next look."""
        self.heard -= set(clusters)
        assert self.passes(SILENT_MS + TOLERATED_MS - STEP_MS) == []

    def taint(self, cluster: str, *keys: str) -> None:
        taints = tuple(Taint(key=key, effect="NoExecute") for key in keys)
        self.state.declare_cluster(cluster, ClusterDeclared(name=cluster, taints=taints))

    def run(self, name: str, pod_set: str = "web", *, but: int = 0) -> None:
        """Every replica's pod is ready on its node, but for the last so many in all."""
        decision = self.placements[f"default/{name}"]
        item = next(item for item in decision.pod_sets if item.name == pod_set)
        expected = [(share.cluster, node) for share in item.shares for node in share.nodes]
        for number, (cluster, node) in enumerate(expected):
            ready = number < len(expected) - but
            self.pod(cluster, f"{name}-{pod_set}-{cluster}-{number}", node=node, of=f"{name}/{pod_set}", ready=ready)

    def start(self, name: str, cluster: str, count: int) -> None:
        """So many of its pods are ready in a cluster."""
        for number in range(count):
            self.pod(cluster, f"new-{name}-{number}", node=f"{cluster}-0", of=f"{name}/web", ready=True)


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


def leaving_of(decision: WorkloadPlaced) -> dict[str, int]:
    return {share.cluster: share.leaving for share in decision.pod_sets[0].shares if share.leaving}
