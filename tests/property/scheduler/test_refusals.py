"""Why a pod waits, node by node in plain Python: which nodes are refused, for what, and which lacks least."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import NODES
from shared.events.v1.decisions import Refusal, WorkloadPlaced
from shared.model.identities import ObjectKey
from shared.model.pods import PodShape
from tests.property.scheduler.fleets import CLUSTERS, nodes, pod_specs
from tests.reference import Reference, ReferenceNode
from tests.scheduling import World, placed

Json = dict[str, Any]
FLEETS = st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes()), min_size=1, max_size=14)
GPU = "nvidia.com/gpu"


def lacking(node: ReferenceNode, shape: PodShape, of_fleet: Collection[str]) -> dict[str, int]:
    """What a node lacks of each resource; of GPUs in thousandths, and in devices where the fleet has none."""
    lacks = {}
    for name, amount in shape.requests:
        free = sum(node.devices) if name == GPU else node.allocatable.get(name, 0) - node.used[name]
        asked = amount * shape.gpu_milli if name == GPU else amount
        if free < asked:
            lacks[name] = asked - free if name in of_fleet else amount
    return lacks


def text(name: str) -> str:
    return "Too many pods" if name == "pods" else f"Insufficient {name}"


def class_of(node: ReferenceNode) -> str:
    taints = " ".join(f"{taint.key}={taint.value}:{taint.effect}" for taint in node.taints)
    labels = ",".join(f"{key}={node.labels[key]}" for key in sorted(node.labels))
    name = f"{labels} ({taints})" if taints else labels
    return name if len(name) <= 80 else f"{name[:79]}…"


def expected(reference: Reference, shape: PodShape) -> tuple[list[Refusal], Counter[str]]:
    """The refusals for resources and devices, and how many nodes have which reason."""
    of_fleet = {name for node in reference.nodes.values() for name in node.allocatable}
    asked = {name: amount * (shape.gpu_milli if name == GPU else 1) for name, amount in shape.requests}
    groups: dict[tuple[str, str, str], list[tuple[ReferenceNode, dict[str, int]]]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for node in reference.nodes.values():
        selected = all(node.labels.get(key) == value for key, value in shape.node_selector)
        affine = shape.affinity is None or shape.affinity.matches(node.labels, node.name)
        untolerated = [
            taint
            for taint in node.taints
            if taint.effect == "NoSchedule" and not any(item.tolerates(taint) for item in shape.tolerations)
        ]
        if not node.ready or node.unschedulable or not selected or not affine or untolerated:
            continue
        lacks = lacking(node, shape, of_fleet)
        if lacks:
            groups[node.cluster, class_of(node), "resources"].append((node, lacks))
            counts.update(text(name) for name in lacks)
        elif (
            asked.get(GPU, 0) and sum(free >= shape.gpu_milli for free in node.devices) < asked[GPU] // shape.gpu_milli
        ):
            groups[node.cluster, class_of(node), "devices"].append((node, {}))
            counts[f"Insufficient {GPU} on single devices"] += 1
    refusals = []
    for (cluster, name, filter_name), members in groups.items():
        about: Json = {"reason": f"Insufficient {GPU} on single devices"}
        if filter_name == "resources":
            node, lacks = min(
                members,
                key=lambda item: (
                    sum(amount / asked[key] for key, amount in item[1].items() if key in of_fleet),
                    item[0].order,
                ),
            )
            given_texts = [text(key) for key, _ in shape.requests if any(key in lacks for _, lacks in members)]
            about = {"reason": ", ".join(given_texts), "closest": node.name, "short": lacks}
        refusals.append(Refusal(cluster=cluster, node_class=name, nodes=len(members), filter=filter_name, **about))
    return refusals, counts


@given(FLEETS, st.lists(pod_specs(), min_size=1, max_size=8))
def test_refusals_are_those_of_every_node(fleet: list[tuple[str, Json]], pods: list[tuple[Json, str | None]]) -> None:
    world, reference = World(), Reference(SchedulerConfig())
    for cluster in CLUSTERS:
        world.cluster(cluster)
    for index, (cluster, document) in enumerate(fleet):
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
        reference.add(cluster, f"n{index}", document)
    for index, (spec, milli) in enumerate(pods):
        metadata = {"annotations": {"flotilla.dev/gpu-milli": milli}} if milli else {}
        for container in spec["containers"]:
            container.pop("ports", None)
        pod_set = {"name": "main", "replicas": 1, "template": {"metadata": metadata, "spec": spec}}
        document = {"name": f"w{index}", "podSets": [pod_set], "placement": {"binding": "node"}}
        decision = placed(world.apply(document))
        shape = plan_workload(decision.workload, GPU)[0][0].demand.shape
        check(reference, decision, shape)


def check(reference: Reference, decision: WorkloadPlaced, shape: PodShape) -> None:
    (outcome,) = decision.pod_sets
    if outcome.placed:
        reference.take(outcome.shares[0].cluster, outcome.shares[0].nodes[0], shape)
        return
    refusals, counts = expected(reference, shape)
    assert outcome.why is not None
    if not outcome.why.left_out:
        found = [item for item in outcome.why.refusals if item.filter in {"resources", "devices"}]
        assert sorted(found, key=repr) == sorted(refusals, key=repr)
    for reason, count in counts.items():
        assert f"{count} {reason}" in outcome.message
