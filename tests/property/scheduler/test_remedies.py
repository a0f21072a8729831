"""Each change that is said to be enough is enough: applied, every replica of the pod set has a place."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.asking import answer
from services.scheduler.decision.remedies import remedies
from services.scheduler.decision.seen.observed import NODES
from shared.model.identities import ObjectKey
from tests.property.scheduler.fleets import CLUSTERS, nodes, workloads
from tests.scheduling import World

Json = dict[str, Any]
Fleet = list[tuple[str, Json]]


def play(fleet: Fleet, documents: list[Json]) -> World:
    world = World()
    for cluster in CLUSTERS:
        world.cluster(cluster)
    for index, (cluster, document) in enumerate(fleet):
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
    for document in documents:
        world.apply(document)
    return world


@given(
    st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes()), min_size=1, max_size=4),
    st.data(),
)
def test_each_change_is_enough(fleet: Fleet, data: st.DataObject) -> None:
    documents = [data.draw(workloads(f"w{index}", ("node", "cluster"))) for index in range(3)]
    asked = play(fleet, documents)
    waiting = [key for key, item in asked.placements.items() if any(part.reason for part in item.pod_sets)]
    for key in waiting:
        found = list(remedies(asked.state, key, asked.now))
        for remedy in data.draw(st.permutations(found))[:2]:
            world = play(fleet, documents)
            world.apply(remedy.workload.model_dump(mode="json", by_alias=True, exclude_none=True))
            outcome = next(item for item in world.placements[key].pod_sets if item.name == remedy.pod_set)
            assert not outcome.reason, remedy.text
            assert outcome.placed == outcome.desired


@given(st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes()), min_size=1, max_size=4), st.data())
def test_asking_changes_nothing_that_counts(fleet: Fleet, data: st.DataObject) -> None:
    world = play(fleet, [data.draw(workloads(f"w{index}", ("node",))) for index in range(2)])
    before = world.state.hash()
    for key in world.placements:
        assert answer(world.state, key, world.now) is not None
    assert world.state.hash() == before
