"""On a candidate fleet pods go where the scheduler itself puts them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision.nodes.scheduling import PodFacts, SchedulerConfig
from services.autoscaler.decision.nodes.seen import Cluster, Pod, Seen
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


@given(FLEETS, st.data())
def test_pods_go_where_the_scheduler_puts_them(fleet: list[tuple[str, Json, int]], data: st.DataObject) -> None:
    world = World()
    for cluster in CLUSTERS:
        world.cluster(cluster)
    seen = []
    for index, (cluster, document, running) in enumerate(fleet):
        world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
        for number in range(running):
            world.pod(cluster, f"p{index}-{number}", node=f"n{index}", cpu="500m", memory="1Gi")
        pods = [Pod(f"p{index}-{number}", demand_of(500), PodFacts("default", dict)) for number in range(running)]
        seen.append(seen_node(cluster, f"n{index}", document, pods))
    documents = [data.draw(plain_workloads(f"w{number}")) for number in range(data.draw(st.integers(1, 5)))]
    waiting = [pod_set for document in documents for pod_set in pod_sets_of(document)]
    clusters = tuple(Cluster(cluster) for cluster in CLUSTERS)
    trial = Trial(Seen(clusters, (), tuple(seen), tuple(waiting)), SchedulerConfig())
    names = {trial.row_of(node.key): (node.cluster, node.name) for node in seen}
    free = trial.table.free.copy()
    for _ in range(2):
        # The second time from where it began.
        places = [[names[row] for row in rows.tolist()] for rows in trial.place(waiting)]
        if not world.placements:
            for document in documents:
                world.apply({"namespace": "default", **document})
        for pod_set, found in zip(waiting, places, strict=True):
            placed = world.placements[pod_set.key.rpartition("/")[0]]
            shares = next(item.shares for item in placed.pod_sets if item.name == pod_set.key.rpartition("/")[2])
            assert Counter(found) == Counter((share.cluster, node) for share in shares for node in share.nodes)
        trial.take_back(Mark(0, 0))
        assert (trial.table.free == free).all()
