"""What is derived again from the log is what was decided, whoever led: restarts, failovers, standbys that take over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.events.topics import OBJECTS
from shared.kernel.replay import Outcome
from tests.property.scheduler.fleets import nodes, workloads
from tests.replaying import CLUSTERS, Fleet, Json, in_virtual_time, replayed

WORKLOADS = ("a", "b", "c")
NODE_NAMES = st.sampled_from(["n0", "n1", "n2"])
_clusters, _names = st.sampled_from(CLUSTERS), st.sampled_from(WORKLOADS)


def scaled(document: Json) -> Json:
    """What starts together is not scaled."""
    placement = {name: value for name, value in document["placement"].items() if name != "gang"}
    scaling = {"maxReplicas": 5, "podSet": document["podSets"][0]["name"]}
    return {**document, "placement": placement, "scaling": scaling}


events = st.one_of(
    st.tuples(st.just("node"), _clusters, NODE_NAMES, nodes()),
    st.tuples(st.just("node"), _clusters, NODE_NAMES, st.none()),
    st.tuples(st.just("beat"), _clusters, st.booleans()),
    st.tuples(st.just("pod"), _clusters, st.integers(0, 3), _names, NODE_NAMES | st.just(""), st.booleans()),
    st.tuples(st.just("no pod"), _clusters, st.integers(0, 3)),
    st.tuples(st.just("apply"), _names, st.one_of([workloads(name) for name in WORKLOADS])),
    st.tuples(st.just("apply"), _names, st.one_of([workloads(name).map(scaled) for name in WORKLOADS])),
    st.tuples(st.just("scale"), _names, st.integers(0, 6)),
    st.tuples(st.just("delete"), _names),
    st.tuples(st.just("gone"), _clusters, _names, st.integers(0, 30)),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.3, 1.0, 4.0, 12.0])),
    st.tuples(st.just("kill"), st.integers(0, 1)),
    st.tuples(st.just("stop"), st.integers(0, 1)),
    st.tuples(st.just("compact")),
)


@given(st.lists(events, min_size=5, max_size=60))
def test_replay_is_equal_to_live(history: list[tuple[Any, ...]]) -> None:
    async def live(fleet: Fleet) -> None:
        for event in history:
            await fleet.befall(event)
        await asyncio.sleep(5)
        await fleet.close()
        verdicts, replay = await replayed(fleet)
        outcomes = Counter(verdict.outcome for verdict in verdicts)
        assert not outcomes[Outcome.DIFFERENT], verdicts
        if ("compact",) not in history:
            assert not outcomes[Outcome.UNCHECKED], verdicts
            assert replay.exact
            assert not replay.inexact
        # The log is cleaned behind it all: what is lost is said to be, and nothing is called different for that.
        fleet.log.compact(OBJECTS.name)
        verdicts, _ = await replayed(fleet)
        assert not [verdict for verdict in verdicts if verdict.outcome is Outcome.DIFFERENT]

    in_virtual_time(live)
