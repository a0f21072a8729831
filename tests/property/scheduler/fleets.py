"""Fleets and requests at random, small enough that everything meets everything."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.scheduling import node_json

Json = dict[str, Any]

CLUSTERS = ("east", "north", "west")
TAINT = {"key": "dedicated", "value": "yes", "effect": "NoSchedule"}
SOFT_TAINT = {"key": "spot", "value": "", "effect": "PreferNoSchedule"}

labels = st.fixed_dictionaries(
    {},
    optional={
        "disk": st.sampled_from(["ssd", "hdd"]),
        "topology.kubernetes.io/zone": st.sampled_from(["a", "b"]),
        "flotilla.dev/price-per-hour": st.sampled_from(["0.1", "0.35", "2", "free"]),
    },
)


@st.composite
def nodes(draw: st.DrawFn) -> Json:
    extended = draw(st.sampled_from([{}, {}, {"nvidia.com_gpu": "1"}, {"nvidia.com_gpu": "4"}]))
    return node_json(
        cpu=draw(st.sampled_from(["1", "2500m", "4", "16"])),
        memory=draw(st.sampled_from(["2Gi", "4Gi", "30Gi"])),
        pods=draw(st.sampled_from(["2", "5", "110"])),
        labels=draw(labels),
        taints=draw(st.sampled_from([[], [], [TAINT], [SOFT_TAINT], [TAINT, SOFT_TAINT]])),
        ready=draw(st.sampled_from([True, True, True, False])),
        unschedulable=draw(st.sampled_from([False, False, False, True])),
        **extended,
    )


preferences = st.fixed_dictionaries(
    {
        "weight": st.sampled_from([1, 30, 100]),
        "preference": st.sampled_from(
            [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
                {"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
                {},
            ]
        ),
    }
)


@st.composite
def pod_specs(draw: st.DrawFn) -> tuple[Json, str | None]:
    """A pod spec, and what part of its GPUs it asks for."""
    requests = {
        "cpu": draw(st.sampled_from(["100m", "1", "1500m", "3"])),
        "memory": draw(st.sampled_from(["100Mi", "1Gi", "3Gi"])),
    }
    gpus = draw(st.sampled_from(["0", "0", "1", "2"]))
    milli = None
    if gpus != "0":
        requests["nvidia.com/gpu"] = gpus
        milli = draw(st.sampled_from([None, "300", "600"]))
    container: Json = {"name": "main", "image": "i", "resources": {"requests": requests}}
    if draw(st.integers(0, 5)) == 0:
        container["ports"] = [{"containerPort": 80, "hostPort": 8080}]
    spec: Json = {"containers": [container]}
    if draw(st.integers(0, 3)) == 0:
        spec["tolerations"] = [{"key": draw(st.sampled_from(["dedicated", "spot"])), "operator": "Exists"}]
    if draw(st.integers(0, 3)) == 0:
        spec["nodeSelector"] = {"disk": draw(st.sampled_from(["ssd", "hdd"]))}
    if draw(st.integers(0, 4)) == 0:
        expression = {"key": "disk", "operator": draw(st.sampled_from(["Exists", "DoesNotExist"]))}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    if draw(st.integers(0, 3)) == 0:
        affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = draw(st.lists(preferences, max_size=3))
    return spec, milli


KEYS = st.sampled_from(["kubernetes.io/hostname", "topology.kubernetes.io/zone", "rack"])
pod_labels = st.fixed_dictionaries(
    {"app": st.sampled_from(["a", "a", "b"])}, optional={"tier": st.sampled_from(["front", "back"])}
)
selectors = st.sampled_from(
    [
        *[{"matchLabels": {"app": "a"}}] * 6,
        {"matchLabels": {"app": "b"}},
        {"matchLabels": {"app": "a", "tier": "front"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]},
        {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]},
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        {},
        None,
    ]
)


def _given(**fields: Any) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


affinity_terms = st.builds(
    _given,
    topologyKey=KEYS,
    labelSelector=selectors,
    namespaces=st.sampled_from([None, None, None, None, ["other"], ["default", "other"]]),
    namespaceSelector=st.sampled_from([None, None, None, None, {}, {"matchLabels": {"team": "x"}}]),
    matchLabelKeys=st.sampled_from([None, None, None, ["tier"]]),
)
weighted_terms = st.fixed_dictionaries({"weight": st.sampled_from([1, 40, 100]), "podAffinityTerm": affinity_terms})
_required = st.lists(affinity_terms, min_size=1, max_size=2)
_preferred = st.lists(weighted_terms, min_size=1, max_size=2)
pod_affinities = st.one_of(
    st.fixed_dictionaries({"requiredDuringSchedulingIgnoredDuringExecution": _required}),
    st.fixed_dictionaries({"preferredDuringSchedulingIgnoredDuringExecution": _preferred}),
)
spread_constraints = st.lists(
    st.builds(
        _given,
        maxSkew=st.sampled_from([1, 1, 2]),
        topologyKey=KEYS,
        whenUnsatisfiable=st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
        labelSelector=selectors,
        nodeAffinityPolicy=st.sampled_from([None, None, "Honor", "Ignore"]),
        nodeTaintsPolicy=st.sampled_from([None, "Honor", "Ignore"]),
        matchLabelKeys=st.sampled_from([None, None, ["tier"]]),
        minDomains=st.sampled_from([None, None, 3]),
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda item: (item["topologyKey"], item["whenUnsatisfiable"]),
)


@st.composite
def rules(draw: st.DrawFn) -> Json:
    """What a pod spec says of other pods."""
    chosen = draw(
        st.sets(st.sampled_from(["podAffinity", "podAntiAffinity", "spread"]), min_size=0, max_size=2).map(sorted)
    )
    found: Json = {}
    for kind in chosen:
        if kind == "spread":
            found["topologySpreadConstraints"] = draw(spread_constraints)
        else:
            found.setdefault("affinity", {})[kind] = draw(pod_affinities)
    for item in found.get("topologySpreadConstraints", []):
        if item["whenUnsatisfiable"] != "DoNotSchedule":
            item.pop("minDomains", None)
    return found


@st.composite
def gangs(draw: st.DrawFn, pod_sets: list[Json]) -> Json:
    terms: Json = {"scope": draw(st.sampled_from(["podSet", "workload"])), "minCount": {}}
    for pod_set in pod_sets:
        if pod_set["replicas"] and draw(st.booleans()):
            terms["minCount"][pod_set["name"]] = draw(st.integers(1, pod_set["replicas"]))
    return terms


@st.composite
def workloads(
    draw: st.DrawFn, name: str, bindings: tuple[str, ...] = ("cluster", "node"), *, between_pods: bool = False
) -> Json:
    pod_sets = []
    for index in range(draw(st.integers(1, 2))):
        spec, milli = draw(pod_specs())
        metadata: Json = {"annotations": {"flotilla.dev/gpu-milli": milli}} if milli else {}
        if between_pods:
            metadata["labels"] = draw(pod_labels)
            for key, value in draw(rules()).items():
                spec[key] = {**spec.get(key, {}), **value} if isinstance(value, dict) else value
        template = {"metadata": metadata, "spec": spec}
        pod_sets.append({"name": f"set{index}", "replicas": draw(st.integers(0, 5)), "template": template})
    placement: Json = {"binding": draw(st.sampled_from(bindings))}
    if draw(st.integers(0, 3)) == 0:
        placement["clusters"] = draw(st.lists(st.sampled_from(CLUSTERS), min_size=1, max_size=2, unique=True))
    if draw(st.integers(0, 2)) == 0:
        placement["gang"] = draw(gangs(pod_sets))
    if draw(st.integers(0, 3)) == 0:
        placement["maxPricePerHour"] = draw(st.sampled_from([0, 0.05, 0.2, 0.7, 3]))
    priority = draw(st.sampled_from([0, 0, 10]))
    return {"name": name, "podSets": pod_sets, "placement": placement, "priority": priority}
