"""Whatever happens in whatever order: who makes room is less important, no budget is broken, none gives way in vain.

All that holds without preemption holds as well: no node is overcommitted, a standby comes to the same state.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from services.scheduler.decision.seen.observed import NODES, PODS
from shared.events.v1.decisions import Decision, WorkloadPlaced
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, ObjectKey
from shared.model.resources import amount_of
from tests.property.scheduler.fleets import CLUSTERS
from tests.property.scheduler.test_state_machine import NODE_NAMES, WORKLOADS, Scheduling
from tests.scheduling import image, node_json, workload

Json = dict[str, Any]
Where = tuple[str, str]
_READY = [{"type": "Ready", "status": "True"}]
budgets = st.sampled_from([None, None, {"minAvailable": 1}, {"maxUnavailable": 1}, {"minAvailable": "50%"}])


class Preempting(Scheduling):
    """Two small nodes, and much that wants them. Clusters stay as they are: that is the other machine's."""

    heartbeat = leaves = node_goes = None  # type: ignore[assignment]  # rules that this machine does not have

    @initialize(cpus=st.lists(st.sampled_from(["2", "4"]), min_size=2, max_size=2))
    def clusters(self, cpus: list[str]) -> None:
        super().clusters()
        for name, cpu in zip(NODE_NAMES, cpus, strict=False):
            document = self.nodes[CLUSTERS[0], name] = node_json(cpu=cpu)
            self.observe(ObjectKey(CLUSTERS[0], NODES, "", name), document)

    @rule(name=st.sampled_from(NODE_NAMES[:2]), cordoned=st.booleans())
    def node(self, name: str, cordoned: bool) -> None:
        document = self.nodes[CLUSTERS[0], name]
        document = {**document, "spec": {**document["spec"], "unschedulable": cordoned}}
        self.nodes[CLUSTERS[0], name] = document
        self.observe(ObjectKey(CLUSTERS[0], NODES, "", name), document)

    @rule(
        name=st.sampled_from(WORKLOADS),
        priority=st.sampled_from([0, 0, 1, 5]),
        cpu=st.sampled_from(["500m", "1", "2", "3"]),
        replicas=st.integers(0, 4),
        budget=budgets,
        policy=st.sampled_from([None, None, None, "Never"]),
    )
    def request(
        self, name: str, priority: int, cpu: str, replicas: int, budget: Json | None, policy: str | None
    ) -> None:
        more = {"disruptionBudget": budget} if budget else {}
        terms: Json = {"preemptionPolicy": policy} if policy else {}
        document = workload(
            name,
            image("main", replicas, cpu, memory="1Mi", **more),
            priority=priority,
            placement={"binding": "node"},
            **terms,
        )
        self.decided(self.world.apply(document))
        self.pending()

    @precondition(lambda self: self.pods)
    @rule(data=st.data(), ready=st.booleans())
    def readiness(self, data: st.DataObject, ready: bool) -> None:
        cluster, pod = data.draw(st.sampled_from(sorted(self.pods)))
        self.become(cluster, pod, ready=ready)

    def become(self, cluster: str, pod: str, *, ready: bool) -> None:
        document = self.pods[cluster, pod]
        if document["status"]["phase"] == "Running":
            status = {"phase": "Running", "conditions": _READY if ready else []}
            self.pods[cluster, pod] = {**document, "status": status}
            self.observe(ObjectKey(cluster, PODS, "default", pod), self.pods[cluster, pod])

    @rule(ready=st.booleans())
    def everybody_obeys(self, ready: bool) -> None:
        for _ in range(2):
            for key in sorted(self.commands):
                self.obey(self.commands[key])
        for cluster, pod in sorted(self.pods) if ready else ():
            self.become(cluster, pod, ready=True)

    @rule()
    def pending(self) -> None:
        before = dict(self.world.placements)
        count = self.world.state.preemption.victims
        decisions = self.world.pending()
        self.decided(decisions)
        if self.world.state.preemption.victims > count:
            self.check(before, decisions)

    @invariant()
    def whoever_made_room_says_for_whom(self) -> None:
        for placed in self.world.placements.values():
            for item in placed.pod_sets:
                assert (item.reason == "Preempted") == bool(item.preempted)

    def check(self, before: dict[str, WorkloadPlaced], decisions: list[Decision]) -> None:
        after = self.ready()
        for now in decisions:
            if not isinstance(now, WorkloadPlaced):
                continue
            key = str(now.workload.key)
            former, before[key] = before.get(key), now
            told = now.pod_sets[0].preempted if now.pod_sets else ()
            if former is None or not told or not former.pod_sets or told == former.pod_sets[0].preempted:
                continue
            # It made room.
            assert now.pod_sets[0].placed < former.pod_sets[0].placed
            assert told[-1].priority > now.rank
            budget = now.workload.pod_sets[0].disruption_budget
            if budget is not None:
                assert after[key] >= budget.wanted(now.pod_sets[0].desired)
            for where in {(to.cluster, to.node) for to in told}.intersection(places(former) - places(now)):
                # With any one of them back there would be more than the node has, as long as larger pods of before run.
                assert self.taken(where) + self.returning(former, now, where) > self.cpu_at(where)

    def returning(self, former: WorkloadPlaced, now: WorkloadPlaced, where: Where) -> int:
        """What one of those that made room would take again: what it asks for, or its pod of before if that is more."""
        kept = {ordinal for item in now.pod_sets for share in item.shares for ordinal in share.ordinals}
        names = {
            f"{former.workload.name}-{item.name}-{ordinal}"
            for item in former.pod_sets
            for share in item.shares
            for node, ordinal in zip(share.nodes, share.ordinals, strict=True)
            if (share.cluster, node) == where and ordinal not in kept
        }
        pods = (self.pods.get((where[0], name)) for name in sorted(names))
        return max((cpu_of(now), *(cpu_of_pod(pod, where[1]) for pod in pods if pod is not None)))

    def ready(self) -> dict[str, int]:
        """By workload, the ready pods that are where they are to be."""
        found: Counter[str] = Counter()
        for (cluster, pod), document in self.pods.items():
            labels = document["metadata"]["labels"]
            key = f"default/{labels[WORKLOAD_LABEL]}"
            placed = self.world.placements.get(key)
            if placed is None or not document["status"].get("conditions"):
                continue
            ordinal = int(pod.rpartition("-")[2])
            found[key] += any(
                (share.cluster, node, number) == (cluster, document["spec"]["nodeName"], ordinal)
                for item in placed.pod_sets
                if item.name == labels[POD_SET_LABEL]
                for share in item.shares
                for node, number in zip(share.nodes, share.ordinals, strict=True)
            )
        return found

    def taken(self, where: Where) -> int:
        """What replicas take: what they ask for, or their pods of before if that is more."""
        total = 0
        for placed in self.world.placements.values():
            for item in placed.pod_sets:
                for share in item.shares:
                    for node, ordinal in zip(share.nodes, share.ordinals, strict=True):
                        if (share.cluster, node) == where:
                            pod = self.pods.get((share.cluster, f"{placed.workload.name}-{item.name}-{ordinal}"))
                            total += max(cpu_of(placed), cpu_of_pod(pod, node) if pod is not None else 0)
        return total

    def cpu_at(self, where: Where) -> int:
        return amount_of("cpu", self.nodes[where]["status"]["allocatable"]["cpu"])


def places(placed: WorkloadPlaced) -> Counter[Where]:
    return Counter((share.cluster, node) for item in placed.pod_sets for share in item.shares for node in share.nodes)


def cpu_of(placed: WorkloadPlaced) -> int:
    resources = placed.workload.pod_sets[0].resources
    assert resources is not None
    return amount_of("cpu", str(resources.requests["cpu"]))


def cpu_of_pod(document: Json, node: str) -> int:
    """Of one that runs on this node."""
    if document["spec"]["nodeName"] != node or document["status"]["phase"] != "Running":
        return 0
    return amount_of("cpu", str(document["spec"]["containers"][0]["resources"]["requests"]["cpu"]))


TestPreempting = Preempting.TestCase
