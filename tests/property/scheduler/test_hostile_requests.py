"""Whatever a document holds, it is refused with a reason or placed; and what is decided can be read and rendered."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.scheduler.decision.asked.rendering import render_commands
from shared.events.registry import decode
from shared.events.v1.decisions import DecisionsMade, RequestRejected, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from tests.scheduling import World

Json = dict[str, Any]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["1", "100m", "1Gi", "Never", "Always", "NoSchedule", "Exists", "In", "a/b", "-1", "1e400"]),
)
# Names that mean something to the scheduler, so that values come where it looks for them.
WORDS = """
metadata spec name namespace labels annotations template selector matchLabels replicas parallelism completions
containers initContainers image resources requests limits cpu memory nvidia.com/gpu ports hostPort containerPort
nodeSelector tolerations key operator effect affinity nodeAffinity podAntiAffinity overhead restartPolicy
requiredDuringSchedulingIgnoredDuringExecution nodeSelectorTerms matchExpressions values nodeName hostNetwork
topologySpreadConstraints flotilla.dev/gpu-milli podAffinity topologyKey labelSelector namespaceSelector namespaces
preferredDuringSchedulingIgnoredDuringExecution weight podAffinityTerm preference maxSkew whenUnsatisfiable minDomains
matchLabelKeys
"""
NAMES = st.sampled_from(WORDS.split())
ANY = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=25,
)


def mostly(good: Any) -> st.SearchStrategy[Any]:
    """Something that is right, three times of four."""
    return st.one_of(st.just(good), st.just(good), st.just(good), ANY)


CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.just("c"), "image": st.just("i")},
        optional={
            "resources": mostly({"requests": {"cpu": "100m", "nvidia.com/gpu": "1"}}),
            "ports": mostly([{"containerPort": 80, "hostPort": 8080}]),
        },
    ),
    min_size=1,
    max_size=1,
)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
SPECS = st.fixed_dictionaries(
    {"containers": st.one_of(CONTAINERS, CONTAINERS, ANY)},
    optional={
        "tolerations": mostly([{"operator": "Exists"}]),
        "nodeSelector": mostly({}),
        "affinity": mostly({"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone", "labelSelector": {}}]}}),
        "topologySpreadConstraints": mostly(
            [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]
        ),
        "restartPolicy": mostly("Always"),
        "overhead": mostly({"cpu": "10m"}),
        "initContainers": mostly([]),
        "nodeName": mostly(""),
    },
)
TEMPLATES = st.one_of(
    ANY,
    st.fixed_dictionaries({"spec": SPECS, "metadata": mostly({"labels": {"a": "b"}})}),
    st.fixed_dictionaries({"spec": SPECS}, optional={"metadata": mostly({"annotations": {"x": "y"}})}),
)
KINDS = st.sampled_from(
    [("apps/v1", "Deployment"), ("apps/v1", "DaemonSet"), ("batch/v1", "Job"), ("v1", "Pod"), ("e.org/v1", "Any")]
)


@st.composite
def manifests(draw: st.DrawFn) -> Json:
    api_version, kind = draw(KINDS)
    spec = draw(
        st.one_of(
            ANY,
            st.fixed_dictionaries(
                {"template": TEMPLATES, "selector": mostly({"matchLabels": {"a": "b"}})},
                optional={"replicas": mostly(2), "parallelism": mostly(1)},
            ),
            SPECS,
        )
    )
    return {"apiVersion": api_version, "kind": kind, "spec": spec, "metadata": draw(mostly({}))}


POD_SETS = st.one_of(
    manifests().map(lambda manifest: {"name": "a", "manifest": manifest}),
    TEMPLATES.map(lambda template: {"name": "a", "template": template}),
)


PATHS = st.lists(st.one_of(NAMES, st.sampled_from(["0", "-", "", "01", "a~1b"])), min_size=1, max_size=5)
PATCHES = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "replace", "remove", "test"]), "path": PATHS.map(lambda path: "/" + "/".join(path))},
    optional={"value": ANY},
)
OVERRIDES = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "c"])},
    optional={
        "clusterSelector": st.just({"matchLabels": {"region": "x"}}),
        "imageRegistry": st.just("mirror"),
        "args": st.just(["x"]),
        "labels": st.just({"l": "m"}),
        "annotations": st.just({"l": "m"}),
        "storageClass": st.just("fast"),
        "patches": st.lists(PATCHES, max_size=3),
    },
)


@given(POD_SETS, st.sampled_from(["cluster", "node"]), mostly({}), st.lists(OVERRIDES, max_size=3))
def test_every_document_is_refused_or_placed(
    pod_set: Json, binding: str, annotations: Any, overrides: list[Json]
) -> None:
    world, standby = World(), World()
    for each in (world, standby):
        each.cluster("east")
        each.node("east", "n0", **{"nvidia.com_gpu": "2"})
    workload = {"name": "w", "podSets": [pod_set], "annotations": annotations}
    workload["placement"] = {"binding": binding, **({"overrides": overrides} if overrides else {})}
    raw = json.dumps({"operation": "apply", "workload": workload})
    try:
        request = WorkloadRequested.model_validate_json(raw)
    except ValidationError:
        return
    decisions = world.state.decide_request(request, world.ref(), world.now)
    batch = DecisionsMade(cell="0", epoch=1, leader="l", decided_at=1, decisions=tuple(decisions))
    (read,) = decode(DecisionsMade, batch.to_json()).decisions
    event(read.kind)
    if isinstance(read, RequestRejected):
        assert all(error.field and error.reason and error.message for error in read.errors)
        return
    assert isinstance(read, WorkloadPlaced)
    for command in render_commands(read, 1, 1):
        assert decode(type(command), command.to_json()).digest == command.digest
    standby.state.apply(read)
    assert standby.state.hash() == world.state.hash()
