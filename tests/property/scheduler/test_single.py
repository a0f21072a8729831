"""One new pod that has a place: the short way comes to what the long one does, to the last byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.seen.observed import NODES
from services.scheduler.decision.state import SchedulerState
from shared.model.identities import ObjectKey
from tests.property.scheduler.fleets import CLUSTERS, nodes, workloads
from tests.scheduling import World

Json = dict[str, Any]
FLEETS = st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes()), min_size=1, max_size=20)


class TheLongWay(SchedulerState):
    def _decide_single(self, *_args: object) -> None:
        return None


@pytest.mark.parametrize("binding", ["node", "cluster"])
@given(FLEETS, st.data())
def test_both_ways_are_the_same(binding: str, fleet: list[tuple[str, Json]], data: st.DataObject) -> None:
    short, long = World(), World()
    long.state = TheLongWay(long.state.config)
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
