"""On a candidate fleet pods go where the scheduler itself puts them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision.nodes.scheduling import PodFacts, SchedulerConfig
from services.autoscaler.decision.nodes.seen import Cluster, Pod, PodSet, Seen
from services.autoscaler.decision.nodes.trial import Mark, Trial
from services.scheduler.decision.seen.observed import NODES
from shared.model.identities import ObjectKey
from tests.node_groups import demand_of, pod_sets_of, seen_node
from tests.property.scheduler.fleets import CLUSTERS, nodes, workloads
from tests.scheduling import World

Json = dict[str, Any]
FLEETS = st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes(), st.integers(0, 2)), min_size=1, max_size=20)


@st.composite
def plain_workloads(draw: st.DrawFn, name: str) -> Json:
    """What depends on pods alone, and not on the workload as a whole."""
    document = draw(workloads(name, ("node",), between_pods=True))
    document["podSets"] = document["podSets"][:1]
    for term in ("gang", "maxPricePerHour"):
        document["placement"].pop(term, None)
    return document


def in_line(world: World, pod_set: PodSet) -> PodSet:
    """With what its place among those that wait follows from."""
    placed = world.placements[pod_set.key.rpartition("/")[0]]
    return replace(pod_set, priority=placed.rank, requested_at=placed.request.published_at)


@given(FLEETS, st.data())
def test_pods_go_where_the_scheduler_puts_them(fleet: list[tuple[str, Json, int]], data: st.DataObject) -> None:
    world = World()
    documents = [data.draw(plain_workloads(f"w{number}")) for number in range(data.draw(st.integers(1, 5)))]
    for document in documents:
        # They wait, for there is no node yet; some of them of one window, and some not.
        world.apply({"namespace": "default", "preemptionPolicy": "Never", **document})
        world.now += data.draw(st.sampled_from([0, 25_000]))
    waiting = [pod_set for document in documents for pod_set in pod_sets_of(document)]
    waiting = [in_line(world, pod_set) for pod_set in waiting]
    for cluster in CLUSTERS:
        world.cluster(cluster)
    seen = []
    for index, (cluster, document, running) in enumerate(fleet):
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
        for number in range(running):
            world.pod(cluster, f"p{index}-{number}", node=f"n{index}", cpu="500m", memory="1Gi")
        pods = [Pod(f"p{index}-{number}", demand_of(500), PodFacts("default", dict)) for number in range(running)]
        seen.append(seen_node(cluster, f"n{index}", document, pods))
    while world.pending() or world.state.has_work:
        pass
    clusters = tuple(Cluster(cluster) for cluster in CLUSTERS)
    trial = Trial(Seen(clusters, (), tuple(seen), tuple(waiting)), SchedulerConfig())
    names = {trial.row_of(node.key): (node.cluster, node.name) for node in seen}
    free = trial.table.free.copy()
    for _ in range(2):
        # The second time from where it began.
        places = [[names[row] for row in rows.tolist()] for rows in trial.place(waiting)]
        for pod_set, found in zip(waiting, places, strict=True):
            placed = world.placements[pod_set.key.rpartition("/")[0]]
            shares = next(item.shares for item in placed.pod_sets if item.name == pod_set.key.rpartition("/")[2])
            assert Counter(found) == Counter((share.cluster, node) for share in shares for node in share.nodes)
        trial.take_back(Mark(0, 0))
        assert (trial.table.free == free).all()
