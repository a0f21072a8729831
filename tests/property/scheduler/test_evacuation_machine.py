"""Clusters fall silent, are tainted and return, in whatever order: what is ready stays, and in the end all is as asked.

The world of `test_state_machine`, in which time passes and pods become ready. Objects are seen also of clusters whose
heartbeats are missing: so what is known of them is always true, and each removal can be judged by it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from services.scheduler.decision.seen.observed import NODES, PODS, decode_pod
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, ObjectKey
from shared.model.taints import Taint
from tests.property.scheduler.fleets import CLUSTERS
from tests.property.scheduler.test_state_machine import NODE_NAMES, WORKLOADS, Scheduling
from tests.scheduling import image, node_json, workload

# Some examples are long: many clusters come and go while time passes.
pytestmark = pytest.mark.timeout(400)
_READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
_TAINT = Taint(key="flotilla.dev/draining", effect="NoExecute")
_NODE = node_json(cpu="8")
_ONLY = st.sampled_from(((), (), (), CLUSTERS[:2]))
_ROUNDS = 4
_STEP_S = 4
_LONG_S = 40


class Evacuating(Scheduling):
    def __init__(self) -> None:
        super().__init__()
        self.silent: set[str] = set()
        self.ready: dict[str, bool] = {}
        self.last: dict[str, WorkloadPlaced] = {}

    @initialize()
    def clusters(self) -> None:
        super().clusters()
        for cluster in CLUSTERS:
            for name in NODE_NAMES:
                self.nodes[cluster, name] = _NODE
                self.observe(ObjectKey(cluster, NODES, "", name), _NODE)

    # --- what happens beside all else ---

    @rule(cluster=st.sampled_from(CLUSTERS), name=st.sampled_from(NODE_NAMES), unschedulable=st.booleans())
    def node(self, cluster: str, name: str, unschedulable: bool) -> None:
        document = {**_NODE, "spec": {"unschedulable": unschedulable}}
        self.nodes[cluster, name] = document
        self.observe(ObjectKey(cluster, NODES, "", name), document)

    @rule()
    def executors_do_all(self) -> None:
        for command in sorted(self.commands):
            self.obey(self.commands[command])
        self.decided(self.world.pending())

    @rule(cluster=st.sampled_from(CLUSTERS))
    def falls_silent(self, cluster: str) -> None:
        self.silent.add(cluster)

    @precondition(lambda self: self.pods)
    @rule(cluster=st.sampled_from(CLUSTERS))
    def is_lost(self, cluster: str) -> None:
        """When all ran; and for so long that it has to be left."""
        for pod in sorted(self.pods):
            self.make_ready(*pod)
        self.silent.add(cluster)
        self.time_passes(_LONG_S)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def is_heard_again(self, cluster: str) -> None:
        self.silent.discard(cluster)

    @rule(cluster=st.sampled_from(CLUSTERS), tainted=st.booleans())
    def is_tainted(self, cluster: str, tainted: bool) -> None:
        declared = ClusterDeclared(name=cluster, taints=(_TAINT,) if tainted else ())
        for world in (self.world, self.standby):
            world.state.declare_cluster(cluster, declared)

    @rule(cluster=st.sampled_from(CLUSTERS), ready=st.booleans())
    def heartbeat(self, cluster: str, ready: bool) -> None:
        self.ready[cluster] = ready

    @rule(seconds=st.sampled_from((_STEP_S, 12, _LONG_S)))
    def time_passes(self, seconds: int) -> None:
        for _ in range(0, seconds, _STEP_S):
            self.world.now += 1_000 * _STEP_S
            for cluster in CLUSTERS:
                if cluster not in self.silent and cluster not in self.world.state.fleet.clusters.gone:
                    self.world.cluster(cluster, ready=self.ready.get(cluster, True))
            self.decided(self.world.pending())

    @rule(cluster=st.sampled_from(CLUSTERS), price=st.sampled_from((None, 0.0, 1.0)))
    def is_priced(self, cluster: str, price: float | None) -> None:
        """What runs elsewhere may be better off here now, or what runs here elsewhere."""
        for world in (self.world, self.standby):
            world.state.declare_cluster(cluster, ClusterDeclared(name=cluster, price_per_hour=price))

    @rule(
        name=st.sampled_from(WORKLOADS),
        replicas=st.integers(1, 6),
        failback=st.booleans(),
        only=_ONLY,
        rebalance=st.sampled_from((None, {"cooldownSeconds": 0}, {"minimumGain": 0.3, "cooldownSeconds": 20})),
    )
    def request(
        self, name: str, replicas: int, failback: bool, only: tuple[str, ...], rebalance: dict[str, Any] | None
    ) -> None:
        terms: dict[str, Any] = {"binding": "node", "failback": failback, "clusters": only}
        if rebalance is not None:
            terms["rebalance"] = rebalance
        self.decided(self.world.apply(workload(name, image(replicas=replicas, cpu="2"), placement=terms)))

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def pod_is_ready(self, data: st.DataObject) -> None:
        self.make_ready(*data.draw(st.sampled_from(sorted(self.pods))))

    @rule()
    def all_is_well_in_the_end(self) -> None:
        """Every cluster is there, does what it is told, and what it runs is ready: then nothing leaves any more."""
        self.silent.clear()
        self.ready.clear()
        for cluster in CLUSTERS:
            self.is_tainted(cluster, tainted=False)
            self.world.cluster(cluster)
            self.standby.cluster(cluster)
        for _ in range(_ROUNDS):
            for command in sorted(self.commands):
                if command in self.commands:
                    self.obey(self.commands[command])
            for pod in sorted(self.pods):
                self.make_ready(*pod)
            self.time_passes(_LONG_S)
        for placed in self.world.placements.values():
            for item in placed.pod_sets:
                if self.has_all_its_pods(placed, item):
                    assert not item.leaving, placed

    # --- what always holds ---

    @invariant()
    def what_counts_is_what_was_asked(self) -> None:
        for placed in self.world.placements.values():
            for item in placed.pod_sets:
                assert item.placed <= item.desired
                assert item.placed == item.desired or not item.leaving or item.reason

    def decided(self, decisions: list[Any]) -> None:
        for decision in decisions:
            if isinstance(decision, WorkloadPlaced):
                key = str(decision.workload.key)
                before = self.last.get(key)
                self.last[key] = decision
                if before is not None and (before.uid, before.request) == (decision.uid, decision.request):
                    for had, has in zip(before.pod_sets, decision.pod_sets, strict=False):
                        self.judge(decision, had, has)
        super().decided(decisions)

    def judge(self, decision: WorkloadPlaced, had: PodSetPlacement, has: PodSetPlacement) -> None:
        """Nobody asked for it: of what is ready no less is left than should run."""
        gone = self.world.state.fleet.clusters.gone
        ready = self.ready_pods(decision.workload.name, has.name)

        def covered(item: PodSetPlacement) -> int:
            shares = (share for share in item.shares if share.cluster not in gone)
            return sum(min(share.replicas, ready[share.cluster]) for share in shares)

        if had.leaving > has.leaving:
            assert covered(has) >= min(covered(had), has.desired), (had, has, ready)

    # --- means ---

    def ready_pods(self, workload: str, pod_set: str) -> Counter[str]:
        """By cluster, as the scheduler may know it."""
        found: Counter[str] = Counter()
        for (cluster, _), document in self.pods.items():
            labels, pod = document["metadata"]["labels"], decode_pod(orjson.dumps(document))
            ended = document["status"]["phase"] == "Succeeded" and pod.spec.restart_policy == "Always"
            if (labels[WORKLOAD_LABEL], labels[POD_SET_LABEL]) == (workload, pod_set) and pod.ready and not ended:
                found[cluster] += 1
        return found

    def has_all_its_pods(self, placed: WorkloadPlaced, item: PodSetPlacement) -> bool:
        ready = self.ready_pods(placed.workload.name, item.name)
        return all(ready[share.cluster] >= share.replicas for share in item.shares)

    def make_ready(self, cluster: str, pod: str) -> None:
        document = self.pods[cluster, pod]
        if document["status"]["phase"] == "Running":
            self.pods[cluster, pod] = {**document, "status": _READY}
            self.observe(ObjectKey(cluster, PODS, "default", pod), self.pods[cluster, pod])


TestEvacuating = Evacuating.TestCase
# About one in ten leaves a cluster. Not 50 steps, the default: some seeds would take minutes.
TestEvacuating.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
