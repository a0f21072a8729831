"""When recommended requests are applied: seldom, to who is at rest, and never to and fro."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from services.autoscaler.decision.horizontal.seen import Container, Pod
from services.autoscaler.decision.nodes.scheduling import Stated
from services.autoscaler.decision.vertical.applying import Applying, Pace, derive
from services.autoscaler.decision.vertical.worth import DIFFERS, LIFETIME_MS, OUTSIDE, worth
from services.autoscaler.journal import decision_record
from services.autoscaler.observed import running_generation
from services.cli.why_scaling import requested_until
from shared.events.registry import DecodeError, decode
from shared.events.topics import DECISIONS, REQUESTS_DECIDED
from shared.events.v1.decisions import (
    ContainerRequested,
    PodSetPlacement,
    Requested,
    RequestRef,
    WorkloadPlaced,
)
from shared.events.v1.requests_decisions import RequestsDecided
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.usage import Requests, RequestsRecommended
from shared.events.v1.vertical import PodSetRequests, Vertical
from shared.events.v1.workloads import Workload
from shared.kernel.replay import Outcome, Verdict, difference
from shared.ports.event_log import Record
from tests.autoscaling import CPU
from tests.unit.autoscaler.test_decided import judged, rewritten

Json = dict[str, Any]
NOW = 1_800_000_000_000
KEY = "default/web"
MIB = 1 << 20
MINUTE_MS = 60_000
RECREATE: Json = {"updatePolicy": {"updateMode": "Recreate"}}


def made(target: int, lower: int, upper: int, memory: int = 100 * MIB) -> RequestsRecommended:
    return RequestsRecommended(
        target=Requests(cpu=target, memory=memory),
        lower=Requests(cpu=lower, memory=memory // 2),
        upper=Requests(cpu=upper, memory=2 * memory),
    )


SURE = made(200, 150, 300)
# Its requests are within these bounds.
WIDE = made(200, 50, 5000)


class World:
    """One workload `default/web` of one pod set, whose pods run for an hour."""

    def __init__(self, terms: Json = RECREATE, *, pace: Pace | None = None, **more: Any) -> None:
        resources = {"requests": {"cpu": "2", "memory": "100Mi"}}
        pod_set = {"name": "main", "replicas": 2, "image": "nginx", "resources": resources}
        self.document = {"name": "web", "podSets": [pod_set], "vertical": terms, **more}
        self.pace = pace or Pace()
        self.applying = Applying(self.pace, "life")
        self.decided: list[RequestsDecided] = []
        self.made: Mapping[str, Mapping[str, RequestsRecommended]] = {"main": {"main": SURE}}
        self.now, self.generation, self.started = NOW, 0, NOW - 3_600_000
        # What each pod requests.
        self.pods = [2000, 2000]
        self.place()
        self.run()

    def recommended(self, key: str) -> Mapping[str, Mapping[str, RequestsRecommended]]:
        assert key == KEY
        return self.made

    def place(self, requested: PodSetRequests | None = None, *, uid: str = "u1", **changes: Any) -> None:
        self.document |= changes
        self.generation += 1
        taken = None
        if requested is not None and requested.containers:
            (item,) = requested.containers
            requests = {"cpu": item.cpu or 0, "memory": item.memory or 0}
            taken = Requested(
                containers=(ContainerRequested(name=item.name, requests=requests),), position="fleet.scaling/0/1"
            )
        placed = WorkloadPlaced(
            workload=Workload.model_validate(self.document),
            uid=uid,
            workload_generation=1,
            request=RequestRef(id="r", published_at=NOW),
            pod_sets=(PodSetPlacement(name="main", desired=2, requested=taken),),
        )
        self.applying.place(KEY, placed, self.generation)

    def run(self) -> None:
        """It is as it should be by the last decision."""
        self.applying.observe_running(KEY, self.generation)

    def look(self, after_ms: int = MINUTE_MS) -> PodSetRequests:
        self.now += after_ms
        pods = [
            Pod(
                f"p{n}",
                "Running",
                (Container("main", {"cpu": milli, "memory": 100_000 * MIB}),),
                started_ms=self.started,
            )
            for n, milli in enumerate(self.pods)
        ]
        (said,) = self.applying.look(KEY, self, {"main": pods}, self.now)
        for item in self.applying.take_decided():
            # By what the log has of it anybody comes to the same.
            made = decode(RequestsDecided, item.to_json())
            assert difference(made, derive(made, self.pace)) == ""
            self.decided.append(made)
        return said


def test_what_is_surely_wrong_is_changed_once() -> None:
    world = World()
    said = world.look()
    (container,) = said.containers
    assert (container.cpu, container.memory) == (200, 100 * MIB)
    assert (said.at, said.reason, said.state) == (world.now, OUTSIDE, "AsRecommended")
    world.place(said)
    # It is rolled out, and what is recommended moves a little each minute: within the bounds nothing happens.
    for minute in range(600):
        if minute == 5:
            world.run()
        world.made = {"main": {"main": made(200 + minute % 7, 150, 300)}}
        assert world.look() == said


def test_within_the_bounds_only_who_has_run_for_long_and_by_a_tenth() -> None:
    world = World()
    world.made = {"main": {"main": WIDE}}
    assert world.look().containers == ()
    world.started = world.now - LIFETIME_MS
    assert world.look().reason == DIFFERS
    other = World()
    other.made = {"main": {"main": made(1850, 50, 5000)}}
    other.started = other.now - 2 * LIFETIME_MS
    assert other.look().containers == ()


def test_not_while_anything_of_it_is_under_way() -> None:
    world = World()
    world.place()
    said = world.look()
    assert (said.containers, said.state) == ((), "NotRunning")
    assert "wait for all replicas to run" in said.message
    world.applying.observe_running(KEY, None)
    assert world.look().state == "NotRunning"
    world.run()
    assert world.look().state == "AsRecommended"


def test_not_while_a_pod_is_left_that_has_what_was_requested_before() -> None:
    """The status of a workload that runs goes on saying so while it is rolled."""
    world = World(pace=Pace(interval_ms=0))
    world.place(world.look())
    world.run()
    world.pods = [200, 2000]
    world.made = {"main": {"main": made(900, 700, 1000)}}
    assert world.look().state == "NotRunning"
    world.pods = [200, 200]
    assert world.look().containers[0].cpu == 900


def test_not_twice_within_the_interval() -> None:
    world = World(pace=Pace(interval_ms=30 * MINUTE_MS))
    first = world.look()
    world.place(first)
    world.run()
    world.pods = [200, 200]
    world.made = {"main": {"main": made(900, 700, 1000)}}
    waiting = [world.look() for _ in range(29)]
    assert {item.state for item in waiting} == {"TooSoon"}
    assert {item.containers for item in waiting} == {first.containers}
    assert world.look().containers[0].cpu == 900


def test_not_many_workloads_in_a_minute() -> None:
    world = World(pace=Pace(most_a_minute=1, look_ms=1000))
    other = World()
    other.applying = world.applying
    placed = Workload.model_validate({**world.document, "name": "other"})
    ref = RequestRef(id="r", published_at=NOW)
    pod_sets = (PodSetPlacement(name="main", desired=2),)
    world.applying.place(
        "default/other",
        WorkloadPlaced(workload=placed, uid="u2", workload_generation=1, request=ref, pod_sets=pod_sets),
        9,
    )
    world.applying.observe_running("default/other", 9)
    pods = {"main": [Pod("p", "Running", started_ms=NOW)]}

    class All:
        def recommended(self, key: str) -> Mapping[str, Mapping[str, RequestsRecommended]]:
            del key
            return {"main": {"main": SURE}}

    assert world.look().containers
    assert world.applying.look("default/other", All(), pods, world.now)[0].state == "ManyWorkloads"
    assert world.applying.look("default/other", All(), pods, world.now + MINUTE_MS)[0].containers


def test_nothing_learned_and_no_pods_say_so() -> None:
    world = World()
    world.made = {}
    assert world.look().state == "NothingLearned"
    world.made = {"main": {"main": SURE}}
    (said,) = world.applying.look(KEY, world, {}, world.now + MINUTE_MS)
    assert said.state == "NoPods"


def test_a_successor_goes_on_with_what_was_said() -> None:
    world = World()
    said = world.look()
    record = WorkloadScaled(uid="u1", workload_generation=1, evaluated_at=world.now, pod_sets=(), requests=(said,))
    for uid, expected in (("u1", said.containers), ("u2", ())):
        after = World()
        after.applying = Applying()
        after.applying.restore(KEY, record)
        after.place(said if uid == "u1" else None, uid=uid)
        after.made = {}
        assert after.look().containers == expected


def test_only_what_applies_is_followed() -> None:
    for terms in ({}, {"updatePolicy": {"updateMode": "Off"}}):
        assert KEY not in World(terms).applying
    world = World()
    assert KEY in world.applying
    world.place(vertical={})
    assert KEY not in world.applying
    assert world.applying.look(KEY, world, {}, world.now) == ()


def test_with_initial_it_is_said_though_nothing_runs_as_it_should() -> None:
    world = World({"updatePolicy": {"updateMode": "Initial"}})
    world.applying.observe_running(KEY, None)
    assert world.look().containers[0].cpu == 200


def test_beside_replicas_that_are_scaled() -> None:
    """On the memory that it uses, with replicas by cpu."""
    terms = {**RECREATE, "resourcePolicy": {"containerPolicies": [{"controlledResources": ["memory"]}]}}
    world = World(terms, scaling={"maxReplicas": 3, "metrics": [CPU]})
    world.made = {"main": {"main": made(200, 150, 300, memory=20 * MIB)}}
    (container,) = world.look().containers
    assert (container.cpu, container.memory) == (None, 20 * MIB)


@pytest.mark.parametrize("request_", [None, 149, 301])
def test_bounds_are_the_policys_as_well(request_: int | None) -> None:
    stated = [Stated("main", {} if request_ is None else {"cpu": request_}, {})]
    only_cpu = {"controlledResources": ["cpu"]}
    found = worth(
        stated, {"main": SURE}, Vertical.model_validate({"resourcePolicy": {"containerPolicies": [only_cpu]}})
    )
    assert found.outside
    pinned = {**only_cpu, "minAllowed": {"cpu": "149m"}, "maxAllowed": {"cpu": "149m"}}
    at_bound = worth(
        stated, {"main": SURE}, Vertical.model_validate({"resourcePolicy": {"containerPolicies": [pinned]}})
    )
    assert (at_bound.outside, at_bound.containers[0].cpu) == (request_ != 149, 149)


def test_a_status_says_which_decision_runs() -> None:
    assert running_generation(orjson.dumps({"generation": 7, "phase": "Running", "name": "web"})) == 7
    assert running_generation(orjson.dumps({"generation": 7, "phase": "Applied"})) is None
    with pytest.raises(DecodeError):
        running_generation(b"{}")


def test_what_is_decided_is_recorded_once_and_so_is_why_not() -> None:
    world = World()
    world.place()
    world.look()
    world.look()
    world.run()
    said = world.look()
    assert [(item.requests[0].state, bool(item.requests[0].containers)) for item in world.decided] == [
        ("NotRunning", False),
        ("AsRecommended", True),
    ]
    made = world.decided[-1]
    assert (made.workload, made.uid, made.requests) == (KEY, "u1", (said,))
    (use,) = made.basis.pod_sets
    assert (use.running, use.lived_ms, use.alike, use.recommended["main"]) == (2, 3_780_000, True, SURE)
    assert use.containers[0].requests == {"cpu": 2000, "memory": 100 * MIB}
    assert made.basis.vertical.rolls


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("requests__0__containers__0__cpu", 7, "requests[0].containers[0].cpu: 7, not 200"),
        ("requests__0__state", "TooSoon", 'requests[0].state: "TooSoon", not "AsRecommended"'),
        ("basis__podSets__0__running", 0, "requests[0]."),
        ("basis__settled", False, "requests[0]."),
        ("basis__spec", "0", "basis.spec: 0, not "),
        ("basis__config", "0", "the configuration was another"),
    ],
)
def test_a_replay_names_what_does_not_follow(where: str, value: object, says: str) -> None:
    world = World()
    world.look()
    (made,) = world.decided
    record = decision_record(REQUESTS_DECIDED, made.workload, made, NOW)
    known = Record(DECISIONS.name, 0, 3, NOW, record.key, record.value, record.headers)
    assert judged([known]) == [Verdict(3, KEY, "requested", Outcome.EQUAL)]
    (verdict,) = judged([rewritten(known, **{where: value})])
    assert verdict.outcome is (Outcome.UNCHECKED if where == "basis__config" else Outcome.DIFFERENT)
    assert verdict.detail.startswith(says)


def test_of_the_past_requests_are_those_of_then() -> None:
    world = World()
    world.place()
    world.look()
    world.run()
    world.look()
    records = []
    for offset, made in enumerate(world.decided):
        record = decision_record(REQUESTS_DECIDED, made.workload, made, NOW)
        records.append(Record(DECISIONS.name, 0, offset, NOW, record.key, record.value, record.headers))
    placed = WorkloadPlaced(
        workload=Workload.model_validate(world.document),
        uid="u1",
        workload_generation=1,
        request=RequestRef(id="r", published_at=NOW),
    )
    states = [requested_until(records, placed, (last, None)) for last in (None, 1, 0, -1)]
    assert [item.requests[0].state if item else None for item in states] == [
        "AsRecommended",
        "AsRecommended",
        "NotRunning",
        None,
    ]
    other = placed.model_copy(update={"uid": "u2"})
    assert requested_until(records, other, (None, None)) is None
