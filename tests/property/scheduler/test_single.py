"""One new pod that has a place: the short ways come to what the long one does, to the last byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.config import QueueConfig, SchedulerConfig, Weights
from services.scheduler.decision.decided.records import uid_for
from services.scheduler.decision.deciding import requests as deciding
from services.scheduler.decision.placing import single
from services.scheduler.decision.placing.single import Admitted, conclude_single
from services.scheduler.decision.scoring.runs import Taken, take_places
from services.scheduler.decision.seen.observed import NAMESPACES, NODES
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import Decision, RequestRef, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.workloads import ApplyWorkload
from shared.model.identities import ObjectKey
from tests.property.scheduler.fleets import CLUSTERS, nodes, pod_labels, rules, workloads
from tests.scheduling import World, workload

Json = dict[str, Any]
FLEETS = st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes()), min_size=1, max_size=20)


def the_long_way(config: SchedulerConfig) -> SchedulerState:
    """As if there were no workloads of one pod."""
    state = SchedulerState(config)
    admit = state._requests._admit

    def admitted(key: str, body: ApplyWorkload, ref: RequestRef) -> Admitted | list[Decision]:
        found = admit(key, body, ref)
        return found._replace(single=False) if isinstance(found, Admitted) else found

    state._requests._admit = admitted  # type: ignore[method-assign]
    return state


@pytest.mark.parametrize("binding", ["node", "cluster"])
@given(FLEETS, st.data())
def test_both_ways_are_the_same(binding: str, fleet: list[tuple[str, Json]], data: st.DataObject) -> None:
    short, long = World(), World()
    long.state = the_long_way(long.state.config)
    for world in (short, long):
        for cluster in CLUSTERS:
            world.cluster(cluster)
        for index, (cluster, document) in enumerate(fleet):
            world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
    for index in range(data.draw(st.integers(1, 8), label="workloads")):
        document = data.draw(workloads(f"w{index}", (binding,)), label="workload")
        document["podSets"] = [{**document["podSets"][0], "replicas": 1}]
        document["placement"].pop("gang", None)
        decisions = [[decision.to_json() for decision in world.apply(document)] for world in (short, long)]
        assert decisions[0] == decisions[1]
        assert short.state.hash() == long.state.hash()


NAMES = [f"w{index}" for index in range(24)]
BY_MIX = SchedulerConfig(weights=Weights(expected_fragmentation=1.0))
# Whatever is to start together has waited long enough, for its room to be kept, as soon as it waits.
KEEPING = SchedulerConfig(gang_patience_ms=-1_000)
CONFIGS = (SchedulerConfig(), BY_MIX, KEEPING, SchedulerConfig(queues=(QueueConfig("default"),)))


@st.composite
def kinds(draw: st.DrawFn) -> list[Json]:
    """A few kinds of workloads, most of one pod, without a name: what comes often, and what comes between."""
    found = []
    for index in range(draw(st.integers(1, 4))):
        document = draw(workloads("any", between_pods=index == 3))
        if index < 2:
            document["podSets"] = [{**document["podSets"][0], "replicas": 1}]
            document["placement"].pop("gang", None)
        found.append(document)
    return found


def asked(draw: st.DrawFn, documents: list[Json]) -> WorkloadRequested:
    """Mostly new, sometimes a change, a repetition, an end, or what is refused."""
    name = draw(st.sampled_from(NAMES))
    if draw(st.integers(0, 9)) == 0:
        return WorkloadRequested.model_validate({"operation": "delete", "workload": {"name": name}})
    operation = draw(st.sampled_from(["create", "apply", "apply", "apply", "change"]))
    document = {**draw(st.sampled_from(documents)), "name": name}
    return WorkloadRequested.model_validate({"operation": operation, "workload": document})


@st.composite
def steps(draw: st.DrawFn) -> list[Any]:
    """What happens: requests that wait together, pods and nodes that are seen or vanish, and what is decided anew."""
    documents = draw(kinds())
    found: list[Any] = []
    for _ in range(draw(st.integers(1, 6))):
        found.append([asked(draw, documents) for _ in range(draw(st.integers(1, 24)))])
        found.append(draw(st.sampled_from(["pending", "nothing", "pod", "no node", "later"])))
    return found


def happens(world: World, step: str, number: int) -> None:
    cluster, node, owner = CLUSTERS[number % 3], f"n{number % 5}", f"{NAMES[number % 24]}/set0"
    if step == "pod":
        # Of a workload that may be unknown still, as after the journal was lost.
        world.pod(cluster, f"p{number}", node=node, of=owner, cpu="500m")
    elif step == "no node":
        world.no_node(cluster, node)
    elif step == "later":
        world.now += 1_000
        for name in CLUSTERS:
            world.cluster(name)


@given(st.sampled_from(CONFIGS), FLEETS, steps(), st.lists(st.integers(0, 119), min_size=6, max_size=6))
def test_requests_that_wait_together_are_decided_as_one_after_the_other(
    config: SchedulerConfig, fleet: list[tuple[str, Json]], taken: list[Any], numbers: list[int]
) -> None:
    together, one_by_one, long = worlds = World(config), World(config), World(config)
    long.state = the_long_way(config)
    for world in worlds:
        for cluster in CLUSTERS:
            world.cluster(cluster)
        for index, (cluster, document) in enumerate(fleet):
            world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
    for index, step in enumerate(taken):
        if isinstance(step, str):
            for world in worlds:
                happens(world, step, numbers[index // 2])
                if step == "pending":
                    world.pending()
        else:
            together.ask_all(step)
            for request in step:
                one_by_one.ask(request)
                long.ask(request)
        for world in (one_by_one, long):
            assert [item.to_json() for item in world.journal] == [item.to_json() for item in together.journal]
            assert world.state.hash() == together.state.hash()
            assert world.state.digest() == together.state.digest()


@st.composite
def crowds(draw: st.DrawFn) -> list[list[WorkloadRequested]]:
    """Batches of pods without rules, some of which those with rules are about, and some of these among them."""
    wanting = draw(st.lists(rules().filter(bool), min_size=1, max_size=2))
    names = (f"w{number}" for number in range(1_000))
    batches = []
    for _ in range(draw(st.integers(1, 3))):
        batch = []
        for _ in range(draw(st.integers(2, 12))):
            spec = draw(st.sampled_from([{}, {}, {}, *wanting]))
            body = _plain(next(names), cpu=draw(st.sampled_from(["100m", "1"])), labels=draw(pod_labels))
            body["workload"]["podSets"][0]["template"]["spec"] |= spec
            body["workload"]["namespace"] = draw(st.sampled_from(["default", "default", "other"]))
            batch.append(WorkloadRequested.model_validate(body))
        batches.append(batch)
    return batches


@given(FLEETS, crowds())
def test_pods_that_no_rule_is_about_are_placed_together_as_one_after_the_other(
    fleet: list[tuple[str, Json]], batches: list[list[WorkloadRequested]]
) -> None:
    together, one_by_one, long = worlds = World(), World(), World()
    long.state = the_long_way(long.state.config)
    for world in worlds:
        for cluster in CLUSTERS:
            world.cluster(cluster)
            world.observe(ObjectKey(cluster, NAMESPACES, "", "other"), {"metadata": {"labels": {"team": "x"}}})
        for index, (cluster, document) in enumerate(fleet):
            document["metadata"].setdefault("labels", {})["kubernetes.io/hostname"] = f"n{index}"
            world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
    for batch in batches:
        together.ask_all(batch)
        for request in batch:
            one_by_one.ask(request)
            long.ask(request)
        for world in (one_by_one, long):
            assert [item.to_json() for item in world.journal] == [item.to_json() for item in together.journal]
            assert world.state.hash() == together.state.hash()


def test_beside_pods_with_rules_all_others_are_placed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for those that a rule is about: by their labels, in its namespace."""
    together: list[int] = []

    def counting(table: Any, mix: Any, pods: Any) -> Taken:
        together.append(len(pods))
        return take_places(table, mix, pods)

    monkeypatch.setattr(single, "take_places", counting)
    world = World()
    world.cluster("east")
    for name in ("n1", "n2"):
        world.node("east", name, cpu="64", labels={"kubernetes.io/hostname": name})
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_APART]}}
    world.ask(WorkloadRequested.model_validate(_plain("first", affinity=apart)))
    for labels, namespace, expected in (
        ({"app": "b"}, "default", [8]),
        ({"app": "a"}, "other", [8]),
        ({"app": "a"}, "default", []),
    ):
        bodies = [_plain(f"{labels['app']}{number}", labels=labels) for number in range(8)]
        for body in bodies:
            body["workload"]["namespace"] = namespace
        world.ask_all([WorkloadRequested.model_validate(body) for body in bodies])
        assert together == expected
        together.clear()


@given(FLEETS, st.data())
def test_what_is_built_without_validation_is_what_validation_makes(
    fleet: list[tuple[str, Json]], data: st.DataObject
) -> None:
    built: list[WorkloadPlaced] = []

    def noting(admitted: Admitted, place: single.Place, uid: str) -> WorkloadPlaced:
        built.append(conclude_single(admitted, place, uid))
        return built[-1]

    world = World(SchedulerConfig(weights=Weights(price=1, taints=3, node_affinity=2)))
    for cluster in CLUSTERS:
        world.cluster(cluster)
    for index, (cluster, document) in enumerate(fleet):
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
    document = data.draw(workloads("any"), label="workload")
    document["podSets"] = [{**document["podSets"][0], "replicas": 1}]
    document["placement"].pop("gang", None)
    requests = [
        WorkloadRequested.model_validate({"operation": "create", "workload": {**document, "name": f"w{index}"}})
        for index in range(4)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deciding, "conclude_single", noting)
        world.ask_all(requests[:3])
        world.ask(requests[3])
    for decision in built:
        read = WorkloadPlaced.model_validate_json(decision.to_json())
        assert read == decision
        assert repr(read) == repr(decision)
        anew = WorkloadPlaced.model_validate(decision.model_dump(exclude_unset=True))
        assert anew.to_json() == decision.to_json()
        assert anew.model_dump_json(exclude_unset=True) == decision.model_dump_json(exclude_unset=True)


def test_what_changes_in_the_midst_of_those_that_wait_counts_for_those_behind() -> None:
    """What free GPUs are judged by, after so many pods; room that is not needed since the pod is there already; what a
    pod that just came wants of the next ones; for whom room is kept.
    """
    gpus = [_plain(f"g{index}", cpu="1", gpus=1 + index % 2, milli=(300, 500, 1000)[index % 3]) for index in range(40)]
    known = [_plain(name, cpu="3", binding="cluster") for name in "abcde"]
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_APART]}}
    wanting = [_plain("first", affinity=apart), *(_plain(f"s{index}") for index in range(6))]
    gang = _plain("gang", cpu="16")
    gang["workload"]["podSets"][0]["replicas"] = 4
    gang["workload"]["placement"]["gang"] = {}
    keeping = [_plain("before"), gang, *(_plain(f"s{index}") for index in range(6))]
    for config, bodies in ((BY_MIX, gpus), (BY_MIX, known), (BY_MIX, wanting), (KEEPING, keeping)):
        together, one_by_one = World(config), World(config)
        for world in (together, one_by_one):
            world.cluster("east")
            for index in range(4):
                name = f"n{index}"
                world.node("east", name, cpu="16", labels={"kubernetes.io/hostname": name}, **{"nvidia.com_gpu": "8"})
            world.pod("east", "p0", node="n3", of="b/main", cpu="3")
        requests = [WorkloadRequested.model_validate(body) for body in bodies]
        together.ask_all(requests)
        for request in requests:
            one_by_one.ask(request)
        assert [item.to_json() for item in one_by_one.journal] == [item.to_json() for item in together.journal]
        assert one_by_one.state.hash() == together.state.hash()


def test_a_defect_is_the_answer_to_its_own_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(key: str, request_id: str) -> str:
        if key.endswith("/b"):
            raise ZeroDivisionError
        return uid_for(key, request_id)

    monkeypatch.setattr(deciding, "uid_for", failing)
    world = World()
    world.cluster("east")
    world.node("east", "n1", cpu="16")
    asked = [WorkloadRequested.model_validate(body) for body in map(_plain, ("a", "b", "c"))]
    groups = world.state.decide_requests([(request, world.ref()) for request in asked], world.now)
    answers = [answer for group in groups for answer in group]
    assert isinstance(answers[1], ZeroDivisionError)
    assert [type(answer) for answer in (answers[0], answers[2])] == [list, list]
    assert [world.state.find(f"default/{name}") is not None for name in "abc"] == [True, False, True]


_APART = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}


def _plain(
    name: str,
    *,
    cpu: str = "1",
    gpus: int = 0,
    milli: int = 1000,
    binding: str = "node",
    affinity: Json | None = None,
    labels: Json | None = None,
) -> Json:
    requests = {"cpu": cpu, "memory": "1Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    annotations = {"flotilla.dev/gpu-milli": str(milli)} if gpus else {}
    metadata: Json = {"labels": labels or {"app": "a"}, "annotations": annotations}
    spec: Json = {"containers": [{"name": "main", "image": "i", "resources": {"requests": requests}}]}
    template = {"metadata": metadata, "spec": {**spec, "affinity": affinity} if affinity else spec}
    pod_set = {"name": "main", "replicas": 1, "template": template}
    return {"operation": "create", "workload": workload(name, pod_set, placement={"binding": binding})}
