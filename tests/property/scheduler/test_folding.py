"""A standby folds the leader's records to the leader's state, however the streams interleave."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import NODES, PODS
from shared.model.affinity import PodQuery
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, ObjectKey
from tests.property.scheduler.fleets import CLUSTERS, nodes, pod_labels, workloads
from tests.scheduling import World

Json = dict[str, Any]
NAMES = st.sampled_from(["n0", "n1", "n2"])


_TERM = {"topologyKey": "rack", "labelSelector": {"matchLabels": {"app": "a"}}}
WANTS_COMPANY = {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_TERM]}}}


@st.composite
def pods(draw: st.DrawFn) -> Json:
    """A pod of some workload or of none, which the cluster's own scheduler bound wherever it liked."""
    labels = draw(pod_labels)
    if draw(st.integers(0, 4)):
        labels |= {
            WORKLOAD_LABEL: draw(st.sampled_from(["w0", "w1"])),
            WORKLOAD_NAMESPACE_LABEL: "default",
            POD_SET_LABEL: draw(st.sampled_from(["set0", "set1"])),
        }
    requests = {"cpu": draw(st.sampled_from(["100m", "1", "3"])), "nvidia.com/gpu": draw(st.sampled_from(["0", "1"]))}
    return {
        "metadata": {"labels": labels},
        "spec": {
            **draw(st.sampled_from([{}, {}, WANTS_COMPANY])),
            "nodeName": draw(st.sampled_from(["", "n0", "n1", "n2", "n3"])),
            "restartPolicy": draw(st.sampled_from(["Always", "Never"])),
            "containers": [{"resources": {"requests": requests}}],
        },
        "status": {"phase": draw(st.sampled_from(["Pending", "Running", "Running", "Succeeded", "Failed"]))},
    }


OBJECTS = st.one_of(
    st.tuples(st.sampled_from(CLUSTERS), st.just(NODES), NAMES, st.one_of(nodes(), nodes(), nodes(), st.none())),
    st.tuples(
        st.sampled_from(CLUSTERS), st.just(PODS), st.sampled_from("abcdef"), st.one_of(pods(), pods(), st.none())
    ),
)
STEPS = st.lists(
    st.one_of(
        OBJECTS,
        OBJECTS,
        st.sampled_from(["w0", "w1"]).flatmap(lambda name: workloads(name, between_pods=True)),
        st.sampled_from(["delete w0", "delete w1", "pending", "confirm"]),
    ),
    max_size=30,
)


@given(STEPS, st.data())
def test_a_standby_comes_to_the_leaders_state(steps: list[Any], data: st.DataObject) -> None:
    leader, standby = World(SchedulerConfig()), World(SchedulerConfig())
    objects: list[tuple[ObjectKey, Json | None]] = []
    for cluster in CLUSTERS:
        leader.cluster(cluster)
    for step in steps:
        match step:
            case (cluster, resource, name, document):
                objects.append((ObjectKey(cluster, resource, "", name), document))
                leader.observe(*objects[-1])
            case dict():
                leader.apply(step)
            case "pending":
                leader.pending()
            case "confirm":
                for key, placed in list(leader.placements.items()):
                    for cluster in placed.withdrawn:
                        leader.withdrawn(cluster, key.removeprefix("default/"))
                leader.pending()
            case str():
                leader.delete(step.removeprefix("delete "))
    # Each stream in its own order, and the two of them woven together at random.
    turns = data.draw(st.permutations(["object"] * len(objects) + ["decision"] * len(leader.journal)), label="turns")
    rest, journal = iter(objects), iter(leader.journal)
    for turn in turns:
        if turn == "object":
            standby.observe(*next(rest))
        else:
            standby.state.apply(next(journal))
    assert standby.state.hash() == leader.state.hash()
    check_counts(leader, standby)


def counted(world: World) -> Counter[tuple[str, str, frozenset[tuple[str, str]]]]:
    """The pods of which others may know, by node and labels."""
    slots = world.state.fleet.slots
    present = ((slots.by_row(row), facts) for row, facts in slots.present())
    return Counter((slot.cluster, slot.name, frozenset(facts.labels.items())) for slot, facts in present)


def check_counts(leader: World, standby: World) -> None:
    """What was counted by difference is what is there, and both know of the same pods."""
    assert counted(leader) == counted(standby)
    for fleet in (world.state.fleet for world in (leader, standby) if world.state.fleet.neighbours.active):
        anyone = PodQuery(("default", ""), None, ())
        assert fleet.neighbours.matching((anyone,)).by_row == Counter(row for row, _ in fleet.slots.present())
        for term in {term for _, facts in fleet.slots.present() for term in facts.terms}:
            owners = Counter(row for row, facts in fleet.slots.present() for own in facts.terms if own == term)
            assert fleet.neighbours.owners(term).by_row == owners
