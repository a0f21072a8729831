"""Records of a newer version, as they are read during an upgrade: what is unknown is left out, not refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from shared.events.registry import DecodeError, decode
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import (
    ClusterShare,
    DecisionsMade,
    PodSetPlacement,
    RequestRef,
    WorkloadForgotten,
    WorkloadPlaced,
)
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.events.v1.workloads import Workload

WORKLOAD: dict[str, Any] = {
    "namespace": "team",
    "name": "web",
    "podSets": [
        {"name": "main", "replicas": 2, "image": "nginx", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    ],
}
PLACED = WorkloadPlaced(
    workload=Workload.model_validate(WORKLOAD),
    uid="u",
    workload_generation=1,
    request=RequestRef(id="r", published_at=1),
    pod_sets=(PodSetPlacement(name="main", desired=2, shares=(ClusterShare(cluster="c", replicas=2),)),),
)
DECISIONS = DecisionsMade(
    cell="0", epoch=1, leader="a", decided_at=1, decisions=(PLACED, WorkloadForgotten(key="team/gone", uid="g"))
)
PLACEMENT = PlacementPublished(epoch=1, generation=1, decided_at=1, placement=PLACED)


def newer(message: BaseModel, *paths: str) -> bytes:
    """The message with a field of a newer version at the top and in each of the places named."""
    document = orjson.loads(message.to_json() if hasattr(message, "to_json") else message.model_dump_json())
    for path in ("", *paths):
        at = document
        for step in filter(None, path.split(".")):
            at = at[int(step)] if step.isdigit() else at[step]
        at["addedLater"] = {"any": ["thing"]}
    return orjson.dumps(document)


@pytest.mark.parametrize(
    ("message", "paths"),
    [
        (
            PLACEMENT,
            (
                "placement",
                "placement.request",
                "placement.workload",
                "placement.workload.podSets.0",
                "placement.workload.podSets.0.resources",
                "placement.podSets.0.shares.0",
            ),
        ),
        (DECISIONS, ("decisions.0", "decisions.0.workload", "decisions.0.workload.podSets.0", "decisions.1")),
        (
            CommandIssued(cluster="c", subject="s", namespace="n", epoch=1, generation=1, digest="d", action="run"),
            (),
        ),
        (
            CommandReported(
                cluster="c", subject="s", epoch=1, generation=1, digest="d", outcome="applied", reported_at=1
            ),
            (),
        ),
        (ClusterObserved(cluster="c", epoch=1, observed_at=1, interval_ms=1, ready=True), ()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseModel) else "",
)
def test_what_a_newer_version_has_added_is_left_out(message: BaseModel, paths: tuple[str, ...]) -> None:
    assert decode(type(message), newer(message, *paths)) == message


def test_what_is_wrong_beside_it_is_refused() -> None:
    document = orjson.loads(newer(PLACEMENT, "placement.workload"))
    document["placement"]["workload"]["podSets"][0]["replicas"] = -1
    with pytest.raises(DecodeError, match="replicas"):
        decode(PlacementPublished, orjson.dumps(document))


def test_in_what_a_person_asks_for_an_unknown_field_stays_an_error() -> None:
    request = {"operation": "apply", "workload": {**WORKLOAD, "replica": 3}}
    with pytest.raises(DecodeError) as caught:
        decode(WorkloadRequested, orjson.dumps(request))
    assert [(error.field, error.reason) for error in caught.value.errors] == [("workload.replica", "UnknownField")]


def test_what_an_older_version_did_not_have_yet_has_a_default() -> None:
    """The journal before requests were served in turn, and before leaders resigned."""
    document = orjson.loads(DECISIONS.to_json())
    for name in ("ahead", "resigned", "inputs"):
        document.pop(name, None)
    read = decode(DecisionsMade, orjson.dumps(document))
    assert (read.ahead, read.resigned, read.inputs) == (None, False, {})
