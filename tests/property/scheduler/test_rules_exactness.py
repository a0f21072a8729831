"""With rules between pods every choice is the argmin over all nodes as well, as brute force over all pods has it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import NAMESPACES, NODES, PODS
from shared.events.v1.decisions import WorkloadPlaced
from shared.model.identities import ZONE_LABEL, ObjectKey
from tests.property.scheduler.fleets import SOFT_TAINT, TAINT, pod_labels, rules, workloads
from tests.property.scheduler.test_exactness import order_of_placement
from tests.reference import INFINITE, Reference
from tests.reference_rules import Pod
from tests.scheduling import World, node_json

Json = dict[str, Any]
CLUSTERS = ("east", "north")
HOSTNAME = "kubernetes.io/hostname"


class Fleet:
    """The scheduler, and brute force beside it."""

    def __init__(self) -> None:
        self.config = SchedulerConfig()
        self.world, self.reference = World(self.config), Reference(self.config)
        self.seen: dict[tuple[str, str], Pod] = {}
        for cluster in CLUSTERS:
            self.world.cluster(cluster)
            self.reference.clusters_taking.add(cluster)

    def node(self, cluster: str, name: str, document: Json) -> None:
        if not any(pod.at == (cluster, name) for pod in self.reference.rules.pods):
            self.world.observe(ObjectKey(cluster, NODES, "", name), document)
            self.reference.add(cluster, name, document)

    def foreign(self, cluster: str, name: str, node: str, pod: Pod) -> None:
        """A pod of somebody else's, without requests, comes or is another now."""
        self.gone(cluster, name)
        metadata: Json = {"labels": pod.labels, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if pod.ending else {})}
        spec = {**pod.spec, "nodeName": node, "containers": [{"name": "c"}]}
        document = {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}
        self.world.observe(ObjectKey(cluster, PODS, pod.namespace, name), document)
        counted = Pod(pod.namespace, pod.labels, pod.spec, (cluster, node), pod.ending)
        self.seen[cluster, name] = counted
        self.reference.rules.pods.append(counted)
        self.reference.nodes[cluster, node].used["pods"] += 1
        self.reference._write(self.reference.nodes[cluster, node])

    def gone(self, cluster: str, name: str) -> None:
        known = self.seen.pop((cluster, name), None)
        if known is not None:
            self.world.observe(ObjectKey(cluster, PODS, known.namespace, name), None)
            self.reference.rules.pods = [pod for pod in self.reference.rules.pods if pod is not known]
            self.reference.nodes[known.at].used["pods"] -= 1
            self.reference._write(self.reference.nodes[known.at])

    def namespace(self, cluster: str, name: str, labels: dict[str, str]) -> None:
        self.world.observe(ObjectKey(cluster, NAMESPACES, "", name), {"metadata": {"labels": labels}})
        self.reference.rules.namespaces[cluster, name] = labels

    def place(self, document: Json) -> None:
        (decision,) = self.world.apply(document)
        assert isinstance(decision, WorkloadPlaced)
        plans, errors = plan_workload(decision.workload, self.config.gpu_resource)
        assert not errors
        allowed = decision.workload.placement.clusters or CLUSTERS
        for plan, outcome, pod_set in zip(plans, decision.pod_sets, document["podSets"], strict=True):
            labels = {
                "app.kubernetes.io/name": document["name"],
                **pod_set["template"]["metadata"].get("labels", {}),
                "app.kubernetes.io/managed-by": "flotilla",
                "flotilla.dev/workload": document["name"],
                "flotilla.dev/workload-namespace": "default",
                "flotilla.dev/pod-set": pod_set["name"],
            }
            pod = Pod("default", labels, pod_set["template"]["spec"])
            shape, spread = plan.demand.shape, Counter[tuple[str, str]]()
            for cluster, node in order_of_placement(outcome):
                costs = self.reference.costs(shape, spread, plan.desired, pod)
                least = min(cost for key, cost in costs.items() if key[0] in allowed)
                assert costs[cluster, node] - least == 0
                self.reference.take(cluster, node, shape, pod)
                spread[cluster, self.reference.nodes[cluster, node].labels.get(ZONE_LABEL, "")] += 1
            if outcome.reason == "GangDoesNotFit" and not outcome.placed:
                continue
            if outcome.placed < outcome.desired:
                costs = self.reference.costs(shape, spread, plan.desired, pod)
                assert all(cost == INFINITE for key, cost in costs.items() if key[0] in allowed)


@st.composite
def labelled(draw: st.DrawFn, name: str) -> Json:
    """With room, mostly: it is the rules that shall decide."""
    labels = draw(st.sampled_from([{HOSTNAME: name}] * 5 + [{}])) | draw(st.sampled_from([{"disk": "ssd"}, {}, {}]))
    for key, values in ((ZONE_LABEL, "ab"), ("rack", "xyz")):
        value = draw(st.sampled_from([*values, *values, ""]))
        labels |= {key: value} if value else {}
    taints = draw(st.sampled_from([[], [], [], [TAINT], [SOFT_TAINT]]))
    return node_json(cpu=draw(st.sampled_from(["3", "16"])), memory="30Gi", labels=labels, taints=taints)


foreign_pods = st.builds(
    Pod,
    namespace=st.sampled_from(["default", "default", "other"]),
    labels=pod_labels,
    spec=rules(),
    ending=st.sampled_from([False, False, False, True]),
)


@given(st.data())
def test_every_choice_keeps_the_rules_between_pods(data: st.DataObject) -> None:
    fleet, names = Fleet(), []
    for index in range(data.draw(st.integers(3, 10), label="nodes")):
        cluster = data.draw(st.sampled_from(CLUSTERS), label="cluster")
        names.append((cluster, f"n{index}"))
        fleet.node(cluster, f"n{index}", data.draw(labelled(f"n{index}"), label="node"))
    for step in range(data.draw(st.integers(6, 14), label="steps")):
        cluster, node = data.draw(st.sampled_from(names), label="where")
        match data.draw(st.sampled_from([*["workload"] * 3, *["pod"] * 4, "gone", "node", "namespace"]), label="what"):
            case "workload":
                fleet.place(data.draw(workloads(f"w{step}", ("node",), between_pods=True), label="workload"))
            case "pod":
                name = data.draw(st.sampled_from("pqrstu"), label="name")
                fleet.foreign(cluster, name, node, data.draw(foreign_pods, label="pod"))
            case "gone":
                fleet.gone(cluster, data.draw(st.sampled_from("pqrstu"), label="name"))
            case "node":
                fleet.node(cluster, node, data.draw(labelled(node), label="node"))
            case "namespace":
                labels = data.draw(st.sampled_from([{}, {"team": "x"}]), label="labels")
                fleet.namespace(cluster, data.draw(st.sampled_from(["default", "other"]), label="namespace"), labels)
