"""Pods that are alike, placed by one call, go where one after the other would."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.scoring.runs import Counted, take_alike
from services.scheduler.decision.scoring.spread import Spread
from services.scheduler.decision.seen.observed import NODES
from shared.events.v1.workloads import Workload
from shared.model.identities import ObjectKey
from tests.property.scheduler.fleets import CLUSTERS, nodes, pod_specs
from tests.scheduling import World

Json = dict[str, Any]
FLEETS = st.lists(st.tuples(st.sampled_from(CLUSTERS), nodes()), min_size=1, max_size=70)
PODS = st.lists(st.tuples(pod_specs(), st.integers(1, 12)), min_size=1, max_size=4)


@given(FLEETS, PODS)
def test_pods_go_where_one_after_the_other_would(fleet: list[tuple[str, Json]], pods: list[Any]) -> None:
    one, other = World(), World()
    for world in (one, other):
        for cluster in CLUSTERS:
            world.cluster(cluster)
        for index, (cluster, document) in enumerate(fleet):
            world.observe(ObjectKey(cluster, NODES, "", f"n{index}"), document)
    for (spec, milli), count in pods:
        metadata: Json = {"annotations": {"flotilla.dev/gpu-milli": milli}} if milli else {}
        pod_set = {"name": "main", "replicas": count, "template": {"metadata": metadata, "spec": spec}}
        body = {"name": "w", "namespace": "default", "podSets": [pod_set]}
        plans, errors = plan_workload(Workload.model_validate(body), "nvidia.com/gpu")
        assert not errors
        profiles = [world.state.fleet.profile_for(plans[0].demand) for world in (one, other)]
        if not all(
            profile.in_kernel(world.state.fleet.profiles.facts_version)
            for profile, world in zip(profiles, (one, other), strict=True)
        ):
            continue
        table, profile = one.state.fleet.table, profiles[0]
        spread, chosen = Spread(table, count, 2.0), []
        for _ in range(count):
            row = profile.best(spread.costs())
            if row is None:
                break
            chosen.append(row)
            table.charge(row, profile.request)
            spread.add(row)
        table = other.state.fleet.table
        counted = Counted(
            np.zeros(table.domains, np.int64), np.zeros(max(table.clusters_with_domains, 1), np.int64), count, 2.0
        )
        rows = take_alike(table, other.state.fleet.mix, profiles[1], count, counted)
        assert rows.tolist() == chosen
        assert (table.free == one.state.fleet.table.free).all()
        assert (table.devices.free == one.state.fleet.table.devices.free).all()
        # Whoever looks next knows of it.
        assert profiles[1].best() == profile.best()
